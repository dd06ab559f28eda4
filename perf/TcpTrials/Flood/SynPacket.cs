using System.Buffers.Binary;
using System.Net;

namespace TcpTrials.Flood;

/// <summary>An IPv4 packet with a SYN, each from another address and port. Nobody has these addresses.</summary>
internal static class SynPacket
{
    /// <summary>Where the SYNs seem to come from: the range for benchmarks (RFC 2544).</summary>
    public const string Sources = "198.18.0.0/15";

    public const int Length = IpLength + TcpLength;

    private const uint FirstSource = 0xc6120000;
    private const uint SourceMask = 0x0001ffff;
    private const int IpLength = 20;
    private const int TcpLength = 24;

    /// <param name="packet">At least <see cref="Length"/> bytes.</param>
    public static void Write(Span<byte> packet, IPEndPoint target, Random random)
    {
        packet = packet[..Length];
        packet.Clear();
        var ip = packet[..IpLength];
        ip[0] = 0x45;
        BinaryPrimitives.WriteUInt16BigEndian(ip[2..], Length);
        ip[8] = 64;
        ip[9] = 6;
        BinaryPrimitives.WriteUInt32BigEndian(ip[12..], FirstSource | ((uint)random.Next() & SourceMask));
        target.Address.TryWriteBytes(ip[16..], out _);
        BinaryPrimitives.WriteUInt16BigEndian(ip[10..], Fold(Sum(ip)));
        var tcp = packet[IpLength..];
        BinaryPrimitives.WriteUInt16BigEndian(tcp, (ushort)random.Next(1024, 65536));
        BinaryPrimitives.WriteUInt16BigEndian(tcp[2..], (ushort)target.Port);
        BinaryPrimitives.WriteInt32BigEndian(tcp[4..], random.Next());
        tcp[12] = TcpLength / 4 << 4;
        tcp[13] = 2; // SYN
        BinaryPrimitives.WriteUInt16BigEndian(tcp[14..], 65535);
        tcp[20] = 2; // MSS
        tcp[21] = 4;
        BinaryPrimitives.WriteUInt16BigEndian(tcp[22..], 1460);
        BinaryPrimitives.WriteUInt16BigEndian(tcp[16..], Fold(Sum(tcp) + Sum(ip[12..]) + 6 + TcpLength));
    }

    private static uint Sum(ReadOnlySpan<byte> bytes)
    {
        uint sum = 0;
        for (; bytes.Length > 1; bytes = bytes[2..])
            sum += BinaryPrimitives.ReadUInt16BigEndian(bytes);
        return sum;
    }

    private static ushort Fold(uint sum)
    {
        sum = (sum & 0xffff) + (sum >> 16);
        return (ushort)~((sum & 0xffff) + (sum >> 16));
    }
}

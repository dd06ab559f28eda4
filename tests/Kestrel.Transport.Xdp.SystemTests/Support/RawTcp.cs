using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;

namespace Kestrel.Transport.Xdp.SystemTests.Support;

/// <summary>A TCP client by hand over IPv6, whose packets have headers that no socket sends.</summary>
/// <param name="at">Where it sends from.</param>
/// <param name="source">Its address. Nobody there need have it.</param>
/// <param name="server">Whom it talks to.</param>
/// <param name="extensions">Destination options headers in front of each segment.</param>
internal sealed class RawTcp(Namespace at, IPEndPoint source, IPEndPoint server, int extensions)
{
    private const int IpLength = 40, ExtensionLength = 8, TcpLength = 20;
    private const byte Tcp = 6, DestinationOptions = 60;

    internal void Send(byte flags, uint sequence, uint acknowledged)
    {
        byte[] packet = Build(flags, sequence, acknowledged);
        at.Enter(() =>
        {
            using var socket = new Socket(AddressFamily.InterNetworkV6, SocketType.Raw, ProtocolType.Raw);
            return socket.SendTo(packet, new IPEndPoint(server.Address, 0));
        });
    }

    private byte[] Build(byte flags, uint sequence, uint acknowledged)
    {
        byte[] packet = new byte[IpLength + extensions * ExtensionLength + TcpLength];
        Span<byte> ip = packet;
        ip[0] = 0x60;
        BinaryPrimitives.WriteUInt16BigEndian(ip[4..], (ushort)(packet.Length - IpLength));
        ip[6] = extensions > 0 ? DestinationOptions : Tcp;
        ip[7] = 64;
        source.Address.TryWriteBytes(ip[8..], out _);
        server.Address.TryWriteBytes(ip[24..], out _);
        for (int i = 0; i < extensions; i++)
        {
            Span<byte> extension = ip[(IpLength + i * ExtensionLength)..];
            extension[0] = i == extensions - 1 ? Tcp : DestinationOptions;
            // One option that fills the rest: PadN, with four bytes.
            (extension[2], extension[3]) = (1, 4);
        }
        Span<byte> tcp = ip[^TcpLength..];
        BinaryPrimitives.WriteUInt16BigEndian(tcp, (ushort)source.Port);
        BinaryPrimitives.WriteUInt16BigEndian(tcp[2..], (ushort)server.Port);
        BinaryPrimitives.WriteUInt32BigEndian(tcp[4..], sequence);
        BinaryPrimitives.WriteUInt32BigEndian(tcp[8..], acknowledged);
        tcp[12] = TcpLength / 4 << 4;
        tcp[13] = flags;
        BinaryPrimitives.WriteUInt16BigEndian(tcp[14..], 65535);
        // The pseudo-header: addresses, length, protocol.
        uint sum = Sum(ip[8..IpLength]) + TcpLength + Tcp + Sum(tcp);
        while (sum >> 16 != 0)
            sum = (sum & 0xffff) + (sum >> 16);
        BinaryPrimitives.WriteUInt16BigEndian(tcp[16..], (ushort)~sum);
        return packet;
    }

    private static uint Sum(ReadOnlySpan<byte> bytes)
    {
        uint sum = 0;
        for (; bytes.Length > 1; bytes = bytes[2..])
            sum += BinaryPrimitives.ReadUInt16BigEndian(bytes);
        return sum;
    }
}

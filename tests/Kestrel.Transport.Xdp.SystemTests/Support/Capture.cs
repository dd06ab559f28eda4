using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using Shared;

namespace Kestrel.Transport.Xdp.SystemTests.Support;

/// <summary>What arrives in a namespace from one TCP port, as it was on the wire.</summary>
internal sealed class Capture : IDisposable
{
    // ETH_P_ALL, in network order as the kernel wants it.
    private static readonly ProtocolType s_everything = (ProtocolType)IPAddress.HostToNetworkOrder((short)3);

    private readonly Socket _socket;
    private readonly int _port;
    private readonly byte[] _buffer = new byte[65536];

    internal Capture(Namespace at, int port)
    {
        _port = port;
        // Packets begin with the IP header.
        _socket = at.Enter(() => new Socket(AddressFamily.Packet, SocketType.Dgram, s_everything));
    }

    /// <summary>The next segment from the port.</summary>
    internal async Task<Captured> NextAsync()
    {
        while (true)
        {
            int length = await _socket.ReceiveAsync(_buffer).WaitAsync(Command.Limit);
            if (Captured.TryParse(_buffer.AsSpan(0, length), out Captured? segment) && segment.SourcePort == _port)
                return segment;
        }
    }

    /// <summary>The next one that has all of these flags.</summary>
    internal async Task<Captured> NextAsync(byte flags)
    {
        while (true)
        {
            Captured segment = await NextAsync();
            if ((segment.Flags & flags) == flags)
                return segment;
        }
    }

    public void Dispose() => _socket.Dispose();
}

/// <summary>A TCP segment that was captured.</summary>
internal sealed record Captured
{
    internal const byte Fin = 1, Syn = 2, Rst = 4, Psh = 8, Ack = 16, Ece = 64, Cwr = 128;

    private const byte Tcp = 6;

    internal required bool IsIPv4 { get; init; }

    /// <summary>IPv4's time to live, IPv6's hop limit.</summary>
    internal required int Hops { get; init; }

    /// <summary>The two bits of the IP header.</summary>
    internal required int Ecn { get; init; }
    internal required int SourcePort { get; init; }
    internal required uint Sequence { get; init; }
    internal required uint Acknowledged { get; init; }
    internal required byte Flags { get; init; }

    internal required int PayloadLength { get; init; }

    /// <summary>The kinds of the TCP options, in their order, padding left out.</summary>
    internal required string Options { get; init; }

    internal static bool TryParse(
        ReadOnlySpan<byte> packet, [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out Captured? segment)
    {
        segment = null;
        if (packet.Length < 40)
            return false;
        bool isIPv4 = packet[0] >> 4 == 4;
        if ((isIPv4 ? packet[9] : packet[6]) != Tcp)
            return false;
        ReadOnlySpan<byte> tcp = packet[(isIPv4 ? (packet[0] & 15) * 4 : 40)..];
        int end = isIPv4
            ? BinaryPrimitives.ReadUInt16BigEndian(packet[2..])
            : 40 + BinaryPrimitives.ReadUInt16BigEndian(packet[4..]);
        segment = new Captured
        {
            IsIPv4 = isIPv4,
            Hops = isIPv4 ? packet[8] : packet[7],
            Ecn = (isIPv4 ? packet[1] : packet[1] >> 4) & 3,
            SourcePort = BinaryPrimitives.ReadUInt16BigEndian(tcp),
            Sequence = BinaryPrimitives.ReadUInt32BigEndian(tcp[4..]),
            Acknowledged = BinaryPrimitives.ReadUInt32BigEndian(tcp[8..]),
            Flags = tcp[13],
            PayloadLength = end - (packet.Length - tcp.Length) - (tcp[12] >> 4) * 4,
            Options = Kinds(tcp[20..((tcp[12] >> 4) * 4)]),
        };
        return true;
    }

    private static string Kinds(ReadOnlySpan<byte> options)
    {
        var kinds = new List<byte>();
        while (!options.IsEmpty)
        {
            // End of the list, and no operation, are one byte long.
            if (options[0] > 1)
                kinds.Add(options[0]);
            options = options[(options[0] > 1 ? options[1] : 1)..];
        }
        return string.Join(' ', kinds);
    }
}

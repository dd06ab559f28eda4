using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;

namespace Xdp.Sockets.Tests.Bpf;

[Flags]
internal enum TcpFlags : byte
{
    Fin = 1,
    Syn = 2,
    Rst = 4,
    Psh = 8,
    Ack = 16,
}

/// <summary>Frames for the steering program, which looks at no checksum.</summary>
internal static class Packet
{
    internal static readonly byte[] OurMac = [0x02, 0, 0, 0, 0, 0x01];
    private static readonly byte[] s_theirMac = [0x02, 0, 0, 0, 0, 0x02];

    internal static byte[] Ethernet(byte[] payload, bool ipv6, params int[] vlans)
    {
        var frame = new List<byte>([.. OurMac, .. s_theirMac]);
        for (int i = 0; i < vlans.Length; i++)
            frame.AddRange([.. Word(i == 0 && vlans.Length > 1 ? 0x88a8 : 0x8100), .. Word(vlans[i])]);
        return [.. frame, .. Word(ipv6 ? 0x86dd : 0x0800), .. payload];
    }

    /// <summary>An untagged frame with a TCP segment.</summary>
    internal static byte[] Tcp(IPEndPoint from, IPEndPoint to, TcpFlags flags, params int[] vlans)
    {
        byte[] segment = Segment(from.Port, to.Port, flags);
        bool ipv6 = to.AddressFamily == AddressFamily.InterNetworkV6;
        return Ethernet(
            ipv6 ? Ip6(from.Address, to.Address, 6, segment) : Ip4(from.Address, to.Address, 6, segment), ipv6, vlans);
    }

    internal static byte[] Segment(int from, int to, TcpFlags flags)
        => [.. Word(from), .. Word(to), 0, 0, 0, 1, 0, 0, 0, 1, 0x50, (byte)flags, .. Word(1000), 0, 0, 0, 0];

    internal static byte[] Ip4(
        IPAddress from, IPAddress to, byte protocol, byte[] payload, int fragment = 0, int options = 0)
        => [(byte)(0x45 + options / 4), 0, .. Word(20 + options + payload.Length), 0, 1, .. Word(fragment), 64,
            protocol, 0, 0,
            .. from.GetAddressBytes(), .. to.GetAddressBytes(), .. Enumerable.Repeat((byte)1, options), .. payload];

    internal static byte[] Ip6(IPAddress from, IPAddress to, byte next, byte[] payload)
        => [0x60, 0, 0, 0, .. Word(payload.Length), next, 64, .. from.GetAddressBytes(), .. to.GetAddressBytes(),
            .. payload];

    /// <summary>A hop-by-hop, routing or destination options header; length in bytes, a multiple of 8.</summary>
    internal static byte[] Extension(byte next, int length, byte[] payload)
        => [next, (byte)(length / 8 - 1), .. new byte[length - 2], .. payload];

    internal static byte[] Fragment(byte next, int offset, bool more, byte[] payload)
        => [next, 0, .. Word(offset | (more ? 1 : 0)), 0, 0, 0, 7, .. payload];

    /// <summary>"Fragmentation needed" or "packet too big", quoting the start of a segment.</summary>
    internal static byte[] TooBig(
        IPEndPoint local, IPEndPoint remote, IPAddress router, byte? type = null, byte? code = null)
    {
        byte[] quotedTcp = Segment(local.Port, remote.Port, TcpFlags.Ack)[..8];
        if (local.AddressFamily == AddressFamily.InterNetwork)
        {
            byte[] icmp =
                [type ?? 3, code ?? 4, 0, 0, 0, 0, .. Word(1400), .. Ip4(local.Address, remote.Address, 6, quotedTcp)];
            return Ethernet(Ip4(router, local.Address, 1, icmp), ipv6: false);
        }
        byte[] icmp6 =
            [type ?? 2, code ?? 0, 0, 0, 0, 0, .. Word(1400), .. Ip6(local.Address, remote.Address, 6, quotedTcp)];
        return Ethernet(Ip6(router, local.Address, 58, icmp6), ipv6: true);
    }

    private static byte[] Word(int value)
    {
        byte[] bytes = new byte[2];
        BinaryPrimitives.WriteUInt16BigEndian(bytes, (ushort)value);
        return bytes;
    }
}

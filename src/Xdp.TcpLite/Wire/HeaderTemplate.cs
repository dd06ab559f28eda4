using System.Buffers.Binary;
using System.Runtime.CompilerServices;

namespace Xdp.TcpLite;

/// <summary>
/// The Ethernet and IP headers of a flow's outgoing segments, filled in but for lengths, ECN, IP id and checksum, with the partial
/// checksums of what is constant.
/// </summary>
internal struct HeaderTemplate
{
    /// <summary>Ethernet with two VLAN tags, and IPv6.</summary>
    internal const int MaxLength = 62;

    internal const ushort EtherTypeIPv4 = 0x0800;
    internal const ushort EtherTypeIPv6 = 0x86dd;
    internal const int IPv4Length = 20;
    internal const int IPv6Length = 40;

    /// <summary>Hops a segment may take: Linux's default.</summary>
    internal const byte Ttl = 64;

    private Storage _bytes;

    /// <summary>Bytes before the TCP header.</summary>
    public int Length { get; private set; }

    public bool IsIPv6 { get; private set; }

    public ushort LocalPort { get; private set; }

    public ushort RemotePort { get; private set; }

    /// <summary>Partial sum of the TCP pseudo-header without its length.</summary>
    internal uint PseudoSum { get; private set; }

    /// <summary>Partial sum of the IPv4 header without ECN, total length and id.</summary>
    internal uint IPv4Sum { get; private set; }

    /// <summary>Bytes before the IP header.</summary>
    public readonly int LinkLength => Length - (IsIPv6 ? IPv6Length : IPv4Length);

    public static HeaderTemplate Create(in LinkPath path, in FlowKey flow)
    {
        HeaderTemplate template = default;
        bool isIPv6 = !flow.Local.IsIPv4;
        int link = path.HeaderLength;
        Span<byte> bytes = template._bytes;
        path.Write(bytes, isIPv6 ? EtherTypeIPv6 : EtherTypeIPv4);
        Span<byte> ip = bytes[link..];
        if (isIPv6)
        {
            ip[0] = 0x60;
            ip[6] = Checksum.ProtocolTcp;
            ip[7] = Ttl;
            flow.Local.WriteIPv6(ip[8..]);
            flow.Remote.WriteIPv6(ip[24..]);
        }
        else
        {
            ip[0] = 0x45;
            ip[6] = 0x40; // DF
            ip[8] = Ttl;
            ip[9] = Checksum.ProtocolTcp;
            BinaryPrimitives.WriteUInt32BigEndian(ip[12..], flow.Local.IPv4);
            BinaryPrimitives.WriteUInt32BigEndian(ip[16..], flow.Remote.IPv4);
            template.IPv4Sum = Checksum.Fold(Checksum.Sum(ip[..IPv4Length]));
        }
        template.Length = link + (isIPv6 ? IPv6Length : IPv4Length);
        template.IsIPv6 = isIPv6;
        template.LocalPort = flow.LocalPort;
        template.RemotePort = flow.RemotePort;
        template.PseudoSum = Checksum.Fold(Checksum.PseudoHeader(flow.Local, flow.Remote, Checksum.ProtocolTcp, 0));
        return template;
    }

    internal readonly void CopyTo(Span<byte> destination) => ((ReadOnlySpan<byte>)_bytes)[..Length].CopyTo(destination);

    [InlineArray(MaxLength)]
    private struct Storage
    {
        private byte _first;
    }
}

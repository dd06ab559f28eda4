using System.Buffers.Binary;

namespace Xdp.TcpLite;

/// <summary>
/// The checked Ethernet and IP headers of a received frame (RFC 791, RFC 8200), whatever they carry. Bytes behind the
/// IP packet are padding and never payload.
/// </summary>
internal struct IpHeader
{
    /// <summary>
    /// The most IPv6 extension headers before TCP. A packet with more is made to waste our time. bpf/xdp_steer.bpf.c
    /// sees as many.
    /// </summary>
    private const int MaxExtensionHeaders = 6;

    internal const ushort EtherTypeIPv4 = 0x0800;
    internal const ushort EtherTypeIPv6 = 0x86dd;

    /// <summary>Bytes of an IPv4 header without options.</summary>
    internal const int IPv4Length = 20;
    internal const int IPv6Length = 40;

    private const ushort EtherTypeVlan = 0x8100;
    private const ushort EtherTypeServiceVlan = 0x88a8;
    private const ulong MulticastMac = 1UL << 40;

    private const byte HopByHop = 0;
    private const byte Routing = 43;
    private const byte FragmentHeader = 44;
    private const byte DestinationOptions = 60;

    public LinkPath Path;
    public IpAddr Source;
    public IpAddr Destination;

    /// <summary>What follows the IP header and its extension headers.</summary>
    public byte Protocol;
    public byte Ecn;
    public byte Ttl;
    public bool IsFragment;
    public int PayloadStart;
    public int PayloadLength;

    private int _further;

    /// <param name="frame">The packet, or the first part of it, which has the headers.</param>
    /// <param name="link">What the packet begins with.</param>
    /// <param name="header">Undefined unless the answer is <see cref="DropReason.None"/>.</param>
    /// <param name="further">Bytes of the packet that lie elsewhere. The header counts them as payload.</param>
    public static DropReason Parse(ReadOnlySpan<byte> frame, LinkType link, out IpHeader header, int further = 0)
    {
        header = default;
        header._further = further;
        return link == LinkType.Ethernet ? ParseEthernet(frame, ref header) : ParseIp(frame, ref header);
    }

    private static DropReason ParseIp(ReadOnlySpan<byte> packet, ref IpHeader header)
    {
        if (packet.IsEmpty)
            return DropReason.TooShort;
        header.Path = LinkPath.IpOnly;
        return (packet[0] >> 4) switch
        {
            4 => ParseIPv4(packet, 0, ref header),
            6 => ParseIPv6(packet, 0, ref header),
            _ => DropReason.NotIp,
        };
    }

    private static DropReason ParseEthernet(ReadOnlySpan<byte> frame, ref IpHeader header)
    {
        if (frame.Length < LinkPath.EthernetLength)
            return DropReason.TooShort;
        ulong local = LinkPath.ReadMac(frame);
        ulong remote = LinkPath.ReadMac(frame[6..]);
        ushort etherType = BinaryPrimitives.ReadUInt16BigEndian(frame[12..]);
        int offset = LinkPath.EthernetLength;
        int tagCount = 0;
        uint outerTag = 0, innerTag = 0;
        while (etherType is EtherTypeVlan or EtherTypeServiceVlan && tagCount < 2)
        {
            if (frame.Length < offset + LinkPath.TagLength)
                return DropReason.TooShort;
            uint tag = BinaryPrimitives.ReadUInt32BigEndian(frame[(offset - 2)..]);
            if (tagCount++ == 0)
                outerTag = tag;
            else
                innerTag = tag;
            etherType = BinaryPrimitives.ReadUInt16BigEndian(frame[(offset + 2)..]);
            offset += LinkPath.TagLength;
        }
        header.Path = new LinkPath(local, remote, tagCount, outerTag, innerTag);
        DropReason reason = etherType switch
        {
            EtherTypeIPv4 => ParseIPv4(frame, offset, ref header),
            EtherTypeIPv6 => ParseIPv6(frame, offset, ref header),
            _ => DropReason.NotIp,
        };
        if (reason != DropReason.None)
            return reason;
        if ((local & MulticastMac) != 0)
            return DropReason.BadDestinationAddress;
        // A group address as the sender's: a reply would go to many.
        return (remote & MulticastMac) != 0 ? DropReason.BadSourceAddress : DropReason.None;
    }

    /// <summary>Could these be the addresses of a segment from a peer to this host?</summary>
    public readonly DropReason CheckAddresses()
    {
        if (Source == Destination)
            return DropReason.BadSourceAddress;
        if (Source.IsIPv4)
        {
            if (!IsUnicast(Source.IPv4))
                return DropReason.BadSourceAddress;
            return IsUnicast(Destination.IPv4) ? DropReason.None : DropReason.BadDestinationAddress;
        }
        if (!IsUnicast(Source))
            return DropReason.BadSourceAddress;
        return IsUnicast(Destination) ? DropReason.None : DropReason.BadDestinationAddress;
    }

    private static bool IsUnicast(uint address) =>
        address >> 24 is not (0 or 127) && address >> 28 != 0xe && address != uint.MaxValue;

    // :: and ::1 leave the upper 127 bits zero.
    private static bool IsUnicast(in IpAddr address) =>
        address.High >> 56 != 0xff && (address.High != 0 || address.Low > 1);

    private static DropReason ParseIPv4(ReadOnlySpan<byte> frame, int offset, ref IpHeader header)
    {
        ReadOnlySpan<byte> ip = frame[offset..];
        if (ip.Length < IPv4Length)
            return DropReason.TooShort;
        int headerLength = (ip[0] & 0xf) * 4;
        if (ip[0] >> 4 != 4 || headerLength < IPv4Length)
            return DropReason.BadIpHeader;
        if (ip.Length < headerLength)
            return DropReason.TooShort;
        int totalLength = BinaryPrimitives.ReadUInt16BigEndian(ip[2..]);
        if (totalLength < headerLength || totalLength > ip.Length + header._further)
            return DropReason.BadIpLength;
        if (Checksum.Fold(Checksum.Sum(ip[..headerLength])) != 0xffff)
            return DropReason.BadIpChecksum;
        header.Source = IpAddr.FromIPv4(BinaryPrimitives.ReadUInt32BigEndian(ip[12..]));
        header.Destination = IpAddr.FromIPv4(BinaryPrimitives.ReadUInt32BigEndian(ip[16..]));
        header.Protocol = ip[9];
        header.Ecn = (byte)(ip[1] & 3);
        header.Ttl = ip[8];
        header.IsFragment = (BinaryPrimitives.ReadUInt16BigEndian(ip[6..]) & 0x3fff) != 0; // MF, offset
        header.PayloadStart = offset + headerLength;
        header.PayloadLength = totalLength - headerLength;
        return DropReason.None;
    }

    private static DropReason ParseIPv6(ReadOnlySpan<byte> frame, int offset, ref IpHeader header)
    {
        ReadOnlySpan<byte> ip = frame[offset..];
        if (ip.Length < IPv6Length)
            return DropReason.TooShort;
        if (ip[0] >> 4 != 6)
            return DropReason.BadIpHeader;
        int payloadLength = BinaryPrimitives.ReadUInt16BigEndian(ip[4..]);
        if (payloadLength == 0 || payloadLength > ip.Length - IPv6Length + header._further)
            return DropReason.BadIpLength;
        header.Source = IpAddr.FromIPv6(ip[8..]);
        header.Destination = IpAddr.FromIPv6(ip[24..]);

        // IpAddr holds IPv4 addresses as IPv4-mapped ones. In an IPv6 packet, one would be taken for an IPv4 flow.
        if (header.Source.IsIPv4)
            return DropReason.BadSourceAddress;
        if (header.Destination.IsIPv4)
            return DropReason.BadDestinationAddress;
        header.Ecn = (byte)(ip[1] >> 4 & 3);
        header.Ttl = ip[7];

        ReadOnlySpan<byte> whole = ip.Slice(IPv6Length, Math.Min(payloadLength, ip.Length - IPv6Length));
        ReadOnlySpan<byte> rest = whole;
        DropReason reason = SkipExtensionHeaders(ref rest, ip[6], ref header);
        int skipped = whole.Length - rest.Length;
        header.PayloadStart = offset + IPv6Length + skipped;
        header.PayloadLength = payloadLength - skipped;
        return reason;
    }

    private static DropReason SkipExtensionHeaders(ref ReadOnlySpan<byte> rest, byte next, ref IpHeader header)
    {
        for (int count = 0; next is HopByHop or Routing or FragmentHeader or DestinationOptions; count++)
        {
            if (count == MaxExtensionHeaders || (next == HopByHop && count > 0))
                return DropReason.BadIpHeader;
            if (rest.Length < 8)
                return DropReason.BadIpLength;
            bool isFragmentHeader = next == FragmentHeader;
            if (isFragmentHeader && IsPartOfAPacket(rest))
            {
                header.IsFragment = true;
                next = rest[0];
                break;
            }
            int length = isFragmentHeader ? 8 : (rest[1] + 1) * 8;
            if (length > rest.Length)
                return DropReason.BadIpLength;
            bool passable = isFragmentHeader
                || (next == Routing ? rest[3] == 0 : OptionsMayBeSkipped(rest[2..length]));
            if (!passable)
                return DropReason.BadIpHeader;
            next = rest[0];
            rest = rest[length..];
        }
        header.Protocol = next;
        return DropReason.None;
    }

    // Offset 0 without the M flag is a whole packet: an atomic fragment (RFC 6946).
    private static bool IsPartOfAPacket(ReadOnlySpan<byte> fragmentHeader) =>
        (BinaryPrimitives.ReadUInt16BigEndian(fragmentHeader[2..]) & 0xfff9) != 0;

    /// <summary>
    /// The top two bits of an option say whether a node that does not know it must discard the packet (RFC 8200,
    /// section 4.2). None is known here.
    /// </summary>
    private static bool OptionsMayBeSkipped(ReadOnlySpan<byte> options)
    {
        while (!options.IsEmpty)
        {
            int length = options[0] == 0 ? 1 : options.Length > 1 ? options[1] + 2 : int.MaxValue;
            if (length > options.Length || options[0] >> 6 != 0)
                return false;
            options = options[length..];
        }
        return true;
    }
}

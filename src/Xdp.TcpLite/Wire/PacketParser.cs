using System.Buffers.Binary;
using System.Runtime.CompilerServices;

namespace Xdp.TcpLite;

/// <summary>
/// Makes a checked <see cref="Packet"/> of a received frame, or says why not. What later stages rely on is checked
/// here, once. No input makes it throw.
/// </summary>
internal static class PacketParser
{
    private const byte KindEnd = 0;
    private const byte KindNop = 1;
    private const byte KindMss = 2;
    private const byte KindWindowScale = 3;
    private const byte KindSackPermitted = 4;
    private const byte KindSack = 5;
    private const byte KindTimestamps = 8;

    /// <summary>NOP, NOP, timestamps. Most segments have these options and no others.</summary>
    private const uint NopNopTimestamps = 0x0101080a;

    /// <summary>Larger shifts count as this one (RFC 7323, section 2.3).</summary>
    private const byte MaxWindowScale = 14;

    private const byte IcmpUnreachable = 3;
    private const byte IcmpFragmentationNeeded = 4;
    private const byte IcmpLastUnreachable = 15;
    private const byte IcmpTimeExceeded = 11;
    private const byte IcmpParameterProblem = 12;

    private const byte IcmpV6Unreachable = 1;
    private const byte IcmpV6TooBig = 2;
    private const byte IcmpV6TimeExceeded = 3;
    private const byte IcmpV6ParameterProblem = 4;

    /// <param name="frame">A packet, padding included, FCS not.</param>
    /// <param name="acceptPartialChecksum">See <see cref="TcpStackOptions.AcceptPartialChecksum"/>.</param>
    /// <param name="packet">The segment; undefined unless the answer is <see cref="DropReason.None"/>.</param>
    /// <param name="link">What the packet begins with.</param>
    /// <param name="further">
    /// Where the packet goes on behind <paramref name="frame"/>, which has all of its headers. Its payload counts as
    /// the segment's.
    /// </param>
    // In a larger method the compiler would give up, and call what should be inlined here.
    [MethodImpl(MethodImplOptions.NoInlining)]
    public static DropReason Parse(
        ReadOnlySpan<byte> frame, bool acceptPartialChecksum, out Packet packet, LinkType link = LinkType.Ethernet,
        in BlockQueue further = default)
    {
        packet = default;
        DropReason reason = IpHeader.Parse(frame, link, out IpHeader ip, (int)further.Bytes);
        if (reason != DropReason.None)
            return reason;
        if (ip.Protocol != Checksum.ProtocolTcp)
            return DropReason.NotTcp;
        if (ip.IsFragment)
            return DropReason.Fragment;

        ReadOnlySpan<byte> tcp =
            frame.Slice(ip.PayloadStart, Math.Min(ip.PayloadLength, frame.Length - ip.PayloadStart));
        if (tcp.Length < SegmentWriter.TcpHeaderLength)
            return DropReason.BadTcpHeader;
        int headerLength = (tcp[12] >> 4) * 4;
        if (headerLength < SegmentWriter.TcpHeaderLength || headerLength > tcp.Length)
            return DropReason.BadTcpHeader;
        ushort remotePort = BinaryPrimitives.ReadUInt16BigEndian(tcp);
        ushort localPort = BinaryPrimitives.ReadUInt16BigEndian(tcp[2..]);
        if (remotePort == localPort && ip.Source == ip.Destination)
            return DropReason.Land;
        reason = ip.CheckAddresses();
        if (reason != DropReason.None)
            return reason;
        if (remotePort == 0 || localPort == 0)
            return DropReason.PortZero;
        if (!ChecksumHolds(tcp, further, ip, acceptPartialChecksum))
            return DropReason.BadTcpChecksum;

        packet.Flow = new FlowKey(ip.Destination, ip.Source, localPort, remotePort);
        packet.Path = ip.Path;
        packet.Seq = ReadSeq(tcp[4..]);
        packet.Ack = ReadSeq(tcp[8..]);
        packet.Flags = (TcpFlags)tcp[13];
        packet.Window = BinaryPrimitives.ReadUInt16BigEndian(tcp[14..]);
        packet.PayloadStart = ip.PayloadStart + headerLength;
        packet.PayloadLength = ip.PayloadLength - headerLength;
        packet.Ecn = ip.Ecn;
        packet.Ttl = ip.Ttl;
        ParseOptions(tcp[SegmentWriter.TcpHeaderLength..headerLength], ref packet);
        return DropReason.None;
    }

    private static bool ChecksumHolds(
        ReadOnlySpan<byte> tcp, in BlockQueue further, in IpHeader ip, bool acceptPartialChecksum)
    {
        ulong pseudo = Checksum.PseudoHeader(ip.Source, ip.Destination, Checksum.ProtocolTcp, ip.PayloadLength);
        if (acceptPartialChecksum && BinaryPrimitives.ReadUInt16BigEndian(tcp[16..]) == Checksum.Fold(pseudo))
            return true;
        ulong sum = Checksum.Sum(tcp, pseudo);
        if (tcp.Length < ip.PayloadLength)
            sum = SumFurther(sum, tcp.Length, further, ip.PayloadLength);
        return Checksum.Fold(sum) == 0xffff;
    }

    /// <param name="sum">Of the bytes so far.</param>
    /// <param name="position">How many these are.</param>
    /// <param name="further">Where they go on. What is behind the segment's end is padding.</param>
    /// <param name="length">Of the segment.</param>
    private static ulong SumFurther(ulong sum, int position, in BlockQueue further, int length)
    {
        for (Block? block = further.Head; block is not null && position < length; block = block.Next)
        {
            int count = Math.Min(block.Length, length - position);
            ulong part = Checksum.Fold(Checksum.Sum(block.Bytes[..count]));
            // A part that begins with the lower half of a word has all its bytes in the other half.
            sum += (position & 1) == 0 ? part : BinaryPrimitives.ReverseEndianness((ushort)part);
            position += count;
        }
        return sum;
    }

    /// <summary>
    /// Bad options do not make a segment bad. As in Linux, an option that has no length, a length below two, or one
    /// past the end, ends the options. One whose length does not fit its kind is skipped. Of duplicates the last
    /// counts. MSS, window scale and SACK-permitted count on a SYN only.
    /// </summary>
    private static void ParseOptions(ReadOnlySpan<byte> options, ref Packet packet)
    {
        if (options.Length == 12 && BinaryPrimitives.ReadUInt32BigEndian(options) == NopNopTimestamps)
        {
            ParseTimestamps(options[4..], ref packet);
            return;
        }
        while (!options.IsEmpty)
        {
            byte kind = options[0];
            if (kind == KindEnd)
                return;
            if (kind == KindNop)
            {
                options = options[1..];
                continue;
            }
            if (options.Length < 2)
                return;
            int length = options[1];
            if (length < 2 || length > options.Length)
                return;
            ParseOption(kind, options[2..length], ref packet);
            options = options[length..];
        }
    }

    private static void ParseOption(byte kind, ReadOnlySpan<byte> value, ref Packet packet)
    {
        bool isSyn = packet.IsSyn;
        switch (kind)
        {
            case KindMss when value.Length == 2 && isSyn:
                packet.Mss = BinaryPrimitives.ReadUInt16BigEndian(value);
                break;
            case KindWindowScale when value.Length == 1 && isSyn:
                packet.HasWindowScale = true;
                packet.WindowScale = Math.Min(value[0], MaxWindowScale);
                break;
            case KindSackPermitted when value.Length == 0 && isSyn:
                packet.SackPermitted = true;
                break;
            case KindTimestamps when value.Length == 8:
                ParseTimestamps(value, ref packet);
                break;
            case KindSack when value.Length >= 8 && value.Length % 8 == 0:
                packet.Sack.Clear();
                for (; !value.IsEmpty; value = value[8..])
                    packet.Sack.Add(ReadSeq(value), ReadSeq(value[4..]));
                break;
        }
    }

    private static SeqNumber ReadSeq(ReadOnlySpan<byte> value) => new(BinaryPrimitives.ReadUInt32BigEndian(value));

    private static void ParseTimestamps(ReadOnlySpan<byte> value, ref Packet packet)
    {
        packet.HasTimestamps = true;
        packet.TsVal = BinaryPrimitives.ReadUInt32BigEndian(value);
        packet.TsEcr = BinaryPrimitives.ReadUInt32BigEndian(value[4..]);
    }

    /// <summary>
    /// For a frame that <see cref="Parse"/> called <see cref="DropReason.NotTcp"/>: an ICMP error that quotes a TCP
    /// segment of this host. The caller checks whether that segment is in flight.
    /// </summary>
    public static DropReason ParseIcmp(
        ReadOnlySpan<byte> frame, out IcmpError error, LinkType link = LinkType.Ethernet)
    {
        error = default;
        DropReason reason = IpHeader.Parse(frame, link, out IpHeader ip);
        if (reason != DropReason.None)
            return reason;
        bool isIPv4 = ip.Source.IsIPv4;
        if (ip.Protocol != (isIPv4 ? Checksum.ProtocolIcmp : Checksum.ProtocolIcmpV6))
            return DropReason.NotTcp;
        if (ip.IsFragment)
            return DropReason.Fragment;
        reason = ip.CheckAddresses();
        if (reason != DropReason.None)
            return reason;

        ReadOnlySpan<byte> icmp = frame.Slice(ip.PayloadStart, ip.PayloadLength);
        if (icmp.Length < 8)
            return DropReason.BadIcmp;
        ulong pseudo = isIPv4
            ? 0
            : Checksum.PseudoHeader(ip.Source, ip.Destination, Checksum.ProtocolIcmpV6, icmp.Length);
        if (Checksum.Fold(Checksum.Sum(icmp, pseudo)) != 0xffff)
            return DropReason.BadIcmp;
        if (!(isIPv4 ? TryReadReason(icmp, out int? mtu) : TryReadReasonV6(icmp, out mtu)))
            return DropReason.BadIcmp;
        return ParseQuote(icmp[8..], isIPv4, ip.Destination, mtu, out error);
    }

    private static bool TryReadReason(ReadOnlySpan<byte> icmp, out int? mtu)
    {
        (byte type, byte code) = (icmp[0], icmp[1]);
        bool isTooBig = type == IcmpUnreachable && code == IcmpFragmentationNeeded;
        mtu = isTooBig ? BinaryPrimitives.ReadUInt16BigEndian(icmp[6..]) : null;
        return type is IcmpTimeExceeded or IcmpParameterProblem
            || (type == IcmpUnreachable && code <= IcmpLastUnreachable);
    }

    private static bool TryReadReasonV6(ReadOnlySpan<byte> icmp, out int? mtu)
    {
        byte type = icmp[0];
        mtu = type == IcmpV6TooBig
            ? (int)Math.Min(BinaryPrimitives.ReadUInt32BigEndian(icmp[4..]), int.MaxValue)
            : null;
        return type is IcmpV6Unreachable or IcmpV6TooBig or IcmpV6TimeExceeded or IcmpV6ParameterProblem;
    }

    /// <summary>
    /// A router quotes as much as it likes of the segment, but at least 8 bytes of TCP. The quote has no extension
    /// headers, since this host sends none.
    /// </summary>
    private static DropReason ParseQuote(
        ReadOnlySpan<byte> quote, bool isIPv4, in IpAddr local, int? mtu, out IcmpError error)
    {
        error = default;
        if (quote.Length < (isIPv4 ? IpHeader.IPv4Length : IpHeader.IPv6Length) + 8)
            return DropReason.BadIcmp;
        int headerLength = IpHeader.IPv6Length;
        IpAddr source, destination;
        if (isIPv4)
        {
            headerLength = (quote[0] & 0xf) * 4;
            bool isFragment = (BinaryPrimitives.ReadUInt16BigEndian(quote[6..]) & 0x1fff) != 0;
            if (quote[0] >> 4 != 4 || headerLength < IpHeader.IPv4Length || quote.Length < headerLength + 8)
                return DropReason.BadIcmp;
            if (isFragment || quote[9] != Checksum.ProtocolTcp)
                return DropReason.BadIcmp;
            source = IpAddr.FromIPv4(BinaryPrimitives.ReadUInt32BigEndian(quote[12..]));
            destination = IpAddr.FromIPv4(BinaryPrimitives.ReadUInt32BigEndian(quote[16..]));
        }
        else
        {
            source = IpAddr.FromIPv6(quote[8..]);
            destination = IpAddr.FromIPv6(quote[24..]);
            if (quote[0] >> 4 != 6 || quote[6] != Checksum.ProtocolTcp || destination.IsIPv4)
                return DropReason.BadIcmp;
        }
        if (source != local)
            return DropReason.BadIcmp;
        ReadOnlySpan<byte> tcp = quote[headerLength..];
        ushort localPort = BinaryPrimitives.ReadUInt16BigEndian(tcp);
        ushort remotePort = BinaryPrimitives.ReadUInt16BigEndian(tcp[2..]);
        error = new IcmpError(new FlowKey(source, destination, localPort, remotePort), ReadSeq(tcp[4..]), mtu);
        return DropReason.None;
    }
}

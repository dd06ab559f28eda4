using System.Buffers.Binary;
using System.Runtime.CompilerServices;

namespace Xdp.TcpLite;

/// <summary>What differs from one segment of a flow to the next.</summary>
internal struct SegmentFields
{
    public SeqNumber Seq;
    public SeqNumber Ack;
    public TcpFlags Flags;

    /// <summary>The window field, scaled already.</summary>
    public ushort Window;

    /// <summary>The two ECN bits of the IP header.</summary>
    public byte Ecn;

    /// <summary>IPv4 only.</summary>
    public ushort IpId;

    /// <summary>Routers may fragment it. IPv4 only.</summary>
    public bool MayFragment;

    /// <summary>0 writes no MSS option.</summary>
    public ushort Mss;
    public bool HasWindowScale;
    public byte WindowScale;
    public bool SackPermitted;
    public bool HasTimestamps;
    public uint TsVal;
    public uint TsEcr;

    /// <summary>As many as fit behind the other options are written, from the first.</summary>
    public SackBlocks Sack;
}

/// <summary>
/// Writes Ethernet, IP and TCP headers in front of a payload (RFC 9293, section 3.1), with the options in Linux's
/// order.
/// </summary>
internal static class SegmentWriter
{
    internal const int TcpHeaderLength = 20;

    /// <summary>Bytes of options that a TCP header has room for.</summary>
    internal const int MaxOptionsLength = 40;

    /// <summary>Bytes of the timestamps option and of the two NOPs that align it.</summary>
    internal const int TimestampsLength = 12;

    /// <summary>
    /// Bytes of headers before a payload, at most: Ethernet with two tags, IPv6, TCP with all its options.
    /// </summary>
    internal const int MaxHeaderLength =
        LinkPath.MaxHeaderLength + IpHeader.IPv6Length + TcpHeaderLength + MaxOptionsLength;

    private const ushort DontFragment = 0x4000;

    private const byte KindNop = 1;
    private const byte KindMss = 2;
    private const byte KindWindowScale = 3;
    private const byte KindSackPermitted = 4;
    private const byte KindSack = 5;
    private const byte KindTimestamps = 8;
    private const uint NopNopTimestamps = KindNop << 24 | KindNop << 16 | KindTimestamps << 8 | 10;

    /// <summary>
    /// Writes the headers so that they end at <paramref name="payloadStart"/>, where <paramref name="payloadLength"/>
    /// bytes of payload stand already. There must be room for them: <see cref="MaxHeaderLength"/> bytes are always
    /// enough.
    /// </summary>
    /// <param name="frame">Where it is written.</param>
    /// <param name="payloadStart">Offset of the payload.</param>
    /// <param name="payloadLength">Bytes of payload.</param>
    /// <param name="path">The way to the peer.</param>
    /// <param name="flow">The 4-tuple.</param>
    /// <param name="fields">The rest of the headers.</param>
    /// <param name="hops">That the packet may take.</param>
    /// <returns>Where the packet starts. It ends with the payload.</returns>
    // In a larger method the compiler would give up, and call what should be inlined here.
    [MethodImpl(MethodImplOptions.NoInlining)]
    public static int Write(
        Span<byte> frame,
        int payloadStart,
        int payloadLength,
        in LinkPath path,
        in FlowKey flow,
        in SegmentFields fields,
        byte hops = 64)
    {
        bool isIPv4 = flow.Local.IsIPv4;
        int tcpLength = TcpHeaderLength + OptionsLength(fields);
        int tcpStart = payloadStart - tcpLength;
        int ipStart = tcpStart - (isIPv4 ? IpHeader.IPv4Length : IpHeader.IPv6Length);
        int start = ipStart - path.HeaderLength;
        Span<byte> tcp = frame.Slice(tcpStart, tcpLength + payloadLength);
        path.Write(frame[start..], isIPv4 ? IpHeader.EtherTypeIPv4 : IpHeader.EtherTypeIPv6);
        if (isIPv4)
            WriteIPv4(frame[ipStart..], IpHeader.IPv4Length + tcp.Length, flow, fields, hops);
        else
            WriteIPv6(frame[ipStart..], tcp.Length, flow, fields, hops);

        BinaryPrimitives.WriteUInt16BigEndian(tcp, flow.LocalPort);
        BinaryPrimitives.WriteUInt16BigEndian(tcp[2..], flow.RemotePort);
        BinaryPrimitives.WriteUInt32BigEndian(tcp[4..], fields.Seq.Value);
        BinaryPrimitives.WriteUInt32BigEndian(tcp[8..], fields.Ack.Value);
        tcp[12] = (byte)(tcpLength << 2);
        tcp[13] = (byte)fields.Flags;
        BinaryPrimitives.WriteUInt16BigEndian(tcp[14..], fields.Window);
        BinaryPrimitives.WriteUInt32BigEndian(tcp[16..], 0); // checksum, urgent pointer
        WriteOptions(tcp[TcpHeaderLength..tcpLength], fields);
        ulong sum = Checksum.Sum(tcp, Checksum.PseudoHeader(flow.Local, flow.Remote, Checksum.ProtocolTcp, tcp.Length));
        BinaryPrimitives.WriteUInt16BigEndian(tcp[16..], (ushort)~Checksum.Fold(sum));
        return start;
    }

    /// <summary>Bytes that the options of the segment take, padding included.</summary>
    public static int OptionsLength(in SegmentFields fields)
    {
        int length = FixedOptionsLength(fields);
        int blocks = SackBlocksThatFit(fields, length);
        return blocks == 0 ? length : length + 4 + blocks * 8;
    }

    private static int FixedOptionsLength(in SegmentFields fields)
    {
        int length = 0;
        if (fields.Mss != 0)
            length += 4;
        if (fields.HasTimestamps)
            length += 12;
        else if (fields.SackPermitted)
            length += 4;
        if (fields.HasWindowScale)
            length += 4;
        return length;
    }

    private static int SackBlocksThatFit(in SegmentFields fields, int fixedLength) =>
        Math.Min(fields.Sack.Count, (MaxOptionsLength - 4 - fixedLength) / 8);

    private static void WriteOptions(Span<byte> options, in SegmentFields fields)
    {
        if (fields.Mss != 0)
        {
            BinaryPrimitives.WriteUInt32BigEndian(options, (uint)(KindMss << 24 | 4 << 16) | fields.Mss);
            options = options[4..];
        }
        if (fields.HasTimestamps)
        {
            BinaryPrimitives.WriteUInt32BigEndian(options, fields.SackPermitted
                ? KindSackPermitted << 24 | 2 << 16 | KindTimestamps << 8 | 10
                : NopNopTimestamps);
            BinaryPrimitives.WriteUInt32BigEndian(options[4..], fields.TsVal);
            BinaryPrimitives.WriteUInt32BigEndian(options[8..], fields.TsEcr);
            options = options[12..];
        }
        else if (fields.SackPermitted)
        {
            BinaryPrimitives.WriteUInt32BigEndian(options, KindNop << 24 | KindNop << 16 | KindSackPermitted << 8 | 2);
            options = options[4..];
        }
        if (fields.HasWindowScale)
        {
            BinaryPrimitives.WriteUInt32BigEndian(
                options, (uint)(KindNop << 24 | KindWindowScale << 16 | 3 << 8) | fields.WindowScale);
            options = options[4..];
        }
        if (options.IsEmpty)
            return;

        int blocks = (options.Length - 4) / 8;
        BinaryPrimitives.WriteUInt32BigEndian(
            options, (uint)(KindNop << 24 | KindNop << 16 | KindSack << 8) | (uint)(2 + blocks * 8));
        for (int i = 0; i < blocks; i++)
        {
            (SeqNumber left, SeqNumber right) = fields.Sack[i];
            BinaryPrimitives.WriteUInt32BigEndian(options[(4 + i * 8)..], left.Value);
            BinaryPrimitives.WriteUInt32BigEndian(options[(8 + i * 8)..], right.Value);
        }
    }

    private static void WriteIPv4(
        Span<byte> ip, int totalLength, in FlowKey flow, in SegmentFields fields, byte hops)
    {
        // The header as words, with a checksum of zero. The checksum is computed from them.
        ulong first = 0x45UL << 56 | (ulong)fields.Ecn << 48 | (ulong)totalLength << 32
            | (uint)fields.IpId << 16 | (fields.MayFragment ? 0u : DontFragment);
        ulong second = (ulong)hops << 56 | (ulong)Checksum.ProtocolTcp << 48 | flow.Local.IPv4;
        uint third = flow.Remote.IPv4;
        ushort checksum = (ushort)~Checksum.Fold((first >> 32) + (uint)first + (second >> 32) + (uint)second + third);
        BinaryPrimitives.WriteUInt64BigEndian(ip, first);
        BinaryPrimitives.WriteUInt64BigEndian(ip[8..], second | (ulong)checksum << 32);
        BinaryPrimitives.WriteUInt32BigEndian(ip[16..], third);
    }

    private static void WriteIPv6(
        Span<byte> ip, int payloadLength, in FlowKey flow, in SegmentFields fields, byte hops)
    {
        ulong first =
            6UL << 60 | (ulong)fields.Ecn << 52 | (uint)payloadLength << 16 | Checksum.ProtocolTcp << 8 | hops;
        BinaryPrimitives.WriteUInt64BigEndian(ip, first);
        flow.Local.WriteIPv6(ip[8..]);
        flow.Remote.WriteIPv6(ip[24..]);
    }
}

namespace Xdp.TcpLite;

/// <summary>
/// A received TCP segment that has been checked: every field may be used as it is. Flow and path are seen from this
/// host.
/// </summary>
internal struct Packet
{
    public FlowKey Flow;
    public LinkPath Path;
    public SeqNumber Seq;
    public SeqNumber Ack;
    public TcpFlags Flags;

    /// <summary>The window field, not scaled.</summary>
    public ushort Window;

    /// <summary>Where the payload starts, counted from the start of the frame that was parsed.</summary>
    public int PayloadStart;
    public int PayloadLength;

    /// <summary>The two ECN bits of the IP header.</summary>
    public byte Ecn;
    public byte Ttl;

    public bool HasTimestamps;
    public uint TsVal;
    public uint TsEcr;

    /// <summary>The MSS option of a SYN as it came; 0 when there was none.</summary>
    public ushort Mss;

    /// <summary>Set on a SYN only, as are <see cref="WindowScale"/> and <see cref="SackPermitted"/>.</summary>
    public bool HasWindowScale;

    /// <summary>At most 14 (RFC 7323, section 2.3).</summary>
    public byte WindowScale;
    public bool SackPermitted;
    public SackBlocks Sack;

    public readonly bool Has(TcpFlags flag) => (Flags & flag) != 0;

    public readonly bool IsSyn => (Flags & TcpFlags.Syn) != 0;
    public readonly bool IsFin => (Flags & TcpFlags.Fin) != 0;
    public readonly bool IsRst => (Flags & TcpFlags.Rst) != 0;
    public readonly bool IsAck => (Flags & TcpFlags.Ack) != 0;

    /// <summary>SEG.LEN: payload, SYN and FIN.</summary>
    public readonly int SegmentLength => PayloadLength + ((int)Flags & 1) + ((int)Flags >> 1 & 1);

    /// <summary>The first sequence number behind the segment.</summary>
    public readonly SeqNumber End => Seq + SegmentLength;

    /// <summary>What follows the SYN, as if it had come alone.</summary>
    public readonly Packet WithoutSyn() => this with { Seq = Seq + 1, Flags = Flags & ~TcpFlags.Syn };

    /// <summary>
    /// Is the first SACK block a D-SACK, which reports what came twice? It is when it lies below the ACK, or within the
    /// second block (RFC 2883, section 4).
    /// </summary>
    public readonly bool TryGetDuplicateReport(out SeqNumber left, out SeqNumber right)
    {
        (left, right) = Sack.Count > 0 ? Sack[0] : default;
        return Sack.Count > 0
            && (right <= Ack || (Sack.Count > 1 && left >= Sack[1].Left && right <= Sack[1].Right));
    }
}

/// <summary>The news that a segment of ours was not delivered (RFC 792, RFC 4443).</summary>
/// <param name="Flow">The flow of the quoted segment, seen from this host.</param>
/// <param name="Seq">The quoted segment's sequence number. It must be in flight (RFC 5927).</param>
/// <param name="Mtu">
/// It was too big for the path (RFC 1191, RFC 8201): the largest IP packet that fits, as given; 0 from an IPv4 router
/// that does not say. Null when it was not delivered for another reason.
/// </param>
internal readonly record struct IcmpError(FlowKey Flow, SeqNumber Seq, int? Mtu);

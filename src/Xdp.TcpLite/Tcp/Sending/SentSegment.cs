namespace Xdp.TcpLite;

[Flags]
internal enum SentFlags : byte
{
    None = 0,

    /// <summary>The peer has the segment, out of order.</summary>
    Sacked = 1,

    /// <summary>Taken for lost, and not sent again since.</summary>
    Lost = 2,

    /// <summary>Sent again, and that transmission still counts as in flight.</summary>
    Retransmitted = 4,

    /// <summary>Sent more than once: gives no RTT sample without timestamps (Karn).</summary>
    EverRetransmitted = 8,

    /// <summary>The FIN follows the payload.</summary>
    Fin = 16,

    /// <summary>When it was sent, the application had nothing more to send: the rate it shows may be too low.</summary>
    AppLimited = 32,

    /// <summary>Larger than a full segment, to find out whether the path takes it.</summary>
    MtuProbe = 64,
}

/// <summary>One segment between SND.UNA and SND.NXT: the scoreboard's entry, and where its payload lies.</summary>
internal struct SentSegment
{
    public SeqNumber Seq;

    /// <summary>Payload bytes.</summary>
    public int Length;

    /// <summary>The block of the first payload byte; null for a bare FIN.</summary>
    public Block? Block;

    /// <summary>Offset of the first payload byte among the block's bytes.</summary>
    public int Offset;

    /// <summary>Of a SACKed segment: everything from here up to there is SACKed, and perhaps more.</summary>
    public SeqNumber SackedTo;

    /// <summary>When it was last sent.</summary>
    public Instant SentAt;

    /// <summary>What had been delivered when it was sent.</summary>
    public DeliveryMark Delivery;
    public SentFlags Flags;

    public readonly int SequenceLength => Length + ((Flags & SentFlags.Fin) != 0 ? 1 : 0);
    public readonly SeqNumber EndSeq => Seq + SequenceLength;
    public readonly bool Has(SentFlags flags) => (Flags & flags) != 0;
}

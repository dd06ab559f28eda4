namespace Xdp.TcpLite;

/// <summary>
/// What a stack has counted since it was made. The stack's turn writes; other threads may read values that are a turn
/// old.
/// </summary>
public sealed class TcpStackCounters
{
    private readonly long[] _drops = new long[Enum.GetValues<DropReason>().Length];

    public long SegmentsIn;
    public long SegmentsOut;

    /// <summary>Payload bytes, retransmissions by the peer included.</summary>
    public long BytesIn;

    /// <summary>Payload bytes, retransmissions included.</summary>
    public long BytesOut;

    /// <summary>Payload bytes that peers have acknowledged.</summary>
    public long BytesAcknowledged;
    public long Retransmits;
    public long FastRetransmits;
    public long RtoFires;
    public long TlpProbes;

    /// <summary>Retransmissions that a D-SACK or a timestamp showed to have been needless.</summary>
    public long SpuriousRetransmits;
    public long RstsSent;
    public long RstsReceived;
    public long ChallengeAcks;
    public long DelayedAcks;
    public long SynCookiesSent;

    /// <summary>Passive opens that reached ESTABLISHED.</summary>
    public long ConnectionsAccepted;
    public long ConnectionsClosed;
    public long TimeWaitReused;

    /// <summary>Closed connections that were reset because there were too many, or they held too much.</summary>
    public long OrphansReset;

    /// <summary>Closed connections that were reset because their peers acknowledged nothing any more.</summary>
    public long OrphansTimedOut;

    /// <summary>Closed connections that were reset because their peers went on sending.</summary>
    public long DataAfterCloseResets;
    public long OutOfOrderSegments;

    /// <summary>Payloads copied to heap blocks instead of staying in their frames.</summary>
    public long HeapCopies;

    /// <summary>How often receive memory has become short.</summary>
    public long MemoryPressures;

    /// <summary>How often payload ahead of a gap was dropped to make room for other payload.</summary>
    public long OutOfOrderPrunes;

    /// <summary>Payload bytes that were dropped so.</summary>
    public long OutOfOrderPrunedBytes;

    /// <summary>How often a segment had to wait because no frame was free.</summary>
    public long EmitStarved;

    /// <summary>How often a segment had to wait for the pace of its connection, for which a timer was set.</summary>
    public long PacingWaits;

    /// <summary>Packets dropped for this reason.</summary>
    public long this[DropReason reason]
    {
        get => _drops[(int)reason];
        internal set => _drops[(int)reason] = value;
    }
}

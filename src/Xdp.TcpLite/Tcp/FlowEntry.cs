namespace Xdp.TcpLite;

/// <summary>What the stack knows about a 4-tuple: a half-open record, a connection, or a TIME-WAIT record.</summary>
public abstract class FlowEntry : TimerEntry
{
    /// <summary><see cref="Flow"/>, for who would not have it copied.</summary>
    internal readonly FlowKey Key;

    private protected FlowEntry(in FlowKey flow) => Key = flow;

    public FlowKey Flow => Key;
}

/// <summary>What both sides agreed on in their SYNs.</summary>
internal struct NegotiatedOptions
{
    /// <summary>Largest payload the peer takes, options not deducted (RFC 6691).</summary>
    public ushort PeerMss;
    public bool WindowScaling;
    public byte SndWndShift;
    public byte RcvWndShift;
    public bool Sack;
    public bool Timestamps;
    public bool Ecn;

    /// <summary>Added to the stack's clock to make this flow's TSval (RFC 7323, section 5.4).</summary>
    public uint TsOffset;

    /// <summary>TS.Recent.</summary>
    public uint TsRecent;
}

/// <summary>A connection in SYN-RECEIVED that came from a listener: the little that must be kept until the peer's ACK shows that it is there.</summary>
internal sealed class HalfOpen(in FlowKey flow, Listener listener) : FlowEntry(flow)
{
    internal readonly Listener Listener = listener;
    internal required SharedPath Path;
    internal SeqNumber Iss;
    internal SeqNumber Irs;
    internal NegotiatedOptions Options;

    /// <summary>SYN-ACKs sent again.</summary>
    internal int Retransmits;

    /// <summary>The SYN-ACK was sent more than once, for whatever reason: its ACK gives no RTT sample (Karn).</summary>
    internal bool IsRepeated;

    /// <summary>The last answer to what may be a blind attack.</summary>
    internal Instant ChallengedAt = new(long.MinValue / 2);
    internal Instant SentAt;
}

/// <summary>A connection in TIME-WAIT: what is needed to answer a retransmitted FIN and to judge a new SYN (RFC 6191).</summary>
internal sealed class TimeWait(in FlowKey flow) : FlowEntry(flow)
{
    internal required SharedPath Path;
    internal SeqNumber SndNxt;
    internal SeqNumber RcvNxt;
    internal ushort Window;
    internal bool Timestamps;
    internal uint TsOffset;
    internal uint TsRecent;

    /// <summary>The last answer to a segment.</summary>
    internal Instant AnsweredAt = new(long.MinValue / 2);

    // Order of entry; the oldest is forgotten first when the table is full.
    internal TimeWait? Older;
    internal TimeWait? Newer;
    internal bool Forgotten;
}

/// <summary>An address and port that accepts connections.</summary>
internal sealed class Listener(object? owner)
{
    internal readonly object? Owner = owner;
    internal int HalfOpenCount;
    internal int AcceptQueueLength;
    internal bool Closed;
}

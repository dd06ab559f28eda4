namespace Xdp.TcpLite;

/// <summary>
/// A connection in SYN-RECEIVED that came from a listener: the little that must be kept until the peer's ACK shows that
/// the peer is there. <see cref="HalfOpenTable"/> alone changes it.
/// </summary>
internal sealed class HalfOpen(in FlowKey flow, Listener listener) : FlowEntry(flow)
{
    internal readonly Listener Listener = listener;
    internal required Route Route;
    internal SeqNumber Iss;
    internal SeqNumber Irs;
    internal NegotiatedOptions Options;

    /// <summary>SYN-ACKs that were sent again because time was up.</summary>
    internal int Retransmits;

    /// <summary>The SYN-ACK was sent again because its SYN came again: its ACK gives no RTT sample (Karn).</summary>
    internal bool IsRepeated;

    /// <summary>When the SYN-ACK was sent first.</summary>
    internal Instant SentAt;

    internal AnswerLimit Challenges;
}

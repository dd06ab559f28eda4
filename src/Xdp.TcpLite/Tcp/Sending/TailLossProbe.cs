namespace Xdp.TcpLite;

/// <summary>
/// The tail loss probe (RFC 8985, section 7): one more segment after two round trips of silence. Its ACK tells whether
/// the last ones are lost.
/// </summary>
internal struct TailLossProbe()
{
    /// <summary>
    /// Added when the ACK of what is in flight may be delayed (RFC 8985, section 7.2; Linux's TCP_RTO_MIN).
    /// </summary>
    private static readonly TimeSpan s_worstDelayedAck = TimeSpan.FromMilliseconds(200);

    /// <summary>
    /// With less, the probe would race an ACK that is on its way through a busy host (Linux: two ticks).
    /// </summary>
    private static readonly TimeSpan s_minTimeout = TimeSpan.FromMilliseconds(10);

    /// <summary>When a probe is due.</summary>
    internal Instant Deadline = Instant.Never;

    /// <summary>TLP.end_seq: the end of a probe that has not been answered; null when there is none.</summary>
    internal SeqNumber? EndSeq { get; private set; }

    /// <summary>TLP.is_retrans: the probe was the last segment once more.</summary>
    internal bool IsRetransmission { get; private set; }

    /// <summary>The probe is still to be sent: the last segment, once more.</summary>
    internal bool SendsTail { get; private set; }

    /// <summary>
    /// The probe is still to be sent: the next new segment, whatever the congestion window and Nagle say.
    /// </summary>
    internal bool SendsNewData { get; private set; }

    /// <summary>What is sent next is the probe.</summary>
    internal readonly bool Sends => SendsTail || SendsNewData;

    /// <summary>TSval of the probe: an ACK that echoes less was caused by the original.</summary>
    internal uint TsVal { get; private set; }

    /// <summary>PTO (section 7.2).</summary>
    /// <param name="srtt">Smoothed round trip.</param>
    /// <param name="mayWait">
    /// What is in flight is one segment, or two that make no more than one. Few receivers acknowledge that at once.
    /// </param>
    internal static TimeSpan Timeout(TimeSpan srtt, bool mayWait)
    {
        TimeSpan timeout = srtt + srtt;
        if (mayWait)
            timeout += s_worstDelayedAck;
        return timeout < s_minTimeout ? s_minTimeout : timeout;
    }

    /// <summary>A probe of new data is to be sent, up to <paramref name="end"/>.</summary>
    internal void BeginWithNewData(SeqNumber end)
    {
        (EndSeq, IsRetransmission, SendsNewData) = (end, false, true);
    }

    /// <summary>The last segment, which ends at SND.NXT, is to be sent again.</summary>
    internal void BeginWithTail(SeqNumber sndNxt, uint tsVal)
    {
        (EndSeq, IsRetransmission, SendsTail, TsVal) = (sndNxt, true, true, tsVal);
    }

    /// <summary>New data was sent, the probe's or not.</summary>
    internal void OnNewDataSent() => SendsNewData = false;

    /// <summary>A segment was sent again, the probe or not; or SND.UNA has moved.</summary>
    internal void CancelTail() => SendsTail = false;

    /// <summary>The time-out repairs what the probe would have found.</summary>
    internal void OnTimeout()
    {
        SendsNewData = SendsTail = false;
        EndSeq = null;
    }

    /// <summary>As new.</summary>
    internal void Clear()
    {
        this = default;
        Deadline = Instant.Never;
    }

    /// <summary>The episode is over.</summary>
    internal void End() => EndSeq = null;

    /// <summary>The peer reports that it had the probe's segment already.</summary>
    internal void OnDuplicateReported(SeqNumber right)
    {
        if (IsRetransmission && right == EndSeq)
            EndSeq = null;
    }

    /// <summary>
    /// An ACK that moved SND.UNA to the probe's end, or past it, ends the episode (section 7.4). True when the probe
    /// repaired a loss, so that the congestion window must answer.
    /// </summary>
    /// <param name="packet">The ACK.</param>
    /// <param name="timestamps">They tell which transmission it is for, if both sides send them.</param>
    internal bool TryFinish(in Packet packet, in Timestamps timestamps)
    {
        if (EndSeq is not { } end || packet.Ack < end)
            return false;
        // An ACK that ends at the probe may be for the original. Without timestamps only the next ACK can tell.
        if (IsRetransmission && packet.Ack == end && !timestamps.Enabled)
            return false;
        EndSeq = null;
        return IsRetransmission && packet.Sack.Count == 0 && !timestamps.EchoesBefore(packet, TsVal);
    }

    /// <summary>
    /// An ACK that did not move SND.UNA. If it is a duplicate at the probe's end, both the original and the probe have
    /// arrived. A peer without D-SACK can say it in no other way.
    /// </summary>
    /// <param name="packet">The ACK.</param>
    /// <param name="windowChanged">It is no duplicate (RFC 5681, section 2).</param>
    internal void OnAckWithoutNews(in Packet packet, bool windowChanged)
    {
        if (packet.Ack == EndSeq && packet.SegmentLength == 0 && packet.Sack.Count == 0 && !windowChanged)
            EndSeq = null;
    }
}

namespace Xdp.TcpLite;

/// <summary>
/// The tail loss probe (RFC 8985, section 7): one more segment after two round trips of silence. Its ACK tells whether
/// the last ones are lost.
/// </summary>
internal struct TailLossProbe()
{
    /// <summary>
    /// Added when only one segment is in flight, since its ACK may be delayed (RFC 8985, section 7.2; Linux's maximum).
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

    /// <summary>Bytes outstanding when the probe was due.</summary>
    internal long FlightSize { get; private set; }

    /// <summary>TSval of the probe: an ACK that echoes less was caused by the original.</summary>
    internal uint TsVal { get; private set; }

    /// <summary>PTO (section 7.2).</summary>
    internal static TimeSpan Timeout(TimeSpan srtt, bool singleSegment)
    {
        TimeSpan timeout = 2 * srtt;
        if (singleSegment)
            timeout += s_worstDelayedAck;
        return timeout < s_minTimeout ? s_minTimeout : timeout;
    }

    /// <summary>A probe of new data is to be sent, up to <paramref name="end"/>.</summary>
    internal void BeginWithNewData(SeqNumber end, long flightSize)
    {
        (EndSeq, FlightSize, IsRetransmission, SendsNewData) = (end, flightSize, false, true);
    }

    /// <summary>The last segment, which ends at SND.NXT, is to be sent again.</summary>
    internal void BeginWithTail(SeqNumber sndNxt, long flightSize, uint tsVal)
    {
        (EndSeq, FlightSize, IsRetransmission, SendsTail, TsVal) = (sndNxt, flightSize, true, true, tsVal);
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

    /// <summary>The episode is over.</summary>
    internal void End() => EndSeq = null;

    /// <summary>The peer reports that it had the probe's segment already.</summary>
    internal void OnDuplicateReported(SeqNumber right)
    {
        if (IsRetransmission && right == EndSeq)
            EndSeq = null;
    }

    /// <summary>
    /// An ACK at or past the probe's end ends the episode (section 7.4). True when the probe repaired a loss, so that
    /// the congestion window must answer.
    /// </summary>
    /// <param name="packet">The ACK.</param>
    /// <param name="advanced">It moved SND.UNA.</param>
    /// <param name="hasTimestamps">A timestamp tells which transmission it is for.</param>
    /// <param name="echoesOriginal">And this one is for an original.</param>
    internal bool TryFinish(in Packet packet, bool advanced, bool hasTimestamps, bool echoesOriginal)
    {
        if (EndSeq is not { } end || packet.Ack < end)
            return false;
        // An ACK that ends at the probe may be for the original. Without timestamps only the next ACK can tell.
        if (IsRetransmission && packet.Ack == end
            && (advanced ? !hasTimestamps : packet.PayloadLength > 0 || packet.Sack.Count > 0))
        {
            return false;
        }
        EndSeq = null;
        return IsRetransmission && advanced && packet.Sack.Count == 0 && !echoesOriginal;
    }
}

namespace Xdp.TcpLite;

/// <summary>
/// RACK (RFC 8985): a segment is lost when one that was sent sufficiently later has been delivered. Holds the state of the RFC's
/// section 5; the segments themselves are the <see cref="SendQueue"/>'s.
/// </summary>
internal struct RackTlp
{
    private const int DupThresh = 3;

    /// <summary>Recoveries for which a widened reordering window is kept after the last D-SACK.</summary>
    private const int ReoWndPersist = 16;

    // RACK.xmit_ts, RACK.end_seq, RACK.rtt
    private Instant _xmitAt;
    private SeqNumber _endSeq;
    private TimeSpan _rtt;
    private bool _valid;

    private SeqNumber _fack;
    private bool _fackValid;
    private int _reoWndMult;
    private int _reoWndPersist;

    internal bool ReorderingSeen { get; private set; }

    /// <summary>A delivered segment may be the latest sent, and tells about reordering (steps 2 and 3 of section 6.2).</summary>
    internal void OnDelivered(in SentSegment segment, Instant now, TimeSpan minRtt, bool? echoesLatest)
    {
        SeqNumber end = segment.EndSeq;
        if (!_fackValid || end > _fack)
        {
            _fack = end;
            _fackValid = true;
        }
        else if (end < _fack && !segment.Has(SentFlags.EverRetransmitted))
        {
            ReorderingSeen = true;
        }
        TimeSpan rtt = now - segment.SentAt;
        // Without timestamps, what comes sooner than any RTT seen is for the original, not for its retransmission.
        if (segment.Has(SentFlags.EverRetransmitted) && !(echoesLatest ?? rtt >= minRtt))
            return;
        _rtt = rtt;
        if (!_valid || IsSentAfter(segment.SentAt, end, _xmitAt, _endSeq))
        {
            _xmitAt = segment.SentAt;
            _endSeq = end;
            _valid = true;
        }
    }

    /// <summary>A D-SACK says that a retransmission was needless: more patience, one quarter of the RTT at a time.</summary>
    internal void OnDuplicateReported()
    {
        _reoWndMult = Math.Min(_reoWndMult + 1, 16);
        _reoWndPersist = ReoWndPersist;
    }

    internal void OnRecoveryExit()
    {
        if (_reoWndPersist > 0 && --_reoWndPersist == 0)
            _reoWndMult = 0;
    }

    /// <summary>
    /// Marks what is lost by now (step 5). Returns how long until the next segment would be, or null when none is suspected.
    /// </summary>
    /// <param name="queue">The scoreboard.</param>
    /// <param name="now">The present.</param>
    /// <param name="minRtt">Smallest RTT seen of late.</param>
    /// <param name="srtt">Smoothed RTT, the upper bound of the reordering window.</param>
    /// <param name="recovering">In recovery: reordering is given no time unless it has been seen.</param>
    /// <param name="sackedSegments">Segments that are SACKed now.</param>
    /// <param name="lostBytes">Grows by what is marked.</param>
    /// <param name="retransmittedBytes">Shrinks by retransmissions that are held for lost again.</param>
    internal readonly TimeSpan? DetectLoss(SendQueue queue, Instant now, TimeSpan minRtt, TimeSpan srtt, bool recovering, int sackedSegments, ref long lostBytes, ref long retransmittedBytes)
    {
        if (!_valid)
            return null;
        TimeSpan patience = _rtt + ReorderingWindow(minRtt, srtt, recovering, sackedSegments);
        TimeSpan? wait = null;
        for (int i = 0; i < queue.Count; i++)
        {
            ref SentSegment segment = ref queue[i];
            if (!IsSentAfter(_xmitAt, _endSeq, segment.SentAt, segment.EndSeq))
            {
                // Segments are in order of first transmission: behind a fresh one there are only fresher ones.
                if (!segment.Has(SentFlags.EverRetransmitted))
                    break;
                continue;
            }
            if (segment.Has(SentFlags.Sacked) || (segment.Flags & (SentFlags.Lost | SentFlags.Retransmitted)) == SentFlags.Lost)
                continue;
            TimeSpan left = segment.SentAt + patience - now;
            if (left > TimeSpan.Zero)
            {
                wait = wait is null || left > wait ? left : wait;
                continue;
            }
            if (segment.Has(SentFlags.Retransmitted))
            {
                segment.Flags &= ~SentFlags.Retransmitted;
                retransmittedBytes -= segment.SequenceLength;
            }
            if (!segment.Has(SentFlags.Lost))
            {
                segment.Flags |= SentFlags.Lost;
                lostBytes += segment.SequenceLength;
            }
        }
        return wait;
    }

    private readonly TimeSpan ReorderingWindow(TimeSpan minRtt, TimeSpan srtt, bool recovering, int sackedSegments)
    {
        if (!ReorderingSeen && (recovering || sackedSegments >= DupThresh))
            return TimeSpan.Zero;
        TimeSpan window = (_reoWndMult + 1) * (minRtt / 4);
        return window < srtt ? window : srtt;
    }

    private static bool IsSentAfter(Instant at, SeqNumber end, Instant otherAt, SeqNumber otherEnd) =>
        at > otherAt || (at == otherAt && end > otherEnd);
}

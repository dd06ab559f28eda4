namespace Xdp.TcpLite;

/// <summary>
/// RACK (RFC 8985, section 6): a segment is lost when one that was sent sufficiently later has been delivered. Owns the
/// variables of section 5.2 that are about what is in flight. The segments are in the <see cref="SendQueue"/>; what is
/// known of the path is in <see cref="Reordering"/>.
/// </summary>
internal struct Rack
{
    /// <summary>A list with room for up to so many entries is kept for the next flight.</summary>
    private const int LargestSpareList = 64;

    // RACK.xmit_ts, RACK.end_seq, RACK.rtt
    private Instant _xmitAt;
    private SeqNumber _endSeq;
    private TimeSpan _rtt;
    private bool _valid;

    /// <summary>Segments before this that were sent once need not be looked at any more.</summary>
    private SeqNumber? _freshFrom;

    /// <summary>
    /// Ends and times of the segments that were sent again, in the order of time. Some may be acknowledged or lost by
    /// now.
    /// </summary>
    private Queue<(SeqNumber End, Instant SentAt)>? _retransmitted;

    private SeqNumber _fack;
    private bool _fackValid;

    /// <summary>Nothing is in flight.</summary>
    internal void Clear()
    {
        Queue<(SeqNumber End, Instant SentAt)>? spare =
            _retransmitted is { Capacity: <= LargestSpareList } ? _retransmitted : null;
        this = default;
        if (spare is null)
            return;
        spare.Clear();
        _retransmitted = spare;
    }

    /// <summary>
    /// A segment was delivered. It may be the one that was sent last, and may show reordering (section 6.2, steps 2 and
    /// 3).
    /// </summary>
    internal void OnDelivered(
        in SentSegment segment, Instant now, TimeSpan minRtt, bool? echoesLatest, ref Reordering reordering)
    {
        SeqNumber end = segment.EndSeq;
        if (!_fackValid || end > _fack)
        {
            _fack = end;
            _fackValid = true;
        }
        else if (end < _fack && !segment.Has(SentFlags.EverRetransmitted))
        {
            reordering.OnSeen();
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

    /// <summary>A segment was sent again: it is looked at in the order of time, not of sequence.</summary>
    internal void OnRetransmitted(SendQueue queue, in SentSegment segment)
    {
        _retransmitted ??= new Queue<(SeqNumber, Instant)>();
        while (_retransmitted.TryPeek(out var oldest) && Find(queue, oldest) is null)
            _retransmitted.Dequeue();
        _retransmitted.Enqueue((segment.EndSeq, segment.SentAt));
    }

    internal void OnAcknowledged(SeqNumber sndUna) =>
        _freshFrom = _freshFrom is { } from && from > sndUna ? from : sndUna;

    /// <summary>Marks were taken back: everything between SND.UNA and SND.NXT is looked at again.</summary>
    internal void Reconsider(SendQueue queue, SeqNumber sndUna)
    {
        _freshFrom = sndUna;
        _retransmitted?.Clear();
        for (int i = 0; i < queue.Count; i++)
        {
            ref SentSegment segment = ref queue[i];
            if (segment.Has(SentFlags.EverRetransmitted) && !IsSettled(segment))
                (_retransmitted ??= new Queue<(SeqNumber, Instant)>()).Enqueue((segment.EndSeq, segment.SentAt));
        }
    }

    /// <summary>
    /// Marks what is lost by now (section 6.2, step 5). Looks at segments in the order in which they were sent, and
    /// stops at the first that has time left. Each is looked at once after that: an ACK that tells nothing new costs
    /// nothing.
    /// </summary>
    /// <param name="queue">The segments.</param>
    /// <param name="board">Gets the marks.</param>
    /// <param name="now">The present.</param>
    /// <param name="reorderingWindow">RACK.reo_wnd: what a segment may be late.</param>
    /// <param name="congestion">Is told of each lost segment.</param>
    /// <returns>How long until the next segment would be lost; null when none is suspected.</returns>
    internal TimeSpan? DetectLoss(
        SendQueue queue, ref Scoreboard board, Instant now, TimeSpan reorderingWindow, ICongestionControl congestion)
    {
        if (!_valid || queue.Count == 0)
            return null;
        TimeSpan patience = _rtt + reorderingWindow;
        TimeSpan? wait = null;
        int i = _freshFrom is { } from ? queue.IndexOf(from) : 0;
        for (; i < queue.Count; i++)
        {
            ref SentSegment segment = ref queue[i];
            if (segment.Has(SentFlags.EverRetransmitted) || IsSettled(segment))
                continue;
            if (!IsSentAfter(_xmitAt, _endSeq, segment.SentAt, segment.EndSeq))
                break;
            if (!Judge(ref segment, now, patience, ref wait, ref board, congestion))
                break;
        }
        _freshFrom = i < queue.Count ? queue[i].Seq : queue[queue.Count - 1].EndSeq;
        while (_retransmitted is not null && _retransmitted.TryPeek(out var oldest))
        {
            if (Find(queue, oldest) is { } index)
            {
                ref SentSegment segment = ref queue[index];
                if (!IsSentAfter(_xmitAt, _endSeq, segment.SentAt, segment.EndSeq)
                    || !Judge(ref segment, now, patience, ref wait, ref board, congestion))
                {
                    break;
                }
            }
            _retransmitted.Dequeue();
        }
        return wait;
    }

    /// <returns>False when the segment has time left.</returns>
    private static bool Judge(
        ref SentSegment segment, Instant now, TimeSpan patience, ref TimeSpan? wait, ref Scoreboard board,
        ICongestionControl congestion)
    {
        TimeSpan left = segment.SentAt + patience - now;
        if (left > TimeSpan.Zero)
        {
            wait = wait is null || left < wait ? left : wait;
            return false;
        }
        board.MarkLost(ref segment);
        congestion.OnLost(LossSample.Of(segment, board.EverLost, now));
        return true;
    }

    /// <summary>SACKed, or taken for lost and not sent again since: nothing needs to be found out about it.</summary>
    internal static bool IsSettled(in SentSegment segment) =>
        segment.Has(SentFlags.Sacked) || (segment.Flags & (SentFlags.Lost | SentFlags.Retransmitted)) == SentFlags.Lost;

    /// <summary>
    /// Index of the segment that was sent again then. Null if it is acknowledged, SACKed or lost by now.
    /// </summary>
    private static int? Find(SendQueue queue, (SeqNumber End, Instant SentAt) entry)
    {
        int index = queue.IndexOfEnd(entry.End);
        return index >= 0 && queue[index].SentAt == entry.SentAt && !IsSettled(queue[index]) ? index : null;
    }

    private static bool IsSentAfter(Instant at, SeqNumber end, Instant otherAt, SeqNumber otherEnd) =>
        at > otherAt || (at == otherAt && end > otherEnd);
}

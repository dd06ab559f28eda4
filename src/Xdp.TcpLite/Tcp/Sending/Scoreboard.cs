namespace Xdp.TcpLite;

/// <summary>
/// The sums of what is known of the segments in a <see cref="SendQueue"/>: SACKed, lost, sent again. Marks are changed
/// only here, so that the sums always fit them.
/// </summary>
internal struct Scoreboard
{
    internal long SackedBytes { get; private set; }
    internal int SackedSegments { get; private set; }
    internal long LostBytes { get; private set; }

    /// <summary>
    /// Bytes taken for lost since the flight began; wraps. A retransmission that is lost counts again. Segments that
    /// were only too large do not count.
    /// </summary>
    internal uint EverLost { get; private set; }

    /// <summary>Of retransmissions that still count as in flight.</summary>
    internal long RetransmittedBytes { get; private set; }

    /// <inheritdoc cref="RetransmittedBytes"/>
    internal int RetransmittedSegments { get; private set; }

    /// <summary>No segment before this waits to be sent again: where the search for one begins.</summary>
    internal SeqNumber NoneLostBefore { get; private set; }

    /// <summary>Lost, and not sent again since.</summary>
    internal readonly bool HasUnrepairedLoss => LostBytes > RetransmittedBytes;

    /// <summary>
    /// Bytes believed to be in the network, of <paramref name="outstanding"/> between SND.UNA and SND.NXT.
    /// </summary>
    internal readonly long InFlight(long outstanding) => outstanding - SackedBytes - LostBytes + RetransmittedBytes;

    /// <summary>The first segment of a flight will start here.</summary>
    internal void Start(SeqNumber sndNxt)
    {
        this = default;
        NoneLostBefore = sndNxt;
    }

    /// <summary>SND.UNA has moved.</summary>
    internal void OnAcknowledged(SeqNumber sndUna) => NoneLostBefore = SeqNumber.Max(NoneLostBefore, sndUna);

    /// <summary>Takes <paramref name="bytes"/> at the front of a segment, or all of it, off the sums.</summary>
    internal void Remove(in SentSegment segment, int bytes, bool whole)
    {
        if (segment.Has(SentFlags.Sacked))
        {
            SackedBytes -= bytes;
            if (whole)
                SackedSegments--;
        }
        if (segment.Has(SentFlags.Lost))
            LostBytes -= bytes;
        if (segment.Has(SentFlags.Retransmitted))
        {
            RetransmittedBytes -= bytes;
            if (whole)
                RetransmittedSegments--;
        }
    }

    /// <summary>The peer has the segment, and everything behind it up to <paramref name="sackedTo"/>.</summary>
    internal void MarkSacked(ref SentSegment segment, SeqNumber sackedTo)
    {
        int length = segment.SequenceLength;
        Remove(segment, length, whole: true);
        segment.Flags = (segment.Flags & ~(SentFlags.Lost | SentFlags.Retransmitted)) | SentFlags.Sacked;
        segment.SackedTo = sackedTo;
        SackedBytes += length;
        SackedSegments++;
    }

    /// <summary>The segment is taken for lost, and so is its retransmission, if there was one.</summary>
    internal void MarkLost(ref SentSegment segment)
    {
        if ((segment.Flags & (SentFlags.Lost | SentFlags.Retransmitted)) != SentFlags.Lost)
            EverLost += (uint)segment.SequenceLength;
        TakeOut(ref segment);
    }

    /// <summary>Whatever was sent of the segment is no longer in flight.</summary>
    private void TakeOut(ref SentSegment segment)
    {
        if (segment.Has(SentFlags.Retransmitted))
        {
            segment.Flags &= ~SentFlags.Retransmitted;
            RetransmittedBytes -= segment.SequenceLength;
            RetransmittedSegments--;
        }
        if (!segment.Has(SentFlags.Lost))
        {
            segment.Flags |= SentFlags.Lost;
            LostBytes += segment.SequenceLength;
        }
        NoneLostBefore = SeqNumber.Min(NoneLostBefore, segment.Seq);
    }

    internal void MarkRetransmitted(ref SentSegment segment)
    {
        if (!segment.Has(SentFlags.Retransmitted))
        {
            RetransmittedBytes += segment.SequenceLength;
            RetransmittedSegments++;
        }
        segment.Flags |= SentFlags.Retransmitted | SentFlags.EverRetransmitted;
    }

    /// <summary>
    /// After a time-out nothing counts as in flight. If the first segment is SACKed even now, the peer has dropped what
    /// it had SACKed (RFC 2018, section 8).
    /// </summary>
    internal void MarkAllLost(SendQueue queue)
    {
        bool reneged = queue[0].Has(SentFlags.Sacked);
        LostBytes = 0;
        RetransmittedBytes = 0;
        RetransmittedSegments = 0;
        if (reneged)
        {
            SackedBytes = 0;
            SackedSegments = 0;
        }
        for (int i = 0; i < queue.Count; i++)
        {
            ref SentSegment segment = ref queue[i];
            // If it is acknowledged all the same, nobody can tell when it arrived.
            if (reneged && segment.Has(SentFlags.Sacked))
                segment.Flags = (segment.Flags & ~SentFlags.Sacked) | SentFlags.EverRetransmitted;
            segment.Flags &= ~SentFlags.Retransmitted;
            if (segment.Has(SentFlags.Sacked))
                continue;
            segment.Flags |= SentFlags.Lost;
            LostBytes += segment.SequenceLength;
        }
        NoneLostBefore = queue[0].Seq;
    }

    /// <summary>
    /// Marks segments of more than <paramref name="mss"/> payload bytes as lost. False when there is none.
    /// </summary>
    internal bool MarkTooLarge(SendQueue queue, int mss)
    {
        bool any = false;
        for (int i = 0; i < queue.Count; i++)
        {
            ref SentSegment segment = ref queue[i];
            if (segment.Length <= mss || segment.Has(SentFlags.Sacked))
                continue;
            TakeOut(ref segment);
            any = true;
        }
        return any;
    }

    /// <summary>Nothing is lost after all.</summary>
    internal void ForgetLosses(SendQueue queue)
    {
        for (int i = 0; i < queue.Count; i++)
            queue[i].Flags &= ~SentFlags.Lost;
        LostBytes = 0;
    }

    /// <summary>Index of the first segment that is lost and was not sent again; -1 when there is none.</summary>
    internal int FindLost(SendQueue queue, SeqNumber sndNxt)
    {
        if (LostBytes == 0)
            return -1;
        for (int i = queue.IndexOf(NoneLostBefore); i < queue.Count; i++)
        {
            ref SentSegment segment = ref queue[i];
            if ((segment.Flags & (SentFlags.Lost | SentFlags.Retransmitted | SentFlags.Sacked)) != SentFlags.Lost)
                continue;
            NoneLostBefore = segment.Seq;
            return i;
        }
        NoneLostBefore = sndNxt;
        return -1;
    }
}

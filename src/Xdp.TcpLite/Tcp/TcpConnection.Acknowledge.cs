namespace Xdp.TcpLite;

/// <summary>
/// What an acknowledgement does: SND.UNA and the window (RFC 9293), SACK (RFC 2018, 2883), loss detection (RFC 8985; RFC 6582
/// without SACK), recovery (RFC 6937), undo of what proves spurious (RFC 3522, RFC 3708).
/// </summary>
public sealed partial class TcpConnection
{
    private enum Recovery : byte
    {
        /// <summary>No loss known.</summary>
        Open,

        /// <summary>Repairing losses found by acknowledgements; PRR paces what is sent.</summary>
        Fast,

        /// <summary>After a retransmission time-out: slow start over what was in flight.</summary>
        Timeout,
    }

    private const int DupThresh = 3;

    internal SeqNumber Iss { get; private set; }
    internal SeqNumber SndUna { get; private set; }
    internal SeqNumber SndNxt { get; private set; }

    /// <summary>SND.WND in bytes, scaling applied.</summary>
    internal long SndWnd { get; private set; }
    internal long MaxSndWnd { get; private set; }
    internal SeqNumber SndWl1 { get; private set; }
    internal SeqNumber SndWl2 { get; private set; }

    private int _sndMss;
    private RttEstimator _rtt;
    private RackTlp _rack;
    private long _sackedBytes;
    private int _sackedSegments;
    private long _lostBytes;
    private long _retransmittedBytes;
    private int _dupAcks;

    private Recovery _recovery;
    private SeqNumber _recoveryPoint;
    private long _prrDelivered;
    private long _prrOut;
    private long _recoverFlightSize;

    /// <summary>TSval of the first retransmission of the recovery: an ACK that echoes less was caused by an original (Eifel).</summary>
    private uint _firstRetransmitTsVal;
    private bool _mayUndo;
    private int _retransmitsToUndo;

    /// <summary>
    /// The congestion window held sending back at some time in the present round trip, which ends when <see cref="_cwndUseEnd"/> is acknowledged: a
    /// host takes in several ACKs between two chances to send, and an application may be a moment late with its next write.
    /// </summary>
    private bool _cwndLimited;
    private SeqNumber _cwndUseEnd;

    /// <summary>Most that was outstanding in that round trip.</summary>
    private long _cwndUsed;
    private Instant _lastSentAt;
    private long _bytesAcked;
    private long _retransmits;
    private long _spuriousRetransmits;

    /// <summary>Sequence space believed to be in the network.</summary>
    private long InFlight => (SndNxt - SndUna) - _sackedBytes - _lostBytes + _retransmittedBytes - RenoSackedBytes;

    /// <summary>Without SACK each duplicate ACK tells that one segment, whichever it was, has left the network.</summary>
    private long RenoSackedBytes => _negotiated.Sack ? 0 : Math.Min((long)_dupAcks * _sndMss, Math.Max(0, (SndNxt - SndUna) - _sndMss - _lostBytes));

    private void Acknowledge(in Packet packet, Instant now)
    {
        bool windowChanged = UpdateSendWindow(packet);
        long priorFlight = SndNxt - SndUna;
        long delivered = 0;
        bool advanced = packet.Ack > SndUna;
        if (State == TcpState.SynReceived && advanced)
            OnSynAcknowledged(packet, now);
        if (advanced)
            delivered += AdvanceUna(packet, now);
        if (_negotiated.Sack)
            delivered += packet.Sack.Count > 0 ? ApplySack(packet, now) : 0;
        else if (packet.Ack == SndUna && !advanced && packet.SegmentLength == 0 && !windowChanged && priorFlight > 0)
            _dupAcks++;
        if (State == TcpState.Closed)
            return;
        if (priorFlight > 0)
        {
            FinishTailLossProbe(packet, advanced);
            if (advanced)
                TryUndo(packet);
            DetectLoss(now, advanced);
            ReactToEcho(packet, priorFlight, now);
            UpdateCongestion(delivered, advanced, now);
            ArmLossTimer(now, restart: advanced);
        }
        else if (windowChanged)
        {
            ArmLossTimer(now, restart: true);
        }
        if (_send.UnsentBytes > 0 || _lostBytes > _retransmittedBytes || _finQueued)
            RequestEmit();
    }

    private bool UpdateSendWindow(in Packet packet)
    {
        if (packet.Ack < SndUna || !(SndWl1 < packet.Seq || (SndWl1 == packet.Seq && SndWl2 <= packet.Ack)))
            return false;
        long window = (long)packet.Window << _negotiated.SndWndShift;
        SndWl1 = packet.Seq;
        SndWl2 = packet.Ack;
        if (window == SndWnd)
            return false;
        SndWnd = window;
        MaxSndWnd = Math.Max(MaxSndWnd, window);
        if (window > 0)
            _persistBackoff = 0;
        return true;
    }

    /// <returns>Bytes newly known to have been delivered.</returns>
    private long AdvanceUna(in Packet packet, Instant now)
    {
        long delivered = 0;
        TimeSpan? rtt = null;
        while (_send.Count > 0 && SndUna < packet.Ack)
        {
            ref SentSegment segment = ref _send[0];
            int length = segment.SequenceLength;
            int acked = Math.Min(length, packet.Ack - SndUna);
            bool whole = acked == length;
            if (!segment.Has(SentFlags.Sacked))
            {
                delivered += acked;
                if (whole)
                {
                    if (!segment.Has(SentFlags.EverRetransmitted))
                        rtt = now - segment.SentAt;
                    _rack.OnDelivered(segment, now, _rtt.MinRtt, EchoesLatest(segment, packet));
                }
            }
            Uncount(segment, acked, whole);
            if (whole && segment.Has(SentFlags.Fin))
                _finAcked = true;
            _send.Acknowledge(acked);
            SndUna += acked;
        }
        _noneLostBefore = SeqNumber.Max(_noneLostBefore, SndUna);
        _rack.OnAcknowledged(SndUna);
        _probeTail = false;
        _bytesAcked += delivered;
        _backoff = 0;
        _dupAcks = 0;
        _firstUnackedAt = now;
        if (rtt is null && _negotiated.Timestamps && packet.HasTimestamps && packet.TsEcr != 0 && delivered > 0)
        {
            // Only the timestamp can tell which transmission this answers; its clock ticks in milliseconds.
            int elapsed = (int)(TsNow(now) - packet.TsEcr);
            if (elapsed >= 0)
                rtt = TimeSpan.FromMilliseconds(Math.Max(elapsed, 1));
        }
        if (rtt is { } sample)
        {
            _rtt.Sample(sample, now);
            _rtoBackoff = 0;
        }
        if (_send.Count == 0 && _send.UnsentBytes == 0)
            Raise(TcpEvents.AllAcknowledged);
        if (_finAcked)
            OnFinAcknowledged(packet, now);
        return delivered;
    }

    /// <summary>Takes <paramref name="bytes"/> at the front of a segment off the scoreboard's sums.</summary>
    private void Uncount(in SentSegment segment, int bytes, bool whole)
    {
        if (segment.Has(SentFlags.Sacked))
        {
            _sackedBytes -= bytes;
            if (whole)
                _sackedSegments--;
        }
        if (segment.Has(SentFlags.Lost))
            _lostBytes -= bytes;
        if (segment.Has(SentFlags.Retransmitted))
            _retransmittedBytes -= bytes;
    }

    private void OnFinAcknowledged(in Packet packet, Instant now)
    {
        switch (State)
        {
            case TcpState.FinWait1:
                State = TcpState.FinWait2;
                if (_discardReceived)
                    ArmFinWait2(now);
                break;
            case TcpState.Closing:
                _ackNow |= packet.IsFin;
                EnterTimeWait(now);
                break;
            case TcpState.LastAck:
                Finish(TcpEvents.None);
                break;
        }
    }

    private long ApplySack(in Packet packet, Instant now)
    {
        long delivered = 0;
        int first = 0;
        (SeqNumber Left, SeqNumber Right) dsack = packet.Sack[0];
        if (dsack.Right <= packet.Ack || (packet.Sack.Count > 1 && dsack.Left >= packet.Sack[1].Left && dsack.Right <= packet.Sack[1].Right))
        {
            first = 1;
            ReceiveDuplicateReport(dsack.Left, dsack.Right);
        }
        for (int i = first; i < packet.Sack.Count; i++)
        {
            (SeqNumber left, SeqNumber right) = packet.Sack[i];
            if (left >= right || right > SndNxt || right <= SndUna)
                continue;
            delivered += MarkSacked(SeqNumber.Max(left, SndUna), right, packet, now);
        }
        return delivered;
    }

    /// <summary>
    /// Marks the segments that lie whole in a block. Runs that are marked already are leapt over, and lengthened: whatever blocks a peer
    /// sends, over time the work is in proportion to the segments that were sent.
    /// </summary>
    private long MarkSacked(SeqNumber left, SeqNumber right, in Packet packet, Instant now)
    {
        long delivered = 0;
        int last = _send.IndexOf(right) - 1;
        if (last >= 0 && _send[last].EndSeq > right)
            last--;
        if (last < 0)
            return 0;
        SeqNumber end = _send[last].EndSeq;
        for (int i = _send.IndexOf(left); i <= last;)
        {
            ref SentSegment segment = ref _send[i];
            if (segment.Has(SentFlags.Sacked))
            {
                SeqNumber run = segment.SackedTo;
                segment.SackedTo = SeqNumber.Max(run, end);
                i = run > segment.EndSeq ? _send.IndexOf(run) : i + 1;
                continue;
            }
            int length = segment.SequenceLength;
            Uncount(segment, length, whole: true);
            _rack.OnDelivered(segment, now, _rtt.MinRtt, EchoesLatest(segment, packet));
            segment.Flags = (segment.Flags & ~(SentFlags.Lost | SentFlags.Retransmitted)) | SentFlags.Sacked;
            segment.SackedTo = end;
            _sackedBytes += length;
            _sackedSegments++;
            delivered += length;
            i++;
        }
        return delivered;
    }

    private void ReceiveDuplicateReport(SeqNumber left, SeqNumber right)
    {
        if (left >= right || right > SndNxt || _retransmits == _spuriousRetransmits)
            return;
        _spuriousRetransmits++;
        _stack.Counters.SpuriousRetransmits++;
        _rack.OnDuplicateReported();
        if (_tlpIsRetransmission && right == _tlpEnd)
            _tlpEnd = null;
        if (_mayUndo && _retransmitsToUndo > 0 && --_retransmitsToUndo == 0)
            Undo();
    }

    /// <summary>An ACK at or past the probe's end ends its episode (RFC 8985, section 7.4): if the probe repaired a loss, that was congestion.</summary>
    private void FinishTailLossProbe(in Packet packet, bool advanced)
    {
        if (_tlpEnd is not { } end || packet.Ack < end)
            return;
        // An ACK just up to the probe may be for the original: without timestamps what comes next must tell.
        if (_tlpIsRetransmission && packet.Ack == end && (advanced ? !_negotiated.Timestamps : packet.PayloadLength > 0 || packet.Sack.Count > 0))
            return;
        _tlpEnd = null;
        if (_tlpIsRetransmission && advanced && packet.Sack.Count == 0 && _recovery == Recovery.Open && !EchoesOriginal(packet))
        {
            _congestion.OnCongestion(_tlpFlightSize, _stack.Now);
            _congestion.OnRecoveryExit(_stack.Now);
        }
    }

    private bool EchoesOriginal(in Packet packet) =>
        _negotiated.Timestamps && packet.HasTimestamps && packet.TsEcr != 0 && (int)(packet.TsEcr - _firstRetransmitTsVal) < 0;

    /// <summary>Was the ACK caused by the segment's latest transmission? Null when no timestamp tells.</summary>
    private bool? EchoesLatest(in SentSegment segment, in Packet packet) =>
        _negotiated.Timestamps && packet.HasTimestamps && packet.TsEcr != 0 ? (int)(packet.TsEcr - TsNow(segment.SentAt)) >= 0 : null;

    private void TryUndo(in Packet packet)
    {
        if (_recovery != Recovery.Open && _mayUndo && EchoesOriginal(packet))
            Undo();
    }

    /// <summary>The losses were none: back to the window there was.</summary>
    private void Undo()
    {
        _mayUndo = false;
        for (int i = 0; i < _send.Count; i++)
            _send[i].Flags &= ~SentFlags.Lost;
        _lostBytes = 0;
        _rack.Reconsider(_send, SndUna);
        _congestion.Undo();
        _recovery = Recovery.Open;
        _rack.OnRecoveryExit();
    }

    private void DetectLoss(Instant now, bool advanced)
    {
        _reorderDeadline = Instant.Never;
        if (!_negotiated.Sack)
        {
            DetectLossWithoutSack(advanced);
            return;
        }
        if (_sackedBytes == 0 && _recovery == Recovery.Open)
            return;
        SeqNumber firstLost = _noneLostBefore;
        TimeSpan? wait = _rack.DetectLoss(_send, now, _rtt.MinRtt, _rtt.Srtt, _recovery != Recovery.Open, _sackedSegments, ref _lostBytes, ref _retransmittedBytes, ref firstLost);
        _noneLostBefore = firstLost;
        if (wait is { } span)
            _reorderDeadline = now + span;
    }

    /// <summary>NewReno (RFC 6582): the third duplicate, and each partial acknowledgement after it, says that the first segment is lost.</summary>
    private void DetectLossWithoutSack(bool advanced)
    {
        if (_send.Count == 0)
            return;
        bool partial = advanced && _recovery == Recovery.Fast && SndUna < _recoveryPoint;
        if (!partial && !(_recovery == Recovery.Open && _dupAcks >= DupThresh))
            return;
        ref SentSegment head = ref _send[0];
        if (head.Has(SentFlags.Retransmitted) && !partial)
            return;
        _mustRetransmit |= partial;
        if (!head.Has(SentFlags.Lost))
        {
            head.Flags |= SentFlags.Lost;
            _noneLostBefore = SndUna;
            _lostBytes += head.SequenceLength;
        }
    }

    private void UpdateCongestion(long delivered, bool advanced, Instant now)
    {
        if (_recovery != Recovery.Open && SndUna >= _recoveryPoint)
        {
            if (_recovery == Recovery.Fast)
                _congestion.SetCwnd(Math.Max(_congestion.Ssthresh, 2L * _sndMss));
            _congestion.OnRecoveryExit(now);
            _rack.OnRecoveryExit();
            _recovery = Recovery.Open;
        }
        if (_recovery == Recovery.Open && _lostBytes > 0)
            EnterRecovery(now);
        if (_recovery == Recovery.Fast)
            Pace(delivered);
        else if (delivered > 0 && (_recovery == Recovery.Timeout || _sackedBytes == 0 || advanced))
            _congestion.OnAck(delivered, _rtt.Srtt, _rtt.MinRtt, now, CwndIsUsed || _recovery == Recovery.Timeout);
    }

    /// <summary>Should the window grow? In slow start half of it in use is enough, since the next round trip may need it all.</summary>
    private bool CwndIsUsed => _cwndLimited || (_congestion.Cwnd < _congestion.Ssthresh && _congestion.Cwnd < 2 * _cwndUsed);

    private void NoteCwndUse(bool limited)
    {
        long outstanding = SndNxt - SndUna;
        if (!limited && SndUna < _cwndUseEnd && (_cwndLimited || outstanding <= _cwndUsed))
            return;
        _cwndLimited = limited;
        _cwndUsed = outstanding;
        _cwndUseEnd = SndNxt;
    }

    private void EnterRecovery(Instant now)
    {
        _recovery = Recovery.Fast;
        _recoveryPoint = SndNxt;
        _recoverFlightSize = Math.Max(SndNxt - SndUna, _sndMss);
        _prrDelivered = 0;
        _prrOut = 0;
        _mayUndo = true;
        _retransmitsToUndo = 0;
        _firstRetransmitTsVal = TsNow(now);
        _tlpEnd = null;
        _stack.Counters.FastRetransmits++;
        // The flight when the loss happened. ACKs that came along with the one that tells of it have taken from the present one already.
        _congestion.OnCongestion(_cwndLimited ? _congestion.Cwnd : SndNxt - SndUna, now);
        _mustRetransmit = true;
    }

    /// <summary>Segments that were too large for the path are sent again at the window there is.</summary>
    private void RepairWithoutCongestion()
    {
        _recovery = Recovery.Timeout;
        _recoveryPoint = SndNxt;
        _mayUndo = false;
        _tlpEnd = null;
        _mustRetransmit = true;
    }

    /// <summary>Proportional rate reduction with the slow-start reduction bound (RFC 6937, section 3).</summary>
    private void Pace(long delivered)
    {
        _prrDelivered += delivered;
        long flight = InFlight;
        long ssthresh = _congestion.Ssthresh;
        long send;
        if (flight > ssthresh)
        {
            send = (_prrDelivered * ssthresh + _recoverFlightSize - 1) / _recoverFlightSize - _prrOut;
        }
        else
        {
            long limit = Math.Max(_prrDelivered - _prrOut, delivered) + _sndMss;
            send = Math.Min(ssthresh - flight, limit);
        }
        _congestion.SetCwnd(flight + Math.Max(send, _mustRetransmit ? _sndMss : 0));
    }
}

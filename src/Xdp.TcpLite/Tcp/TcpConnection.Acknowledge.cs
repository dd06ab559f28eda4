namespace Xdp.TcpLite;

/// <summary>
/// What an acknowledgement does: SND.UNA and the window (RFC 9293), SACK (RFC 2018, 2883), loss detection (RFC 8985; RFC 6582
/// without SACK), recovery (RFC 6937), undo of what proves spurious (RFC 3522, RFC 3708).
/// </summary>
public sealed partial class TcpConnection
{
    private const int DupThresh = 3;

    private Reordering _reordering;

    internal SeqNumber SndUna { get; private set; }
    internal SeqNumber SndNxt { get; private set; }

    /// <summary>SND.WND in bytes, scaling applied.</summary>
    internal int SndWnd { get; private set; }
    internal int MaxSndWnd { get; private set; }
    internal SeqNumber SndWl1 { get; private set; }
    internal SeqNumber SndWl2 { get; private set; }

    private ushort _sndMss;
    private RttEstimator _rtt;

    private uint _retransmits;
    private uint _spuriousRetransmits;

    /// <summary>Sequence space believed to be in the network.</summary>
    private long InFlight => (SndNxt - SndUna) - _flight.SackedBytes - _flight.LostBytes + _flight.RetransmittedBytes - RenoSackedBytes;

    /// <summary>Without SACK each duplicate ACK tells that one segment, whichever it was, has left the network.</summary>
    private long RenoSackedBytes => _negotiated.Sack ? 0 : Math.Min((long)_flight.DupAcks * _sndMss, Math.Max(0, (SndNxt - SndUna) - _sndMss - _flight.LostBytes));

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
            _flight.DupAcks++;
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
        else if (windowChanged && _flight.UnsentBytes > 0)
        {
            ArmLossTimer(now, restart: true);
        }
        if (_flight.UnsentBytes > 0 || _flight.LostBytes > _flight.RetransmittedBytes || _finQueued)
            RequestEmit();
        ReturnFlightIfDone();
    }

    private bool UpdateSendWindow(in Packet packet)
    {
        if (packet.Ack < SndUna || !(SndWl1 < packet.Seq || (SndWl1 == packet.Seq && SndWl2 <= packet.Ack)))
            return false;
        int window = packet.Window << _negotiated.SndWndShift;
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
        Flight flight = _flight;
        while (flight.Count > 0 && SndUna < packet.Ack)
        {
            ref SentSegment segment = ref flight[0];
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
                    flight.Rack.OnDelivered(segment, now, _rtt.MinRtt, EchoesLatest(segment, packet), ref _reordering);
                }
            }
            Uncount(segment, acked, whole);
            if (whole && segment.Has(SentFlags.Fin))
                _finAcked = true;
            flight.Acknowledge(acked);
            SndUna += acked;
        }
        flight.NoneLostBefore = SeqNumber.Max(flight.NoneLostBefore, SndUna);
        flight.Rack.OnAcknowledged(SndUna);
        flight.ProbeTail = false;
        flight.Backoff = 0;
        flight.DupAcks = 0;
        flight.FirstUnackedAt = now;
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
        if (flight.Count == 0 && flight.UnsentBytes == 0)
            Raise(TcpEvents.AllAcknowledged);
        if (_finAcked)
            OnFinAcknowledged(packet, now);
        return delivered;
    }

    /// <summary>Takes <paramref name="bytes"/> at the front of a segment off the scoreboard's sums.</summary>
    private void Uncount(in SentSegment segment, int bytes, bool whole)
    {
        Flight flight = _flight;
        if (segment.Has(SentFlags.Sacked))
        {
            flight.SackedBytes -= bytes;
            if (whole)
                flight.SackedSegments--;
        }
        if (segment.Has(SentFlags.Lost))
            flight.LostBytes -= bytes;
        if (segment.Has(SentFlags.Retransmitted))
            flight.RetransmittedBytes -= bytes;
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
                Finish(TcpEvents.None, inOrder: true);
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
        int last = _flight.IndexOf(right) - 1;
        if (last >= 0 && _flight[last].EndSeq > right)
            last--;
        if (last < 0)
            return 0;
        SeqNumber end = _flight[last].EndSeq;
        for (int i = _flight.IndexOf(left); i <= last;)
        {
            ref SentSegment segment = ref _flight[i];
            if (segment.Has(SentFlags.Sacked))
            {
                SeqNumber run = segment.SackedTo;
                segment.SackedTo = SeqNumber.Max(run, end);
                i = run > segment.EndSeq ? _flight.IndexOf(run) : i + 1;
                continue;
            }
            int length = segment.SequenceLength;
            Uncount(segment, length, whole: true);
            _flight.Rack.OnDelivered(segment, now, _rtt.MinRtt, EchoesLatest(segment, packet), ref _reordering);
            segment.Flags = (segment.Flags & ~(SentFlags.Lost | SentFlags.Retransmitted)) | SentFlags.Sacked;
            segment.SackedTo = end;
            _flight.SackedBytes += length;
            _flight.SackedSegments++;
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
        _reordering.OnDuplicateReported();
        if (_flight.TlpIsRetransmission && right == _flight.TlpEnd)
            _flight.TlpEnd = null;
        if (_flight.MayUndo && _flight.RetransmitsToUndo > 0 && --_flight.RetransmitsToUndo == 0)
            Undo();
    }

    /// <summary>An ACK at or past the probe's end ends its episode (RFC 8985, section 7.4): if the probe repaired a loss, that was congestion.</summary>
    private void FinishTailLossProbe(in Packet packet, bool advanced)
    {
        if (_flight.TlpEnd is not { } end || packet.Ack < end)
            return;
        // An ACK just up to the probe may be for the original: without timestamps what comes next must tell.
        if (_flight.TlpIsRetransmission && packet.Ack == end && (advanced ? !_negotiated.Timestamps : packet.PayloadLength > 0 || packet.Sack.Count > 0))
            return;
        _flight.TlpEnd = null;
        if (_flight.TlpIsRetransmission && advanced && packet.Sack.Count == 0 && _flight.Recovery == Recovery.Open && !EchoesOriginal(packet))
        {
            _congestion.OnCongestion(_flight.TlpFlightSize, _stack.Now);
            _congestion.OnRecoveryExit(_stack.Now);
        }
    }

    private bool EchoesOriginal(in Packet packet) =>
        _negotiated.Timestamps && packet.HasTimestamps && packet.TsEcr != 0 && (int)(packet.TsEcr - _flight.FirstRetransmitTsVal) < 0;

    /// <summary>Was the ACK caused by the segment's latest transmission? Null when no timestamp tells.</summary>
    private bool? EchoesLatest(in SentSegment segment, in Packet packet) =>
        _negotiated.Timestamps && packet.HasTimestamps && packet.TsEcr != 0 ? (int)(packet.TsEcr - TsNow(segment.SentAt)) >= 0 : null;

    private void TryUndo(in Packet packet)
    {
        if (_flight.Recovery != Recovery.Open && _flight.MayUndo && EchoesOriginal(packet))
            Undo();
    }

    /// <summary>The losses were none: back to the window there was.</summary>
    private void Undo()
    {
        _flight.MayUndo = false;
        for (int i = 0; i < _flight.Count; i++)
            _flight[i].Flags &= ~SentFlags.Lost;
        _flight.LostBytes = 0;
        _flight.Rack.Reconsider(_flight, SndUna);
        _congestion.Undo();
        _flight.Recovery = Recovery.Open;
        _reordering.OnRecoveryExit();
    }

    private void DetectLoss(Instant now, bool advanced)
    {
        _flight.ReorderDeadline = Instant.Never;
        if (!_negotiated.Sack)
        {
            DetectLossWithoutSack(advanced);
            return;
        }
        if (_flight.SackedBytes == 0 && _flight.Recovery == Recovery.Open)
            return;
        SeqNumber firstLost = _flight.NoneLostBefore;
        TimeSpan reorderingWindow = _reordering.Window(_rtt.MinRtt, _rtt.Srtt, _flight.Recovery != Recovery.Open, _flight.SackedSegments);
        TimeSpan? wait = _flight.Rack.DetectLoss(_flight, now, reorderingWindow, ref _flight.LostBytes, ref _flight.RetransmittedBytes, ref firstLost);
        _flight.NoneLostBefore = firstLost;
        if (wait is { } span)
            _flight.ReorderDeadline = now + span;
    }

    /// <summary>NewReno (RFC 6582): the third duplicate, and each partial acknowledgement after it, says that the first segment is lost.</summary>
    private void DetectLossWithoutSack(bool advanced)
    {
        if (_flight.Count == 0)
            return;
        bool partial = advanced && _flight.Recovery == Recovery.Fast && SndUna < _flight.RecoveryPoint;
        if (!partial && !(_flight.Recovery == Recovery.Open && _flight.DupAcks >= DupThresh))
            return;
        ref SentSegment head = ref _flight[0];
        if (head.Has(SentFlags.Retransmitted) && !partial)
            return;
        _flight.MustRetransmit |= partial;
        if (!head.Has(SentFlags.Lost))
        {
            head.Flags |= SentFlags.Lost;
            _flight.NoneLostBefore = SndUna;
            _flight.LostBytes += head.SequenceLength;
        }
    }

    private void UpdateCongestion(long delivered, bool advanced, Instant now)
    {
        if (_flight.Recovery != Recovery.Open && SndUna >= _flight.RecoveryPoint)
        {
            if (_flight.Recovery == Recovery.Fast)
                _congestion.SetCwnd(Math.Max(_congestion.Ssthresh, 2L * _sndMss));
            _congestion.OnRecoveryExit(now);
            _reordering.OnRecoveryExit();
            _flight.Recovery = Recovery.Open;
        }
        if (_flight.Recovery == Recovery.Open && _flight.LostBytes > 0)
            EnterRecovery(now);
        if (_flight.Recovery == Recovery.Fast)
            Pace(delivered);
        else if (delivered > 0 && (_flight.Recovery == Recovery.Timeout || _flight.SackedBytes == 0 || advanced))
            _congestion.OnAck(delivered, _rtt.Srtt, _rtt.MinRtt, now, CwndIsUsed || _flight.Recovery == Recovery.Timeout);
    }

    /// <summary>Should the window grow? In slow start half of it in use is enough, since the next round trip may need it all.</summary>
    private bool CwndIsUsed => _flight.CwndLimited || (_congestion.Cwnd < _congestion.Ssthresh && _congestion.Cwnd < 2 * _flight.CwndUsed);

    private void NoteCwndUse(bool limited)
    {
        long outstanding = SndNxt - SndUna;
        if (!limited && SndUna < _flight.CwndUseEnd && (_flight.CwndLimited || outstanding <= _flight.CwndUsed))
            return;
        _flight.CwndLimited = limited;
        _flight.CwndUsed = outstanding;
        _flight.CwndUseEnd = SndNxt;
    }

    private void EnterRecovery(Instant now)
    {
        _flight.Recovery = Recovery.Fast;
        _flight.RecoveryPoint = SndNxt;
        _flight.RecoverFlightSize = Math.Max(SndNxt - SndUna, _sndMss);
        _flight.PrrDelivered = 0;
        _flight.PrrOut = 0;
        _flight.MayUndo = true;
        _flight.RetransmitsToUndo = 0;
        _flight.FirstRetransmitTsVal = TsNow(now);
        _flight.TlpEnd = null;
        _stack.Counters.FastRetransmits++;
        // The flight when the loss happened. ACKs that came along with the one that tells of it have taken from the present one already.
        _congestion.OnCongestion(_flight.CwndLimited ? _congestion.Cwnd : SndNxt - SndUna, now);
        _flight.MustRetransmit = true;
    }

    /// <summary>Segments that were too large for the path are sent again at the window there is.</summary>
    private void RepairWithoutCongestion()
    {
        _flight.Recovery = Recovery.Timeout;
        _flight.RecoveryPoint = SndNxt;
        _flight.MayUndo = false;
        _flight.TlpEnd = null;
        _flight.MustRetransmit = true;
    }

    /// <summary>Proportional rate reduction with the slow-start reduction bound (RFC 6937, section 3).</summary>
    private void Pace(long delivered)
    {
        _flight.PrrDelivered += delivered;
        long flight = InFlight;
        long ssthresh = _congestion.Ssthresh;
        long send;
        if (flight > ssthresh)
        {
            send = (_flight.PrrDelivered * ssthresh + _flight.RecoverFlightSize - 1) / _flight.RecoverFlightSize - _flight.PrrOut;
        }
        else
        {
            long limit = Math.Max(_flight.PrrDelivered - _flight.PrrOut, delivered) + _sndMss;
            send = Math.Min(ssthresh - flight, limit);
        }
        _congestion.SetCwnd(flight + Math.Max(send, _flight.MustRetransmit ? _sndMss : 0));
    }
}

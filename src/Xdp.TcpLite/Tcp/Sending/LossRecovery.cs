namespace Xdp.TcpLite;

internal enum RecoveryPhase : byte
{
    /// <summary>No loss known.</summary>
    Open,

    /// <summary>
    /// Repairing losses that acknowledgements have shown; <see cref="RateReduction"/> says how much may be sent.
    /// </summary>
    Fast,

    /// <summary>After a retransmission time-out: slow start over what was in flight.</summary>
    Timeout,
}

/// <summary>What a connection remembers of its losses while nothing is in flight.</summary>
internal struct LossHistory
{
    internal Reordering Reordering;
    internal SpuriousLoss Spurious;

    /// <summary>Segments sent again.</summary>
    internal uint Retransmits;

    /// <summary>Those of them that the peer had already, as it reports.</summary>
    internal uint SpuriousRetransmits;

    /// <summary>
    /// The peer reports sequence space that came twice. False when nothing of ours can be the reason.
    /// </summary>
    /// <param name="left">Where it begins.</param>
    /// <param name="right">Where it ends.</param>
    /// <param name="sndNxt">SND.NXT.</param>
    /// <param name="mss">Payload bytes of a full segment.</param>
    /// <param name="counters">Of the stack.</param>
    /// <param name="isSpurious">With this report it is known that the last losses were none.</param>
    internal bool OnDuplicateReported(
        SeqNumber left, SeqNumber right, SeqNumber sndNxt, int mss, TcpStackCounters counters, out bool isSpurious)
    {
        isSpurious = false;
        if (left >= right || right > sndNxt || Retransmits == SpuriousRetransmits)
            return false;
        SpuriousRetransmits++;
        counters.SpuriousRetransmits++;
        Reordering.OnDuplicateReported();
        isSpurious = Spurious.OnDuplicateReported(segments: (right - left + mss - 1) / mss);
        return true;
    }
}

/// <summary>What an ACK has delivered.</summary>
internal struct Delivery
{
    /// <summary>Bytes newly known to have arrived.</summary>
    internal long Bytes;

    /// <summary>Round trip of a segment that was sent once; null when that cannot be told.</summary>
    internal TimeSpan? Rtt;

    /// <summary>Our FIN is among it.</summary>
    internal bool Fin;
}

/// <summary>
/// Finds out what is lost, and has it sent again: the scoreboard (RFC 2018), RACK and the tail loss probe (RFC 8985) or
/// NewReno without SACK (RFC 6582), rate reduction (RFC 9937), the answer to a time-out, and the undoing of what proves
/// spurious. Tells congestion control; sends nothing itself. Part of a <see cref="Flight"/>.
/// </summary>
/// <param name="queue">The segments, which the sender cuts.</param>
internal sealed class LossRecovery(SendQueue queue)
{
    private const int DupThresh = 3;

    private Rack _rack;
    private Scoreboard _board;
    private RateReduction _reduction;

    /// <summary>Of the board, after the ACK before.</summary>
    private uint _everLostBefore;
    private ForwardRto _forwardRto;

    /// <summary>
    /// TSval of the first retransmission, of this episode or of one before that is still in flight: an ACK that echoes
    /// less was caused by an original (Eifel, RFC 3522; Linux's retrans_stamp).
    /// </summary>
    private uint _firstRetransmitTsVal;
    private DeliveryRate _rate;
    private SeqNumber _recoveryPoint;
    private int _dupAcks;

    /// <summary>The next retransmission goes out even where the congestion window has no room.</summary>
    private bool _mustRetransmit;

    // Armed by the sender, which knows when something else is in its way.
    internal TailLossProbe Probe = new();

    internal MtuProbe MtuProbe;

    /// <summary>When the first suspected segment is lost, if nothing is heard of it.</summary>
    internal Instant ReorderDeadline { get; private set; } = Instant.Never;

    internal RecoveryPhase Phase { get; private set; }

    /// <inheritdoc cref="TcpConnectionInfo.CaState"/>
    internal TcpCaState CaState => Phase switch
    {
        RecoveryPhase.Fast => TcpCaState.Recovery,
        RecoveryPhase.Timeout => TcpCaState.Loss,
        _ => _board.SackedBytes > 0 || _dupAcks > 0 ? TcpCaState.Disorder : TcpCaState.Open,
    };

    internal ref readonly Scoreboard Board => ref _board;

    internal ref readonly DeliveryRate Rate => ref _rate;

    /// <summary>There is something to send again.</summary>
    internal bool HasUnrepairedLoss => _board.HasUnrepairedLoss;

    /// <summary>A tail loss probe may be armed.</summary>
    internal bool MayProbe => Phase == RecoveryPhase.Open && _board.SackedBytes == 0 && Probe.EndSeq is null;

    /// <summary>A larger segment may be tried: nothing else would explain its loss.</summary>
    internal bool MayProbeMtu =>
        Phase == RecoveryPhase.Open && _board is { SackedBytes: 0, LostBytes: 0 } && !MtuProbe.IsRunning;

    /// <summary>Something is going to be in flight, from <paramref name="sndNxt"/> on.</summary>
    internal void Start(SeqNumber sndNxt)
    {
        _board.Start(sndNxt);
        // There was nothing to send until now. How fast the first segments are delivered tells little of the path.
        _rate.OnAppLimited(inFlight: 0);
    }

    /// <summary>Nothing is in flight any more: as new.</summary>
    internal void Clear()
    {
        _rack.Clear();
        _board = default;
        _reduction = default;
        _everLostBefore = 0;
        _forwardRto = default;
        _firstRetransmitTsVal = 0;
        _rate = default;
        _recoveryPoint = default;
        _dupAcks = 0;
        _mustRetransmit = false;
        Probe.Clear();
        MtuProbe = default;
        ReorderDeadline = Instant.Never;
        Phase = RecoveryPhase.Open;
    }

    /// <summary>Sequence space believed to be in the network.</summary>
    internal long InFlight(in SendState state) => _board.InFlight(state.Outstanding) - SackedWithoutSack(state);

    /// <summary>Without SACK each duplicate ACK says that one segment has left the network, but not which.</summary>
    private long SackedWithoutSack(in SendState state) => state.HasSack
        ? 0
        : Math.Min((long)_dupAcks * state.Mss, Math.Max(0, state.Outstanding - state.Mss - _board.LostBytes));

    // ---- an ACK, in this order

    /// <summary>Takes what the cumulative ACK covers off the queue. <paramref name="state"/> is as before it.</summary>
    internal void OnAcknowledged(
        in SendState state, ref LossHistory history, in RttEstimator rtt, in Packet packet, out Delivery delivery)
    {
        delivery = default;
        SeqNumber una = state.SndUna;
        bool isRepaired = false;
        while (queue.Count > 0 && una < packet.Ack)
        {
            ref SentSegment segment = ref queue[0];
            int length = segment.SequenceLength;
            int acked = Math.Min(length, packet.Ack - una);
            bool whole = acked == length;
            isRepaired |= segment.Has(SentFlags.EverRetransmitted);
            if (!segment.Has(SentFlags.Sacked))
            {
                delivery.Bytes += acked;
                if (whole)
                {
                    delivery.Rtt = state.Now - segment.SentAt;
                    OnDelivered(segment, state, ref history, rtt, packet, bySack: false);
                }
                _rate.OnDelivered(segment, acked, state.Now);
            }
            _board.Remove(segment, acked, whole);
            delivery.Fin |= whole && segment.Has(SentFlags.Fin);
            queue.Acknowledge(acked);
            una += acked;
        }
        // What lay behind a hole has waited for its repair: that is no round trip.
        if (isRepaired)
            delivery.Rtt = null;
        _board.OnAcknowledged(una);
        _rack.OnAcknowledged(una);
        Probe.CancelTail();
        _dupAcks = 0;
    }

    /// <summary>
    /// Marks what the SACK blocks cover, and takes note of a D-SACK (RFC 2883). Returns the bytes newly known to have
    /// arrived.
    /// </summary>
    internal long OnSacked(in SendState state, ref LossHistory history, in RttEstimator rtt, in Packet packet)
    {
        long delivered = 0;
        int first = 0;
        if (packet.TryGetDuplicateReport(out SeqNumber duplicateLeft, out SeqNumber duplicateRight))
        {
            first = 1;
            OnDuplicateReported(duplicateLeft, duplicateRight, state, ref history);
        }
        for (int i = first; i < packet.Sack.Count; i++)
        {
            (SeqNumber left, SeqNumber right) = packet.Sack[i];
            if (left >= right || right > state.SndNxt || right <= state.SndUna)
                continue;
            delivered += MarkSacked(SeqNumber.Max(left, state.SndUna), right, state, ref history, rtt, packet);
        }
        return delivered;
    }

    /// <summary>A duplicate ACK, without SACK: the peer has received some segment (RFC 5681, section 2).</summary>
    internal void OnDuplicateAck() => _dupAcks++;

    /// <summary>What follows from the ACK: was a probe answered, was a loss none, what is lost now?</summary>
    internal void Conclude(
        in SendState state, ref LossHistory history, in RttEstimator rtt, in Packet packet, in AckOutcome outcome)
    {
        bool open = Phase == RecoveryPhase.Open;
        bool advanced = outcome.Advanced;
        if (!advanced)
            Probe.OnAckWithoutNews(packet, outcome.WindowChanged);
        else if (Probe.TryFinish(packet, state.Timestamps) && open)
            ReduceOnce(state, ref history);
        bool echoesBefore = advanced && !open && history.Spurious.MayUndo
            && state.Timestamps.EchoesBefore(packet, _firstRetransmitTsVal);
        if (_forwardRto.Conclude(state, advanced, isDuplicate: _dupAcks > 0) || echoesBefore)
            Undo(state, ref history);
        DetectLoss(state, history, rtt, advanced);
    }

    /// <summary>
    /// The peer echoes a congestion mark: it counts as a loss, though nothing needs to be sent again (RFC 3168, section
    /// 6.1.2).
    /// </summary>
    internal static void OnCongestionEchoed(in SendState state, ref LossHistory history) =>
        ReduceOnce(state, ref history);

    private static void ReduceOnce(in SendState state, ref LossHistory history)
    {
        history.Spurious.End();
        state.Congestion.OnCongestion(state.Now);
        state.Congestion.OnRecoveryExit(state.Now);
    }

    /// <summary>
    /// Ends a recovery that is complete, begins one if there are losses, and adjusts the window to the ACK.
    /// </summary>
    internal void AdjustWindow(
        in SendState state, ref LossHistory history, in RttEstimator rtt, in CwndUse use, in Delivery delivery,
        bool advanced, bool isPaced)
    {
        ICongestionControl congestion = state.Congestion;
        if (Phase != RecoveryPhase.Open && state.SndUna >= _recoveryPoint)
        {
            if (Phase == RecoveryPhase.Fast && !congestion.SetsWindowInRecovery)
                congestion.SetCwnd(Math.Max(congestion.Ssthresh, 2L * state.Mss));
            congestion.OnRecoveryExit(state.Now);
            history.Reordering.OnRecoveryExit();
            Phase = RecoveryPhase.Open;
        }
        if (Phase == RecoveryPhase.Open && _board.LostBytes > 0)
        {
            if (TryBlameSize())
                RepairWithoutReduction(state, ref history);
            else
                EnterRecovery(state, ref history);
        }
        _rate.OnAckEnd(rtt.MinRtt, _board.EverLost, out RateSample rate);
        if (delivery.Bytes > 0)
        {
            congestion.OnAck(new AckSample
            {
                AckedBytes = delivery.Bytes,
                Rtt = delivery.Rtt ?? TimeSpan.Zero,
                Srtt = rtt.Srtt,
                MinRtt = rtt.MinRtt,
                Rate = ref rate,
                InFlight = InFlight(state),
                IsCwndFull = use.Limited,
                InFastRecovery = Phase == RecoveryPhase.Fast,
                HasSack = state.HasSack,
                CwndLimited = Phase == RecoveryPhase.Timeout || use.IsUsed(congestion),
                // In fast recovery rate reduction sets the window. And SACKs alone do not open it: they may be
                // reordering.
                MayGrow = Phase != RecoveryPhase.Fast
                    && (Phase == RecoveryPhase.Timeout || _board.SackedBytes == 0 || advanced),
                IsPaced = isPaced,
                Now = state.Now,
            });
            if (congestion.HoldsBack)
                _rate.OnAppLimited(InFlight(state));
        }
        if (Phase == RecoveryPhase.Fast && !congestion.SetsWindowInRecovery)
        {
            long inFlight = InFlight(state);
            bool isSafe = advanced && _board.EverLost == _everLostBefore;
            long send = _reduction.OnDelivered(delivery.Bytes, inFlight, congestion.Ssthresh, state.Mss, isSafe);
            congestion.SetCwnd(inFlight + Math.Max(send, _mustRetransmit ? state.Mss : 0));
        }
        _everLostBefore = _board.EverLost;
    }

    // ---- time

    /// <summary>The time of a suspected segment is over: it counts as lost.</summary>
    internal void OnReorderTimeout(in SendState state, ref LossHistory history, in RttEstimator rtt)
    {
        ReorderDeadline = Instant.Never;
        DetectLoss(state, history, rtt, advanced: false);
        AdjustWindow(state, ref history, rtt, default, default, advanced: false, isPaced: false);
    }

    /// <summary>
    /// The retransmission timer has fired (RFC 6298, section 5.4): everything that is not SACKed is lost.
    /// </summary>
    /// <param name="state">The sender.</param>
    /// <param name="isFirst">
    /// The first in a row. At the next ones the window is small already, and the threshold holds (RFC 5681, section
    /// 3.1).
    /// </param>
    /// <param name="history">Of the connection.</param>
    internal void OnRetransmitTimeout(in SendState state, bool isFirst, ref LossHistory history)
    {
        if (Phase == RecoveryPhase.Open && !state.Timestamps.Enabled)
            _forwardRto.Begin(state.SndNxt);
        else if (isFirst)
            _forwardRto.End();
        if (Phase != RecoveryPhase.Timeout)
            BeginEpisode(state, ref history);
        if (isFirst)
        {
            state.Congestion.OnRto(state.Now);
            for (int i = 0; i < queue.Count; i++)
            {
                if (!Rack.IsSettled(queue[i]))
                    MarkLost(ref queue[i], state);
            }
        }
        else
        {
            state.Congestion.SetCwnd(state.Mss);
        }
        Phase = RecoveryPhase.Timeout;
        _recoveryPoint = state.SndNxt;
        _dupAcks = 0;
        _board.MarkAllLost(queue);
        _rack.Reconsider(queue, state.SndUna);
        Probe.OnTimeout();
        MtuProbe.Forget();
        _mustRetransmit = true;
    }

    /// <summary>
    /// Segments in flight are larger than what the path takes. They are sent again in smaller ones. The window stays as
    /// it is: this is no sign of congestion.
    /// </summary>
    internal void OnTooLarge(in SendState state, ref LossHistory history)
    {
        _board.MarkTooLarge(queue, state.Mss);
        if (_board.LostBytes > 0 && Phase == RecoveryPhase.Open)
            RepairWithoutReduction(state, ref history);
    }

    private void RepairWithoutReduction(in SendState state, ref LossHistory history)
    {
        Phase = RecoveryPhase.Timeout;
        _recoveryPoint = state.SndNxt;
        history.Spurious.End();
        Probe.End();
        _mustRetransmit = true;
    }

    // ---- sending

    /// <summary>Index of the next segment to send again, if the congestion window has room for it; else -1.</summary>
    internal int NextRetransmission(in SendState state)
    {
        if (Probe.SendsTail)
            return Tail(state.Mss);
        if (_forwardRto.PrefersNewData)
            return -1;
        int index = _board.FindLost(queue, state.SndNxt);
        if (index < 0)
            return -1;
        if (!_mustRetransmit && InFlight(state) + queue[index].SequenceLength > state.Congestion.Cwnd)
            return -1;
        if (queue[index].Length > state.Mss)
            queue.Split(index, state.Mss);
        return index;
    }

    /// <summary>Index of the last segment, of which no more is sent than fits by now.</summary>
    private int Tail(int mss)
    {
        int last = queue.Count - 1;
        int beyond = queue[last].Length - mss;
        if (beyond <= 0)
            return last;
        queue.Split(last, beyond);
        return last + 1;
    }

    /// <summary>
    /// No new data can be sent. True when that changes what <see cref="NextRetransmission"/> says.
    /// </summary>
    internal bool OnNoNewData(SeqNumber sndNxt) => _forwardRto.TryGiveUp(sndNxt);

    /// <summary>A segment was sent for the first time.</summary>
    /// <param name="segment">The segment.</param>
    /// <param name="outstanding">Sequence space between SND.UNA and SND.NXT before it.</param>
    internal void OnSent(ref SentSegment segment, long outstanding)
    {
        long inFlight = _board.InFlight(outstanding) + segment.SequenceLength;
        _rate.OnSent(ref segment, firstInFlight: outstanding == 0, inFlight, _board.EverLost);
        _reduction.OnSent(segment.Length);
        Probe.OnNewDataSent();
    }

    /// <summary>A segment was sent again.</summary>
    internal void OnRetransmitted(ref SentSegment segment, in SendState state, ref LossHistory history)
    {
        _board.MarkRetransmitted(ref segment);
        _rate.OnSent(ref segment, firstInFlight: false, InFlight(state), _board.EverLost);
        _reduction.OnSent(segment.SequenceLength);
        if (state.HasSack)
            _rack.OnRetransmitted(queue, segment);
        history.Spurious.OnRetransmitted();
        Probe.CancelTail();
        MtuProbe.OnRetransmitted(segment);
        _mustRetransmit = false;
        history.Retransmits++;
        state.Counters.Retransmits++;
    }

    /// <summary>All that was written has been sent. The window may have had room for more.</summary>
    internal void OnAllSent(in SendState state)
    {
        if (InFlight(state) < state.Congestion.Cwnd && !HasUnrepairedLoss)
            _rate.OnAppLimited(InFlight(state));
    }

    // ---- below

    private void OnDelivered(
        in SentSegment segment, in SendState state, ref LossHistory history, in RttEstimator rtt, in Packet packet,
        bool bySack)
    {
        bool? echoesLatest = state.Timestamps.EchoesSince(packet, segment.SentAt);
        _rack.OnDelivered(segment, state.Now, rtt.MinRtt, echoesLatest, ref history.Reordering);
        MtuProbe.OnDelivered(segment);
        _forwardRto.OnDelivered(segment, bySack);
    }

    /// <summary>
    /// Marks the segments that lie entirely in a block. Runs that are marked already are skipped, and made longer. So
    /// over time the work is in proportion to the segments that were sent, whatever blocks a peer sends.
    /// </summary>
    private long MarkSacked(
        SeqNumber left, SeqNumber right, in SendState state, ref LossHistory history, in RttEstimator rtt,
        in Packet packet)
    {
        long delivered = 0;
        int last = queue.IndexOf(right) - 1;
        if (last >= 0 && queue[last].EndSeq > right)
            last--;
        if (last < 0)
            return 0;
        SeqNumber end = queue[last].EndSeq;
        for (int i = queue.IndexOf(left); i <= last;)
        {
            ref SentSegment segment = ref queue[i];
            if (segment.Has(SentFlags.Sacked))
            {
                SeqNumber run = segment.SackedTo;
                segment.SackedTo = SeqNumber.Max(run, end);
                i = run > segment.EndSeq ? queue.IndexOf(run) : i + 1;
                continue;
            }
            OnDelivered(segment, state, ref history, rtt, packet, bySack: true);
            _rate.OnDelivered(segment, segment.SequenceLength, state.Now);
            _board.MarkSacked(ref segment, end);
            delivered += segment.SequenceLength;
            i++;
        }
        return delivered;
    }

    private void OnDuplicateReported(SeqNumber left, SeqNumber right, in SendState state, ref LossHistory history)
    {
        if (!history.OnDuplicateReported(
            left, right, state.SndNxt, state.Mss, state.Counters, out bool isSpurious))
        {
            return;
        }
        Probe.OnDuplicateReported(right);
        if (isSpurious)
            Undo(state, ref history);
    }

    /// <summary>The losses were none: back to the window there was.</summary>
    private void Undo(in SendState state, ref LossHistory history)
    {
        history.Spurious.End();
        _forwardRto.End();
        _board.ForgetLosses(queue);
        _rack.Reconsider(queue, state.SndUna);
        state.Congestion.Undo();
        Phase = RecoveryPhase.Open;
        history.Reordering.OnRecoveryExit();
    }

    /// <inheritdoc cref="TcpConnectionInfo.ReorderingWindow"/>
    internal TimeSpan ReorderingWindow(in LossHistory history, in RttEstimator rtt) =>
        history.Reordering.Window(rtt.MinRtt, rtt.Srtt, Phase != RecoveryPhase.Open, _board.SackedSegments);

    private void DetectLoss(in SendState state, in LossHistory history, in RttEstimator rtt, bool advanced)
    {
        ReorderDeadline = Instant.Never;
        if (!state.HasSack)
        {
            DetectLossWithoutSack(state, advanced);
            return;
        }
        bool recovering = Phase != RecoveryPhase.Open;
        if (_board.SackedBytes == 0 && !recovering)
            return;
        TimeSpan reorderingWindow = ReorderingWindow(history, rtt);
        if (_rack.DetectLoss(queue, ref _board, state.Now, reorderingWindow, state.Congestion) is { } wait)
            ReorderDeadline = state.Now + wait;
    }

    /// <summary>
    /// NewReno (RFC 6582): the first segment is lost at the third duplicate, and then at each partial acknowledgement.
    /// </summary>
    private void DetectLossWithoutSack(in SendState state, bool advanced)
    {
        if (queue.Count == 0)
            return;
        bool partial = advanced && Phase == RecoveryPhase.Fast && state.SndUna < _recoveryPoint;
        if (!partial && !(Phase == RecoveryPhase.Open && _dupAcks >= DupThresh))
            return;
        ref SentSegment head = ref queue[0];
        if (head.Has(SentFlags.Retransmitted) && !partial)
            return;
        _mustRetransmit |= partial;
        if (!head.Has(SentFlags.Lost))
            MarkLost(ref head, state);
    }

    /// <summary>
    /// Is a segment that was larger than the others the only one that is lost? Then its size is the reason. When others
    /// are lost with it, it tells nothing, and is tried again later.
    /// </summary>
    private bool TryBlameSize()
    {
        if (!MtuProbe.IsRunning)
            return false;
        ref SentSegment probe = ref queue[queue.IndexOf(MtuProbe.Seq)];
        if (!probe.Has(SentFlags.Lost))
            return false;
        bool isAlone = probe.SequenceLength == _board.LostBytes;
        if (isAlone)
            MtuProbe.Fail();
        else
            MtuProbe.Forget();
        return isAlone;
    }

    private void MarkLost(ref SentSegment segment, in SendState state)
    {
        _board.MarkLost(ref segment);
        state.Congestion.OnLost(LossSample.Of(segment, _board.EverLost, state.Now));
    }

    private void EnterRecovery(in SendState state, ref LossHistory history)
    {
        Phase = RecoveryPhase.Fast;
        _recoveryPoint = state.SndNxt;
        _reduction.Begin(Math.Max(state.Outstanding, state.Mss));
        BeginEpisode(state, ref history);
        Probe.End();
        state.Counters.FastRetransmits++;
        state.Congestion.OnCongestion(state.Now);
        _mustRetransmit = true;
    }

    private void BeginEpisode(in SendState state, ref LossHistory history)
    {
        history.Spurious.Begin(_board.RetransmittedSegments);
        // What was sent again in the last episode may still be in flight. Its ACK echoes that time, and no original's.
        bool probes = Probe is { EndSeq: not null, IsRetransmission: true };
        if (_board.RetransmittedSegments <= (probes ? 1 : 0))
            _firstRetransmitTsVal = state.Timestamps.At(state.Now);
    }
}

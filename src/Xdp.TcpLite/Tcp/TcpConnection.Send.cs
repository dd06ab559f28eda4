namespace Xdp.TcpLite;

/// <summary>The decision what to send next, and making the segment.</summary>
public sealed partial class TcpConnection
{
    private bool _finQueued;
    private bool _finSent;
    private bool _finAcked;

    /// <summary>A probe of the window or of the peer's life is due: a bare segment from before the window, which must be answered.</summary>
    private bool _probeWindow;

    /// <summary>Duplicate ACKs owed beyond the first: a peer without SACK counts them.</summary>
    private byte _duplicateAcks;
    private ushort _ipId;
    private Instant _lastSentAt;
    private long _bytesSent;
    private uint _segmentsOut;

    /// <summary>Payload bytes that the peer has acknowledged: of what is outstanding, only the FIN is none.</summary>
    private long BytesAcked => Math.Max(0, _bytesSent - (SndNxt - SndUna) + (_finSent && !_finAcked ? 1 : 0));

    /// <summary>
    /// Segments between SND.UNA and SND.NXT: 11 MiB of full ones. A peer with a tiny MSS cannot make more of them, each of which costs memory
    /// and a place in every walk after a time-out.
    /// </summary>
    internal const int MaxSegmentsInFlight = 8192;

    /// <summary>A neighbour that was heard of this lately is still there (Linux's base_reachable_time).</summary>
    private static readonly TimeSpan s_pathTrust = TimeSpan.FromSeconds(30);

    private uint TsNow(Instant now) => TcpStack.TimestampClock(now) + _negotiated.TsOffset;

    /// <summary>Writes the next segment, if there is one to send now. Asked again until it says no.</summary>
    internal bool TryEmit(Instant now, out TxPacket packet, out bool starved)
    {
        packet = default;
        starved = false;
        if (State is TcpState.Closed or TcpState.TimeWait)
            return false;
        if (_flight.SynToSend)
            return EmitSyn(now, out packet, out starved);
        if (State == TcpState.SynSent)
            return false;
        if (State == TcpState.SynReceived)
            return _ackNow && EmitBare(SndNxt, now, out packet, out starved);
        if (NextRetransmission() is { } lost)
            return EmitSegment(lost, retransmission: true, now, out packet, out starved);
        if (NextNewLength(out bool fin) is var length && (length > 0 || fin))
            return EmitNew(length, fin, now, out packet, out starved);
        if (_probeWindow)
            return EmitBare(SndUna - 1, now, out packet, out starved);
        if (_ackNow)
            return EmitBare(SndNxt, now, out packet, out starved);
        // Written into a window that was shut already: no acknowledgement will come to arm the persist timer.
        if (SndNxt == SndUna && _flight.UnsentBytes > 0 && _flight.PersistDeadline == Instant.Never)
            ArmLossTimer(now, restart: false);
        return false;
    }

    /// <summary>Index of the next segment to send again, if the congestion window has room for it.</summary>
    private int? NextRetransmission()
    {
        if (_flight.ProbeTail)
            return _flight.Count - 1;
        if (_flight.LostBytes == 0)
            return null;
        for (int i = _flight.IndexOf(_flight.NoneLostBefore); i < _flight.Count; i++)
        {
            ref SentSegment segment = ref _flight[i];
            if ((segment.Flags & (SentFlags.Lost | SentFlags.Retransmitted | SentFlags.Sacked)) != SentFlags.Lost)
                continue;
            _flight.NoneLostBefore = segment.Seq;
            if (!_flight.MustRetransmit && InFlight + segment.SequenceLength > _congestion.Cwnd)
                return null;
            if (segment.Length > _sndMss)
                _flight.Split(i, _sndMss);
            return i;
        }
        _flight.NoneLostBefore = SndNxt;
        return null;
    }

    /// <summary>
    /// Payload bytes of the next new segment: what the peer's window, the congestion window, Nagle and silly-window avoidance (RFC 1122,
    /// section 4.2.3.4) allow.
    /// </summary>
    private int NextNewLength(out bool fin)
    {
        fin = false;
        Flight flight = _flight;
        if (_finSent || flight.Count >= MaxSegmentsInFlight)
            return 0;
        long unsent = flight.UnsentBytes;
        if (unsent == 0)
        {
            if (HasFlight)
                NoteCwndUse(limited: false);
            fin = _finQueued;
            return 0;
        }
        long window = SndUna + SndWnd - SndNxt;
        long room = Math.Min(window, _options.SendBufferMax - (SndNxt - SndUna));
        long allowed = flight.ProbeWithNewData ? room : Math.Min(room, _congestion.Cwnd - InFlight);
        int length = NextSegmentLength;
        if (length > allowed)
        {
            NoteCwndUse(limited: _congestion.Cwnd - InFlight < room);
            // A crumb of a window is taken only when it is a good part of all the peer ever offered, or nothing better has come for long.
            bool crumb = length > window && window > 0 && allowed == window && (2 * window >= MaxSndWnd || flight.TakeAnyWindow);
            return crumb ? (int)window : 0;
        }
        bool last = length == unsent;
        if (_cork && last && length < _sndMss && !_finQueued)
            return 0;
        if (length < _sndMss && last && !NoDelay && !flight.ProbeWithNewData && !_finQueued && SndNxt != SndUna)
            return 0;
        fin = last && _finQueued;
        return length;
    }

    /// <summary>Nagle and cork wait for full segments, which frames alone need not make.</summary>
    private int NextSegmentLength => _flight.NextLength(_sndMss, gather: _cork || !NoDelay);

    private bool EmitNew(int length, bool fin, Instant now, out TxPacket packet, out bool starved)
    {
        bool idle = SndNxt == SndUna;
        if (idle && length > 0)
            RestartAfterIdle(now);
        Flight flight = BorrowFlight();
        int before = flight.Count;
        flight.Cut(length, SndNxt, fin, now);
        if (!EmitSegment(before, retransmission: false, now, out packet, out starved))
        {
            flight.Uncut();
            ReturnFlightIfDone();
            return false;
        }
        SndNxt += length + (fin ? 1 : 0);
        _bytesSent += length;
        flight.PrrOut += length;
        if (idle)
            flight.FirstUnackedAt = now;
        if (fin)
        {
            _finSent = true;
            State = State == TcpState.CloseWait ? TcpState.LastAck : TcpState.FinWait1;
        }
        if (length > 0)
            Raise(TcpEvents.Sent);
        flight.TakeAnyWindow = false;
        flight.ProbeWithNewData = false;
        ArmLossTimer(now, restart: idle);
        return true;
    }

    private void RestartAfterIdle(Instant now)
    {
        ForgetPathMtu(now);
        if (_heardAt.Age(now) >= s_pathTrust)
            Raise(TcpEvents.PathSuspect);
        TimeSpan idle = now - _lastSentAt;
        TimeSpan rto = _rtt.Rto(_options, 0);
        if (_bytesSent > 0 && idle > rto)
            _congestion.OnIdle(idle, rto, now);
    }

    private bool EmitSegment(int index, bool retransmission, Instant now, out TxPacket packet, out bool starved)
    {
        ref SentSegment segment = ref _flight[index];
        starved = false;
        packet = default;
        Block frame;
        if (segment.Length > 0 && SendQueue.IsInPlace(segment))
        {
            frame = segment.Block!;
        }
        else
        {
            if (_stack.Frames.TryTakeForSegment() is not { } fresh)
            {
                starved = true;
                return false;
            }
            frame = fresh;
            SendQueue.CopyPayload(segment, frame.Span[FramePool.PayloadStart..]);
        }
        TcpFlags flags = TcpFlags.Ack;
        if (segment.Has(SentFlags.Fin))
            flags |= TcpFlags.Fin;
        if (segment.Length > 0 && (segment.Length < _sndMss || _flight.UnsentBytes == 0))
            flags |= TcpFlags.Psh;
        packet = Seal(frame, segment.Seq, segment.Length, flags, retransmission, now);
        if (!ReferenceEquals(frame, segment.Block))
            frame.FreeOnCompletion = true;
        segment.SentAt = now;
        if (retransmission)
            NoteRetransmission(ref segment, isFirst: index == 0, now);
        return true;
    }

    private void NoteRetransmission(ref SentSegment segment, bool isFirst, Instant now)
    {
        if (segment.Has(SentFlags.Retransmitted))
            _flight.RetransmittedBytes -= segment.SequenceLength;
        segment.Flags |= SentFlags.Retransmitted | SentFlags.EverRetransmitted;
        _flight.RetransmittedBytes += segment.SequenceLength;
        _flight.PrrOut += segment.SequenceLength;
        if (_negotiated.Sack)
            _flight.Rack.OnRetransmitted(_flight, segment);
        _retransmits++;
        _flight.RetransmitsToUndo++;
        _flight.MustRetransmit = false;
        _flight.ProbeTail = false;
        _stack.Counters.Retransmits++;
        ArmLossTimer(now, restart: isFirst);
    }

    private bool EmitBare(SeqNumber seq, Instant now, out TxPacket packet, out bool starved)
    {
        packet = default;
        Block? frame = _stack.Frames.TryTakeForSegment();
        starved = frame is null;
        if (frame is null)
            return false;
        packet = Seal(frame, seq, 0, TcpFlags.Ack, retransmission: false, now);
        frame.FreeOnCompletion = true;
        _probeWindow = false;
        return true;
    }

    private TxPacket Seal(Block frame, SeqNumber seq, int length, TcpFlags flags, bool retransmission, Instant now)
    {
        SegmentFields fields = NextFields(seq, length, flags, retransmission, now);
        int start = SegmentWriter.Write(frame.Span, FramePool.PayloadStart, length, _path.Value, Key, fields);
        if (length == 0 || !OwesBareAck)
        {
            _ackNow = _duplicateAcks > 0;
            if (_ackNow)
                _duplicateAcks--;
        }
        NoteAckSent();
        if (length > 0)
            _lastSentAt = now;
        _stack.Counters.BytesOut += length;
        return _stack.Submit(frame, start, FramePool.PayloadStart - start + length);
    }

    /// <summary>
    /// Acknowledges what has arrived up to now, although more of the same batch is to come: one ACK for all of it would leave the sender without
    /// its clock, and a whole flight without an answer if that ACK is lost.
    /// </summary>
    private void AckWithinBatch(Instant now)
    {
        if (!_stack.Reply(_path.Value, Key, NextFields(SndNxt, 0, TcpFlags.Ack, retransmission: false, now)))
            return;
        _ackNow = _duplicateAcks > 0;
        NoteAckSent();
    }

    private SegmentFields NextFields(SeqNumber seq, int length, TcpFlags flags, bool retransmission, Instant now)
    {
        ushort window = AdvertisedWindow();
        SeqNumber edge = RcvNxt + (window << _negotiated.RcvWndShift);
        _rcvAdvertised = SeqNumber.Max(_rcvAdvertised, edge);
        var fields = new SegmentFields
        {
            Seq = seq,
            Ack = RcvNxt,
            Flags = flags,
            Window = window,
            IpId = _ipId++,
        };
        if (_negotiated.Timestamps)
        {
            fields.HasTimestamps = true;
            fields.TsVal = TsNow(now);
            fields.TsEcr = _negotiated.TsRecent;
        }
        if (_negotiated.Sack && length == 0 && (!_reassembly.IsEmpty || _duplicateLeft != _duplicateRight))
            AddSack(ref fields);
        MarkOutgoing(ref fields, length, retransmission);
        return fields;
    }

    private void NoteAckSent()
    {
        _bytesSinceAck = 0;
        _segmentsSinceAck = 0;
        if (_quickAcks > 0)
            _quickAcks--;
        _delayedAckDeadline = Instant.Never;
        _lastAckSent = RcvNxt;
        _segmentsOut++;
    }

    /// <summary>
    /// A gap or a duplicate is to be reported, which data cannot do: it has no room for SACK, and no peer counts it as a duplicate ACK (RFC 5681,
    /// section 2).
    /// </summary>
    private bool OwesBareAck => _ackNow && (!_reassembly.IsEmpty || (_negotiated.Sack && _duplicateLeft != _duplicateRight));

    private void AddSack(ref SegmentFields fields)
    {
        int max = _negotiated.Timestamps ? 3 : 4;
        if (_duplicateLeft != _duplicateRight)
        {
            fields.Sack.Add(_duplicateLeft, _duplicateRight);
            _duplicateRight = _duplicateLeft;
        }
        _reassembly.WriteSackBlocks(ref fields.Sack, max);
    }

    private void SendReset() =>
        _stack.Reply(_path.Value, Key, new SegmentFields { Seq = SndNxt, Ack = RcvNxt, Flags = TcpFlags.Rst | TcpFlags.Ack });
}

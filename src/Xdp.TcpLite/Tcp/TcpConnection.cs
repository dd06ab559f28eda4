namespace Xdp.TcpLite;

/// <summary>
/// One TCP connection (RFC 9293): its state, the order in which a segment's arrival is worked through, what an application may ask of it, and its deadlines.
/// Belongs to its <see cref="TcpStack"/>, and is called only by whoever may call the stack at that moment.
/// </summary>
/// <remarks>
/// The variables are its parts': RCV in the <see cref="Receiver"/>, SND in the <see cref="Sender"/>, then <see cref="Timestamps"/>, <see cref="PathMtu"/> and
/// <see cref="Ecn"/>. The parts do not know the connection, nor each other; what one has to be told of another, the connection tells it. Nothing here
/// sends: calls change state and mark the connection, and <see cref="TcpStack.Emit"/> asks it for segments until it has none.
/// </remarks>
public sealed class TcpConnection : FlowEntry
{
    private readonly TcpStack _stack;

    /// <summary>The stack's, or a copy of them where the host has other wishes for this connection.</summary>
    private TcpStackOptions _options;
    private Receiver _rcv;
    private Sender _snd;
    private Timestamps _timestamps;
    private PathMtu _pathMtu = new();
    private Ecn _ecn;
    private RemoteHost _remote;

    /// <summary>Null once the connection is established, and when the peer opens it.</summary>
    private ActiveOpen? _opening;

    /// <summary>Null while no keepalive is asked for.</summary>
    private KeepAliveTimer? _keepAlive;
    private Instant _finWait2Deadline = Instant.Never;
    private TcpEvents _events;
    private ushort _ipId;
    private uint _segmentsIn;
    private uint _segmentsOut;

    // A connection is at most once on each of the stack's lists.
    internal bool IsReady;
    internal bool IsToEmit;

    internal TcpConnection(TcpStack stack, in FlowKey flow, SharedPath path, in NegotiatedOptions negotiated, SeqNumber iss, Instant now)
        : base(flow)
    {
        _stack = stack;
        _options = stack.Options;
        _remote = new RemoteHost(path, now);
        _snd = new Sender(iss, CongestionControls.Create(_options.CongestionControl)) { NoDelay = _options.NoDelay };
        Agree(negotiated, now);
        _rcv = new Receiver(Math.Min(_options.ReceiveBufferInitial, _options.ReceiveBufferMax), _snd.Mss, now);
    }

    public TcpState State { get; private set; }

    /// <summary>Where segments are sent: where the last one that was accepted came from, or what was set since.</summary>
    public LinkPath Path
    {
        get => _remote.Path;
        set => _remote.Take(_stack.Paths.Share(value));
    }

    /// <summary>The host's own object for this connection. The stack does not look at it.</summary>
    public object? Owner { get; set; }

    /// <summary>Send small segments at once (true), or collect them while data is unacknowledged (false).</summary>
    public bool NoDelay
    {
        get => _snd.NoDelay;
        set => _snd.NoDelay = value;
    }

    /// <summary>Send only full segments until it is taken back or the connection is shut down.</summary>
    public bool Cork
    {
        get => _snd.Cork;
        set
        {
            _snd.Cork = value;
            if (!value)
                RequestEmit();
        }
    }

    /// <summary>How long an unacknowledged segment, or a window that stays shut, is put up with (RFC 5482, the local side).</summary>
    public TimeSpan UserTimeout
    {
        get => _options.UserTimeout;
        set
        {
            if (value != UserTimeout)
                _options = _options with { UserTimeout = value };
        }
    }

    /// <summary>Idle time before the first keepalive probe; null sends none.</summary>
    public TimeSpan? KeepAlive
    {
        get => _options.KeepAlive;
        set
        {
            if (value != KeepAlive)
                _options = _options with { KeepAlive = value };
            if (State is not (TcpState.Closed or TcpState.SynSent))
                StartKeepAlive(_stack.Now);
        }
    }

    internal SeqNumber SndUna => _snd.SndUna;
    internal SeqNumber SndNxt => _snd.SndNxt;
    internal SeqNumber RcvNxt => _rcv.RcvNxt;

    // ---- what an application asks for

    /// <summary>In-order bytes that have not been taken.</summary>
    public long ReadableBytes => _rcv.ReadableBytes;

    /// <summary>
    /// Takes in-order blocks until <paramref name="maxBytes"/> are reached or exceeded. The caller owns them and returns each. The receive window stays as
    /// it is until <see cref="ReleaseWindow"/>.
    /// </summary>
    public BlockQueue TakeReceived(long maxBytes) => _rcv.Take(maxBytes);

    /// <summary>
    /// The application has examined <paramref name="bytes"/> of what was taken: they no longer count against the receive buffer.
    /// </summary>
    public void ReleaseWindow(long bytes)
    {
        TimeSpan roundTrip = _snd.Rtt.HasSample ? _snd.Rtt.Srtt : _options.InitialRto;
        if (_rcv.Release(bytes, CanReceive, roundTrip, _options.ReceiveBufferMax, _stack.Now))
            AckNow();
    }

    /// <summary>
    /// Takes over the blocks of <paramref name="data"/> and will send their bytes. After <see cref="Shutdown"/> or the connection's end, the blocks are returned
    /// unsent.
    /// </summary>
    public void Write(ref BlockQueue data)
    {
        if (_snd.FinQueued || !CanSend)
        {
            data.ReturnAll();
            return;
        }
        _snd.Write(ref data, _stack.Environment);
        RequestEmit();
    }

    /// <summary>Written bytes that were never sent.</summary>
    public long UnsentBytes => _snd.UnsentBytes;

    /// <summary>Written bytes that are not acknowledged, sent or not.</summary>
    public long UnacknowledgedBytes => _snd.UnacknowledgedBytes;

    /// <summary>Payload bytes that a full segment carries now, options deducted.</summary>
    public int EffectiveMss => _snd.Mss;

    /// <summary>Nothing more will be written: FIN follows the last byte. Idempotent.</summary>
    public void Shutdown()
    {
        if (_snd.FinQueued || !CanSend)
            return;
        _snd.Shutdown();
        RequestEmit();
    }

    /// <summary>
    /// Nothing more will be read either: received bytes are dropped from here on, acknowledged, and do not turn the FIN into a RST. Written bytes are still
    /// delivered. Implies <see cref="Shutdown"/>.
    /// </summary>
    public void Close()
    {
        Shutdown();
        if (_rcv.Discards)
            return;
        _rcv.Discard(_stack.Environment);
        if (State == TcpState.FinWait2)
            ArmFinWait2(_stack.Now);
    }

    /// <summary>
    /// Ends the connection with a RST. What was not sent is dropped, and so is what was received and not taken. Idempotent.
    /// </summary>
    public void Abort()
    {
        if (State == TcpState.Closed)
        {
            // It ended in good order before, and what was received has waited for the application, which does not want it.
            _rcv.ReturnReceived();
            return;
        }
        if (State != TcpState.SynSent)
            SendReset();
        Finish(TcpEvents.None);
    }

    /// <summary>What happened since the last call.</summary>
    public TcpEvents TakeEvents()
    {
        TcpEvents events = _events;
        _events = TcpEvents.None;
        return events;
    }

    public TcpConnectionInfo GetInfo(Instant now)
    {
        LossRecovery? recovery = _snd.Flight?.Recovery;
        return new()
        {
            State = State,
            SndMss = _snd.Mss,
            RcvMss = _rcv.Mss,
            Cwnd = _snd.Congestion.Cwnd,
            Ssthresh = _snd.Congestion.Ssthresh,
            PacingRate = _snd.Congestion.PacingRate(_snd.Rtt.Srtt),
            DeliveryRate = recovery?.Rate.BytesPerSecond ?? 0,
            SndWnd = _snd.SndWnd,
            RcvWnd = _rcv.AnnouncedWindow,
            Srtt = _snd.Rtt.Srtt,
            RttVar = _snd.Rtt.RttVar,
            MinRtt = _snd.Rtt.MinRtt,
            Rto = _snd.Rto(_options),
            Unacked = _snd.Outstanding,
            Sacked = recovery?.Board.SackedBytes ?? 0,
            Lost = recovery?.Board.LostBytes ?? 0,
            Unsent = _snd.UnsentBytes,
            TotalRetransmits = _snd.Losses.Retransmits,
            SpuriousRetransmits = _snd.Losses.SpuriousRetransmits,
            Backoff = _opening?.Retries ?? _snd.Backoff,
            ReorderingSeen = _snd.Losses.Reordering.Seen,
            RcvSpace = _rcv.BufferSize,
            BytesSent = _snd.BytesSent,
            BytesAcked = _snd.BytesAcked,
            BytesReceived = _rcv.BytesReceived,
            SegmentsIn = _segmentsIn,
            SegmentsOut = _segmentsOut,
        };
    }

    // ---- opening

    /// <summary>We open: a SYN goes out.</summary>
    internal void StartActive(in NegotiatedOptions offer, Instant now)
    {
        _opening = new ActiveOpen(offer, _options.InitialRto, now);
        _snd.SendSyn();
        State = TcpState.SynSent;
        ArmWheel();
        RequestEmit();
    }

    /// <summary>The peer opens, and the segment that acknowledges our SYN has arrived. It is to be received next.</summary>
    internal void StartPassive(HalfOpen half, in Packet packet, Instant now)
    {
        _rcv.Start(half.Irs, SynOptions.InitialWindow(_options), half.Options.RcvWndShift);
        _snd.SendSyn();
        _snd.AckSyn();
        State = TcpState.Established;
        StartRtt(packet, half is { Retransmits: 0, IsRepeated: false } ? half.SentAt : null, half.Retransmits, now);
        _snd.StartWindow(packet, scaled: true);
        StartKeepAlive(now);
        ArmWheel();
    }

    /// <summary>The segments follow what both sides' SYNs say, or what ours offers.</summary>
    private void Agree(in NegotiatedOptions options, Instant now)
    {
        _timestamps = new Timestamps(options, now);
        _ecn = new Ecn(options.Ecn);
        _pathMtu.Negotiate(options.PeerMss);
        _snd.Negotiate(options);
        _snd.StartMss(FullSegment);
    }

    /// <summary>What the handshake tells about the path.</summary>
    /// <param name="packet">The ACK of our SYN.</param>
    /// <param name="sentAt">When our SYN was sent, if it was sent once: else only a timestamp can tell which one this answers (Karn).</param>
    /// <param name="retransmits">One lost SYN says little about the path; after more the window starts at one segment (RFC 6928, section 2).</param>
    /// <param name="now">The present.</param>
    private void StartRtt(in Packet packet, Instant? sentAt, int retransmits, Instant now)
    {
        if ((sentAt is { } at ? now - at : _timestamps.Elapsed(packet, now)) is { } sample)
            _snd.Rtt.Sample(sample, now);
        else
            _snd.Rtt.FallBack();
        if (retransmits > 1)
            _snd.Congestion.SetCwnd(_snd.Mss);
    }

    private void OnSynAcknowledged(in Packet packet, Instant now)
    {
        StartRtt(packet, _opening!.SentOnceAt, _opening.Retries, now);
        _opening = null;
        _snd.AckSyn();
        State = TcpState.Established;
        StartKeepAlive(now);
        Raise(TcpEvents.Established);
    }

    // ---- arrival of a segment: RFC 9293, section 3.10.7, with RFC 5961 and RFC 7323 where they amend it

    /// <returns>Whether the frame is kept.</returns>
    internal bool Receive(in Packet packet, Block frame, int start, Instant now)
    {
        _segmentsIn++;
        bool kept = State switch
        {
            TcpState.SynSent => ReceiveInSynSent(packet, now),
            TcpState.SynReceived when IsSimultaneousSynAck(packet) => ReceiveSimultaneousSynAck(packet, now),
            _ => ReceiveSynchronised(packet, frame, start, now),
        };
        if (State != TcpState.Closed)
            ArmWheel();
        return kept;
    }

    private bool ReceiveSynchronised(in Packet packet, Block frame, int start, Instant now)
    {
        if (!CheckTimestamp(packet, now) || !CheckSequence(packet, now) || !CheckReset(packet, now) || !CheckSyn(packet, now) || !CheckAck(packet, now))
            return false;
        NoteAlive(packet, now);
        _timestamps.Update(packet, _rcv.LastAckSent, now);
        if (_ecn.Receive(packet))
            AckNow();
        Acknowledge(packet, now);
        if (State is TcpState.Closed)
            return false;
        bool kept = packet.PayloadLength > 0 && ReceivePayload(packet, frame, start + packet.PayloadStart, now);
        if (packet.IsFin)
            _rcv.NoteFin(packet, CanReceive);
        if (_rcv.Acks.IsDue)
            RequestEmit();
        if (_rcv.TryTakeFin(_stack.Environment))
            OnPeerFin(now);
        return kept;
    }

    // First: PAWS (RFC 7323, section 5.3).
    private bool CheckTimestamp(in Packet packet, Instant now)
    {
        if (!_timestamps.IsOld(packet, now))
            return true;
        _stack.Drop(DropReason.PawsFailed);
        AnswerInvalid(packet, now);
        return false;
    }

    // Second: is any of it in the window?
    private bool CheckSequence(in Packet packet, Instant now)
    {
        if (_rcv.IsAcceptable(packet))
            return true;
        if (_rcv.IsWindowProbe(packet))
        {
            AckNow();
            return true;
        }
        _stack.Drop(DropReason.OutOfWindow);
        if (packet.IsRst)
            return false;
        if (packet.SegmentLength > 0 && !packet.IsSyn && packet.End <= RcvNxt)
            _rcv.Acks.OnDuplicate(packet.Seq, packet.End);
        AnswerInvalid(packet, now);
        return false;
    }

    // Third: RST, exact or challenged (RFC 5961, section 3.2).
    private bool CheckReset(in Packet packet, Instant now)
    {
        if (!packet.IsRst)
            return true;
        if (packet.Seq == RcvNxt)
        {
            _stack.Counters.RstsReceived++;
            Finish(TcpEvents.Reset);
        }
        else
        {
            _stack.Drop(DropReason.BadRst);
            Challenge(now);
        }
        return false;
    }

    // Fourth: SYN is always challenged (RFC 5961, section 4.2).
    private bool CheckSyn(in Packet packet, Instant now)
    {
        if (!packet.IsSyn)
            return true;
        _stack.Drop(DropReason.BadSyn);
        Challenge(now);
        return false;
    }

    // Fifth: ACK, within (SND.UNA - MAX.SND.WND) and SND.NXT (RFC 5961, section 5.2).
    private bool CheckAck(in Packet packet, Instant now)
    {
        if (!packet.IsAck)
        {
            _stack.Drop(DropReason.MissingAck);
            return false;
        }
        if (State == TcpState.SynReceived && packet.Ack != SndNxt)
        {
            _stack.Drop(DropReason.BadAck);
            _stack.Reset(packet);
            return false;
        }
        if (packet.Ack > SndNxt)
        {
            _stack.Drop(DropReason.BadAck);
            AnswerInvalid(packet, now);
            return false;
        }
        if (packet.Ack < SndUna && (uint)(SndUna - packet.Ack) > _snd.MaxSndWnd)
        {
            _stack.Drop(DropReason.BadAck);
            Challenge(now);
            return false;
        }
        return true;
    }

    /// <summary>An acceptable segment: the peer is alive, and its segments come this way.</summary>
    private void NoteAlive(in Packet packet, Instant now)
    {
        _remote.Heard(packet.Path, _stack.Paths, now);
        _keepAlive?.Heard(now);
    }

    private void Acknowledge(in Packet packet, Instant now)
    {
        if (State == TcpState.SynReceived && packet.Ack > SndUna)
            OnSynAcknowledged(packet, now);
        TcpStackCounters counters = _stack.Counters;
        AckOutcome outcome = _snd.Acknowledge(packet, _timestamps, counters, now);
        if (outcome.AllAcknowledged)
            Raise(TcpEvents.AllAcknowledged);
        if (outcome.Delivery.Fin)
        {
            OnFinAcknowledged(packet, now);
            if (State == TcpState.Closed)
                return;
        }
        if (outcome.PriorFlight > 0)
        {
            _snd.Conclude(packet, outcome, _timestamps, counters, now);
            if (_ecn.TryTakeEcho(packet, _snd.Phase != RecoveryPhase.Open, SndNxt))
                _snd.OnCongestionEchoed(outcome.PriorFlight, _timestamps, counters, now);
            _snd.AdjustWindow(outcome, _timestamps, counters, now);
            _snd.ArmTimers(_options, now, restart: outcome.Advanced);
        }
        else if (outcome.WindowChanged && _snd.UnsentBytes > 0)
        {
            _snd.ArmTimers(_options, now, restart: true);
        }
        if (_snd.WantsToSend)
            RequestEmit();
        _snd.ReturnFlightIfDone(_stack.Environment);
    }

    private void OnFinAcknowledged(in Packet packet, Instant now)
    {
        switch (State)
        {
            case TcpState.FinWait1:
                State = TcpState.FinWait2;
                if (_rcv.Discards)
                    ArmFinWait2(now);
                break;
            case TcpState.Closing:
                if (packet.IsFin)
                    _rcv.Acks.Owe();
                EnterTimeWait(now);
                break;
            case TcpState.LastAck:
                Finish(TcpEvents.None, inOrder: true);
                break;
        }
    }

    // Seventh: the payload. Urgent data is read in line, as RFC 6093 advises.
    private bool ReceivePayload(in Packet packet, Block frame, int offset, Instant now)
    {
        if (!CanReceive || !_rcv.TryTrim(packet, out SeqNumber seq, out int skipped, out int length))
            return false;
        if (_rcv.Acks.IsDueWithinBatch)
            AckWithinBatch(now);
        long before = _rcv.BytesReceived;
        bool kept = _rcv.Accept(seq, frame, offset + skipped, length, _snd.HasSack, _options, _stack.Environment);
        if (_rcv.BytesReceived != before && !_rcv.Discards)
            Raise(TcpEvents.Readable);
        return kept;
    }

    // Eighth: the peer's FIN, with everything before it.
    private void OnPeerFin(Instant now)
    {
        RequestEmit();
        Raise(TcpEvents.PeerClosed);
        switch (State)
        {
            case TcpState.Established:
                State = TcpState.CloseWait;
                break;
            case TcpState.FinWait1:
                // Had our FIN been acknowledged, the state would be FIN-WAIT-2 by now.
                State = TcpState.Closing;
                break;
            case TcpState.FinWait2:
                EnterTimeWait(now);
                break;
        }
    }

    /// <summary>SYN-SENT (RFC 9293, section 3.10.7.3).</summary>
    private bool ReceiveInSynSent(in Packet packet, Instant now)
    {
        bool acceptableAck = packet.IsAck && packet.Ack == SndNxt;
        if (packet.IsAck && !acceptableAck)
        {
            _stack.Reset(packet);
            _stack.Drop(DropReason.BadAck);
            return false;
        }
        if (packet.IsRst)
        {
            if (acceptableAck)
                Finish(TcpEvents.Reset);
            else
                _stack.Drop(DropReason.BadRst);
            return false;
        }
        if (!packet.IsSyn)
        {
            _stack.Drop(DropReason.BadSyn);
            return false;
        }
        ActiveOpen opening = _opening!;
        NegotiatedOptions agreed = SynOptions.Negotiate(packet, opening.Options.RcvWndShift, opening.Options.TsOffset);
        opening.OnPeerSyn(agreed, answer: !acceptableAck);
        Agree(agreed, now);
        _remote.Heard(packet.Path, _stack.Paths, now);
        _rcv.Start(packet.Seq, SynOptions.InitialWindow(_options), agreed.RcvWndShift);
        _snd.StartWindow(packet, scaled: false);
        State = TcpState.SynReceived;
        if (acceptableAck)
        {
            OnSynAcknowledged(packet, now);
            _rcv.Acks.Owe();
        }
        RequestEmit();
        return false;
    }

    /// <summary>
    /// The other side of a simultaneous open has seen our SYN (RFC 9293, section 3.5, figure 8). Its own SYN lies left of the window by now.
    /// </summary>
    private bool IsSimultaneousSynAck(in Packet packet) =>
        packet.IsSyn && packet.IsAck && !packet.IsRst && packet.Seq == RcvNxt - 1 && packet.Ack == SndNxt;

    private bool ReceiveSimultaneousSynAck(in Packet packet, Instant now)
    {
        _snd.StartWindow(packet, scaled: false);
        _timestamps.Restart(packet);
        OnSynAcknowledged(packet, now);
        AckNow();
        return false;
    }

    /// <summary>A router has dropped a packet of ours and quotes it.</summary>
    internal void ReceiveTooBig(in IcmpTooBig news, Instant now)
    {
        if (news.Seq < SndUna || news.Seq >= SndNxt || !_pathMtu.OnTooBig(news.Mtu, _options.Mtu, Key.Local.IsIPv4, now))
        {
            _stack.Drop(DropReason.UnknownIcmp);
            return;
        }
        UpdateMss();
        _snd.OnTooLarge(_options, _timestamps, _stack.Counters, now);
        ArmWheel();
        RequestEmit();
    }

    /// <summary>Payload bytes of a full segment, by what is known of the path and the peer.</summary>
    private int FullSegment =>
        _pathMtu.EffectiveMss(HeaderLength + OptionsLength, OptionsLength, _options.Mtu, _stack.Frames.PayloadCapacity);

    /// <summary>Bytes of the headers of IP and TCP.</summary>
    private int HeaderLength => Key.Local.IsIPv4 ? 40 : 60;

    /// <summary>Bytes of the options that every segment carries.</summary>
    private int OptionsLength => _timestamps.Enabled ? SegmentWriter.TimestampsLength : 0;

    private void UpdateMss() => _snd.ChangeMss(FullSegment);

    // ---- answers

    private void AckNow()
    {
        _rcv.Acks.Owe();
        RequestEmit();
    }

    /// <summary>Answers a segment that is not acceptable: always when it carries data (a lost ACK or a probe), else at a limited rate.</summary>
    private void AnswerInvalid(in Packet packet, Instant now)
    {
        if (packet.SegmentLength > 0 && !packet.IsSyn)
            AckNow();
        else
            Challenge(now);
    }

    private void Challenge(Instant now)
    {
        if (!_remote.Challenges.TryTake(now))
            return;
        _stack.Counters.ChallengeAcks++;
        AckNow();
    }

    private void SendReset() =>
        _stack.Reply(_remote.Path, Key, new SegmentFields { Seq = SndNxt, Ack = RcvNxt, Flags = TcpFlags.Rst | TcpFlags.Ack });

    // ---- what goes out

    /// <summary>Writes the next segment, if there is one to send now. Asked again until it says no.</summary>
    internal bool TryEmit(Instant now, out TxPacket packet, out bool starved)
    {
        packet = default;
        starved = false;
        if (State is TcpState.Closed or TcpState.TimeWait)
            return false;
        bool emitted = _opening is { } opening
            ? TryEmitOpening(opening, now, out packet, out starved)
            : TryEmitSynchronised(now, out packet, out starved);
        if (!starved)
            ArmWheel();
        return emitted;
    }

    private bool TryEmitOpening(ActiveOpen opening, Instant now, out TxPacket packet, out bool starved)
    {
        packet = default;
        starved = false;
        if (!opening.SynIsDue)
            return State == TcpState.SynReceived && _rcv.Acks.IsDue && EmitBare(SndNxt, now, out packet, out starved);
        if (!TryTakeFrame(out Block frame, out starved))
            return false;
        opening.OnSent();
        SegmentFields fields = _stack.SynFields(Key, opening.Options, answers: State == TcpState.SynReceived, now);
        fields.Seq = SndUna;
        fields.Ack = RcvNxt;
        int start = SegmentWriter.Write(frame.Span, FramePool.PayloadStart, 0, _remote.Path, Key, fields);
        frame.FreeOnCompletion = true;
        _segmentsOut++;
        packet = _stack.Submit(frame, start, FramePool.PayloadStart - start);
        return true;
    }

    private bool TryEmitSynchronised(Instant now, out TxPacket packet, out bool starved)
    {
        SendDecision next = _snd.Next(_options, _timestamps, _stack.Counters, now);
        if (next.IsRetransmission)
            return EmitAgain(next.Retransmission, now, out packet, out starved);
        if (next.IsNew)
            return EmitNew(next, now, out packet, out starved);
        if (_snd.ProbeIsDue)
            return EmitBare(SndUna - 1, now, out packet, out starved);
        if (_rcv.Acks.IsDue)
            return EmitBare(SndNxt, now, out packet, out starved);
        _snd.ArmPersistIfBlocked(_options, now);
        packet = default;
        starved = false;
        return false;
    }

    private bool EmitAgain(int index, Instant now, out TxPacket packet, out bool starved)
    {
        if (!EmitSegment(index, retransmission: true, now, out packet, out starved))
            return false;
        _snd.OnRetransmitted(index, _options, _timestamps, _stack.Counters, now);
        return true;
    }

    private bool EmitNew(in SendDecision next, Instant now, out TxPacket packet, out bool starved)
    {
        if (_snd.Outstanding == 0 && next.Length > 0)
            RestartAfterIdle(now);
        int index = _snd.Cut(next, _stack.Environment, now);
        if (!EmitSegment(index, retransmission: false, now, out packet, out starved))
        {
            _snd.Uncut(_stack.Environment);
            return false;
        }
        _snd.OnSent(index, next, _options, now);
        if (next.Fin)
            State = State == TcpState.CloseWait ? TcpState.LastAck : TcpState.FinWait1;
        if (next.Length > 0)
            Raise(TcpEvents.Sent);
        return true;
    }

    private void RestartAfterIdle(Instant now)
    {
        if (_pathMtu.Forget(now))
            UpdateMss();
        if (_remote.IsSuspect(now))
            Raise(TcpEvents.PathSuspect);
        _snd.RestartAfterIdle(_options, now);
    }

    /// <summary>Writes a segment of the send queue: where its payload lies, or into a fresh frame.</summary>
    private bool EmitSegment(int index, bool retransmission, Instant now, out TxPacket packet, out bool starved)
    {
        SendQueue queue = _snd.Flight!.Queue;
        ref SentSegment segment = ref queue[index];
        starved = false;
        packet = default;
        Block frame;
        if (segment.Length > 0 && SendQueue.IsInPlace(segment))
        {
            frame = segment.Block!;
        }
        else
        {
            if (!TryTakeFrame(out frame, out starved))
                return false;
            SendQueue.CopyPayload(segment, frame.Span[FramePool.PayloadStart..]);
        }
        TcpFlags flags = TcpFlags.Ack;
        if (segment.Has(SentFlags.Fin))
            flags |= TcpFlags.Fin;
        if (segment.Length > 0 && (segment.Length < _snd.Mss || queue.UnsentBytes == 0))
            flags |= TcpFlags.Psh;
        packet = Seal(frame, segment.Seq, segment.Length, flags, retransmission, now);
        if (!ReferenceEquals(frame, segment.Block))
            frame.FreeOnCompletion = true;
        return true;
    }

    /// <summary>A segment without payload: an ACK, or with a number from before the window a probe.</summary>
    private bool EmitBare(SeqNumber seq, Instant now, out TxPacket packet, out bool starved)
    {
        packet = default;
        if (!TryTakeFrame(out Block frame, out starved))
            return false;
        packet = Seal(frame, seq, 0, TcpFlags.Ack, retransmission: false, now);
        frame.FreeOnCompletion = true;
        _snd.ProbeIsDue = false;
        return true;
    }

    private bool TryTakeFrame(out Block frame, out bool starved)
    {
        Block? taken = _stack.Frames.TryTakeForSegment();
        frame = taken!;
        starved = taken is null;
        return !starved;
    }

    /// <summary>Writes the headers in front of the payload.</summary>
    private TxPacket Seal(Block frame, SeqNumber seq, int length, TcpFlags flags, bool retransmission, Instant now)
    {
        SegmentFields fields = NextFields(seq, length, flags, retransmission, now);
        int start = SegmentWriter.Write(frame.Span, FramePool.PayloadStart, length, _remote.Path, Key, fields);
        _rcv.OnSent(settles: length == 0 || !_rcv.OwesBareAck(_snd.HasSack));
        _segmentsOut++;
        _stack.Counters.BytesOut += length;
        return _stack.Submit(frame, start, FramePool.PayloadStart - start + length);
    }

    /// <summary>
    /// Acknowledges what has arrived up to now, although more of the same batch is to come: one ACK for all of it would leave the sender without its clock,
    /// and a whole flight without an answer if that ACK is lost.
    /// </summary>
    private void AckWithinBatch(Instant now)
    {
        if (!_stack.Reply(_remote.Path, Key, NextFields(SndNxt, 0, TcpFlags.Ack, retransmission: false, now)))
            return;
        _rcv.OnSentWithinBatch();
        _segmentsOut++;
    }

    private SegmentFields NextFields(SeqNumber seq, int length, TcpFlags flags, bool retransmission, Instant now)
    {
        var fields = new SegmentFields
        {
            Seq = seq,
            Ack = RcvNxt,
            Flags = flags,
            Window = _rcv.Announce(),
            IpId = _ipId++,
        };
        if (_timestamps.Enabled)
        {
            fields.HasTimestamps = true;
            fields.TsVal = _timestamps.At(now);
            fields.TsEcr = _timestamps.Recent;
        }
        if (_snd.HasSack && length == 0)
            _rcv.WriteSack(ref fields, _timestamps.Enabled ? 3 : 4);
        _ecn.Mark(ref fields, length, retransmission);
        return fields;
    }

    // ---- deadlines. The connection has one entry in the stack's wheel, at or before the earliest of them. Disarming one only changes a field: an entry that
    // fires early finds nothing due and goes back to sleep.

    private Instant NextDeadline
    {
        get
        {
            Instant next = Instant.Min(Instant.Min(_snd.NextDeadline, _rcv.Acks.Deadline), _finWait2Deadline);
            if (_keepAlive is { } keepAlive)
                next = Instant.Min(next, keepAlive.Deadline);
            return _opening is { } opening ? Instant.Min(next, opening.Deadline) : next;
        }
    }

    private void ArmWheel()
    {
        Instant next = NextDeadline;
        if (next < WheelDeadline)
            _stack.Wheel.Schedule(this, next);
    }

    internal void OnDeadline(Instant now)
    {
        if (_rcv.Acks.Deadline <= now)
        {
            _rcv.Acks.OnDeadline();
            _stack.Counters.DelayedAcks++;
            RequestEmit();
        }
        if (_opening is { } opening && opening.Deadline <= now)
            OnSynTimeout(opening, now);
        if (_snd.NextDeadline <= now)
            OnSenderDeadline(now);
        if (_keepAlive is { } keepAlive && keepAlive.Deadline <= now)
            OnKeepAliveTimeout(keepAlive, now);
        if (_finWait2Deadline <= now)
            Finish(TcpEvents.None);
        if (State != TcpState.Closed)
            ArmWheel();
    }

    private void OnSynTimeout(ActiveOpen opening, Instant now)
    {
        if (!opening.OnTimeout(_snd.Rtt.Rto(_options, opening.Retries + 1), now))
        {
            Finish(TcpEvents.TimedOut);
            return;
        }
        RequestEmit();
    }

    private void OnSenderDeadline(Instant now)
    {
        if (_snd.Flight is { } suspecting && suspecting.Recovery.ReorderDeadline <= now)
        {
            _snd.OnReorderTimeout(_options, _timestamps, _stack.Counters, now);
            RequestEmit();
        }
        if (_snd.Flight is { } silent && silent.Recovery.Probe.Deadline <= now)
            OnProbeTimeout(silent, now);
        if (_snd.Flight is { } waiting && waiting.Retransmission.Deadline <= now)
            OnRetransmitTimeout(waiting, now);
        if (_snd.Flight is { } blocked && blocked.Persist.Deadline <= now)
            OnPersistTimeout(now);
    }

    private void OnProbeTimeout(Flight flight, Instant now)
    {
        flight.Recovery.Probe.Deadline = Instant.Never;
        if (flight.Queue.Count == 0)
            return;
        if (_snd.HasExceeded(UserTimeout, now))
        {
            TimeOut();
            return;
        }
        _snd.OnProbeTimeout(_options, _timestamps, _stack.Counters, now);
        RequestEmit();
    }

    private void OnRetransmitTimeout(Flight flight, Instant now)
    {
        flight.Retransmission.Disarm();
        if (flight.Queue.Count == 0)
            return;
        if (_snd.HasExceeded(UserTimeout, now))
        {
            TimeOut();
            return;
        }
        int timeouts = _snd.Backoff;
        if (timeouts > 0)
            Raise(TcpEvents.PathSuspect);
        _snd.OnRetransmitTimeout(_timestamps, _stack.Counters, now);
        if (_pathMtu.OnTimeout(timeouts, flight.Queue[0].Length, _snd.Mss, HeaderLength + OptionsLength, now))
            UpdateMss();
        _snd.ArmTimers(_options, now, restart: true);
        RequestEmit();
    }

    private void OnPersistTimeout(Instant now)
    {
        if (!_snd.OnPersistTimeout(_options, now))
        {
            TimeOut();
            return;
        }
        RequestEmit();
    }

    private void StartKeepAlive(Instant now)
    {
        if (KeepAlive is not { } idle)
        {
            _keepAlive = null;
            return;
        }
        if (_keepAlive is null)
            _keepAlive = new KeepAliveTimer(idle, now);
        else
            _keepAlive.Start(idle, now);
        ArmWheel();
    }

    private void OnKeepAliveTimeout(KeepAliveTimer timer, Instant now)
    {
        switch (timer.OnTimeout(KeepAlive!.Value, now))
        {
            case KeepAliveTimer.Verdict.Probe:
                _snd.ProbeIsDue = true;
                RequestEmit();
                break;
            case KeepAliveTimer.Verdict.Dead:
                TimeOut();
                break;
        }
    }

    private void ArmFinWait2(Instant now)
    {
        _finWait2Deadline = now + _options.FinWait2;
        ArmWheel();
    }

    // ---- the end

    private void TimeOut()
    {
        if (State == TcpState.Closed)
            return;
        SendReset();
        Finish(TcpEvents.TimedOut);
    }

    private void EnterTimeWait(Instant now)
    {
        var timeWait = new TimeWait(Key)
        {
            Path = _remote.Shared,
            SndNxt = SndNxt,
            RcvNxt = RcvNxt,
            Window = _rcv.WindowField,
            Timestamps = _timestamps.Enabled,
            TsOffset = _timestamps.Offset,
            TsRecent = _timestamps.Recent,
        };
        bool owesAck = _rcv.Acks.IsDue;
        Finish(TcpEvents.None, inOrder: true);
        _stack.AddTimeWait(timeWait, owesAck, now);
    }

    /// <summary>The connection is over: everything it holds goes home, and the stack forgets it.</summary>
    /// <param name="why">What ended it, if it was not the application.</param>
    /// <param name="inOrder">
    /// Both sides have closed. What was received is complete, and stays for the application to take; at any other end nobody would.
    /// </param>
    private void Finish(TcpEvents why, bool inOrder = false)
    {
        if (State == TcpState.Closed)
            return;
        State = TcpState.Closed;
        _opening = null;
        _snd.ReturnFlight(_stack.Environment);
        _rcv.ClearReassembly(_stack.Environment);
        if (!inOrder)
            _rcv.ReturnReceived();
        _stack.Forget(this);
        Raise(why | TcpEvents.Closed);
    }

    // ---- states and lists

    private bool CanSend => State is TcpState.SynSent or TcpState.SynReceived or TcpState.Established or TcpState.CloseWait;

    private bool CanReceive => State is TcpState.Established or TcpState.FinWait1 or TcpState.FinWait2;

    private void Raise(TcpEvents events)
    {
        _events |= events;
        _stack.MarkReady(this);
    }

    private void RequestEmit() => _stack.MarkToEmit(this);
}

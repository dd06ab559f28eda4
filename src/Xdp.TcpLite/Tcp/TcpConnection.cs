using System.Runtime.CompilerServices;

namespace Xdp.TcpLite;

/// <summary>
/// One TCP connection (RFC 9293): its state, the order in which an arriving segment is worked through, what an
/// application may ask of it, and its deadlines. It belongs to its <see cref="TcpStack"/>, and is called only by
/// whoever may call the stack at that moment.
/// </summary>
/// <remarks>
/// The variables are in its parts: RCV in the <see cref="Receiver"/>, SND in the <see cref="Sender"/>, the others in
/// <see cref="Timestamps"/>, <see cref="PathMtu"/> and <see cref="Ecn"/>. No part knows the connection. The connection
/// tells each part what it has to know of the others. Calls change state and mark the connection; only
/// <see cref="TcpStack.Emit"/> makes it write segments, and asks for the next until there is none.
/// </remarks>
public sealed class TcpConnection : FlowEntry
{
    private readonly TcpStack _stack;

    /// <summary>
    /// The stack's, or the listener's, or a changed copy once the host has set something for this connection.
    /// </summary>
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
    private AfterClose _afterClose;
    private TcpEvents _events;
    private SegmentOutput _output;
    private uint _segmentsIn;
    private StackLists _lists;

    internal TcpConnection(
        TcpStack stack, in FlowKey flow, Route route, in NegotiatedOptions negotiated, SeqNumber iss,
        TcpStackOptions options, Instant now)
        : base(flow)
    {
        _stack = stack;
        _options = options;
        _remote = new RemoteHost(route, now);
        ICongestionControl congestion = CongestionControls.Create(_options.CongestionControl, seed: iss.Value);
        _snd = new Sender(iss, congestion) { NoDelay = _options.NoDelay };
        Agree(negotiated, now);
        _rcv = new Receiver(Math.Min(_options.ReceiveBufferInitial, _options.ReceiveBufferMax), _snd.Mss, now);
    }

    public TcpState State { get; private set; }

    /// <summary>
    /// Where segments are sent. Without <see cref="IRoutes"/> it is the way the last accepted one came, or what was set
    /// since; with it, what it said when the connection was opened, or what was set since.
    /// </summary>
    public Route Route
    {
        get => _remote.Route;
        set
        {
            _remote.Route = value;
            OnLinkMtuChanged();
        }
    }

    /// <summary>The host's own object for this connection. The stack does not look at it.</summary>
    public object? Owner { get; set; }

    /// <summary>Send small segments at once (true), or collect them while data is unacknowledged (false).</summary>
    public bool NoDelay
    {
        get => _snd.NoDelay;
        set => _snd.NoDelay = value;
    }

    /// <summary>Send only full segments, until this is set to false or the connection is shut down.</summary>
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

    /// <summary>How long a segment may be unacknowledged, or the window shut (RFC 5482, the local side).</summary>
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

    /// <summary>It is on the stack's list of those that have events.</summary>
    internal bool IsReady
    {
        get => (_lists & StackLists.Ready) != 0;
        set => _lists = value ? _lists | StackLists.Ready : _lists & ~StackLists.Ready;
    }

    /// <summary>It is on the stack's list of those that may have something to send.</summary>
    internal bool IsToEmit
    {
        get => (_lists & StackLists.ToEmit) != 0;
        set => _lists = value ? _lists | StackLists.ToEmit : _lists & ~StackLists.ToEmit;
    }

    internal SeqNumber SndUna => _snd.SndUna;
    internal SeqNumber SndNxt => _snd.SndNxt;
    internal SeqNumber RcvNxt => _rcv.RcvNxt;

    // ---- what an application asks for

    /// <summary>In-order bytes that have not been taken.</summary>
    public long ReadableBytes => _rcv.ReadableBytes;

    /// <summary>
    /// Takes in-order blocks up to <paramref name="maxBytes"/> or a little more. The caller owns them and returns each.
    /// </summary>
    public BlockQueue TakeReceived(long maxBytes) => _rcv.Take(maxBytes);

    /// <summary>The host has room for as many more as these taken <paramref name="bytes"/>, examined or not.</summary>
    /// <param name="bytes">They count no longer against the receive buffer.</param>
    /// <param name="kept">All that is released and not examined. It matters when memory is short.</param>
    public void ReleaseWindow(long bytes, long? kept = null)
    {
        if (_rcv.Release(bytes, kept, CanReceive, _snd.Rtt.SrttOr(_options.InitialRto), _stack.Environment))
            AckNow();
    }

    /// <summary>
    /// Takes over the blocks of <paramref name="data"/> and will send their bytes. After <see cref="Shutdown"/> or the
    /// connection's end, the blocks are returned unsent.
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

    /// <summary>
    /// Bytes that are worth holding here, sent or not: twice what may be in flight, so that the next round trip's data
    /// is at hand when this one's is acknowledged. As Linux's send buffer it begins at 85 KiB. The host decides what it
    /// writes beyond that.
    /// </summary>
    public long SendBuffer => _snd.Buffer(_options);

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
    /// Nothing more will be read either. From here on received bytes are acknowledged and dropped, and do not turn the
    /// FIN into a RST. Written bytes are still delivered. Implies <see cref="Shutdown"/>. What a peer may do to make it
    /// last is bounded by <see cref="TcpStackOptions.AfterCloseBytes"/> and the options behind it.
    /// </summary>
    public void Close()
    {
        Shutdown();
        if (_rcv.Discards)
            return;
        _rcv.Discard(_stack.Environment);
        if (State == TcpState.Closed)
            return;
        bool isDone = State == TcpState.FinWait2;
        Orphan orphan = _afterClose.Begin(this, _rcv.BytesReceived, isDone, _options, _stack.Now);
        _rcv.Invite(_afterClose.Invited(_rcv.BytesReceived, _options));
        ArmWheel();
        _stack.AddOrphan(orphan, _snd.Memory, isDone);
    }

    /// <summary>Ends the connection with a RST. Bytes not sent, or not taken, are dropped. Idempotent.</summary>
    public void Abort()
    {
        if (State == TcpState.Closed)
        {
            // After an end in good order, received bytes wait for the application. It does not want them.
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

    public TcpConnectionInfo GetInfo(Instant now) => TcpConnectionInfo.Of(_snd, _rcv, _options, now) with
    {
        State = State,
        Backoff = _opening?.Retries ?? _snd.Backoff,
        LastAckReceived = _segmentsIn > 0 ? _remote.SinceHeard(now) : null,
        SegmentsIn = _segmentsIn,
        SegmentsOut = _output.Count,
    };

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

    /// <summary>The peer opens. <paramref name="packet"/>, which acknowledges our SYN, is received next.</summary>
    internal void StartPassive(HalfOpen half, in Packet packet, Instant now)
    {
        _rcv.Start(half.Irs, SynOptions.InitialWindow(_options), half.Options.RcvWndShift);
        _snd.SendSyn();
        _snd.AckSyn();
        State = TcpState.Established;
        Instant? sentOnceAt = half is { Retransmits: 0, IsRepeated: false } ? half.SentAt : null;
        _snd.StartRtt(sentOnceAt, _timestamps.Elapsed(packet, now), half.Retransmits, now);
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

    private void OnSynAcknowledged(in Packet packet, Instant now)
    {
        _snd.StartRtt(_opening!.SentOnceAt, _timestamps.Elapsed(packet, now), _opening.Retries, now);
        _opening = null;
        _snd.AckSyn();
        // While the SYN was in flight, a write of no bytes could not give its flight back.
        _snd.ReturnFlightIfDone(_stack.Environment);
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
            TcpState.SynSent => ReceiveInSynSent(packet, frame, start, now),
            TcpState.SynReceived when IsSimultaneousSynAck(packet) =>
                ReceiveSimultaneousSynAck(packet, frame, start, now),
            _ => ReceiveSynchronised(packet, frame, start, now),
        };
        if (State != TcpState.Closed)
            ArmWheel();
        return kept;
    }

    private bool ReceiveSynchronised(in Packet packet, Block frame, int start, Instant now)
    {
        if (!IsAcceptable(packet, now))
            return false;
        _remote.Heard(packet.Path, _stack.Environment, now);
        _keepAlive?.Heard(now);
        _timestamps.Update(packet, _rcv.LastAckSent, now);
        if (_ecn.Receive(packet))
            AckNow();
        Acknowledge(packet, now);
        if (State is TcpState.Closed)
            return false;
        if (packet.PayloadLength > 0 && CanReceive && !_afterClose.TryTakeData(_options, now))
        {
            ResetLateSender();
            return false;
        }
        return ReceiveText(packet, frame, start, now);
    }

    // Sixth to eighth: payload and FIN.
    private bool ReceiveText(in Packet packet, Block frame, int start, Instant now)
    {
        bool kept = packet.PayloadLength > 0 && ReceivePayload(packet, frame, start + packet.PayloadStart, now);
        if (_rcv.Discards && CanReceive && packet.PayloadLength > 0)
            OnLateData(now);
        if (packet.IsFin)
            _rcv.NoteFin(packet, CanReceive);
        if (_rcv.Acks.IsDue)
            RequestEmit();
        if (_rcv.TryTakeFin(_stack.Environment))
            OnPeerFin(now);
        return kept;
    }

    /// <summary>First to fifth: is it worked through, or else how is it answered?</summary>
    private bool IsAcceptable(in Packet packet, Instant now)
    {
        var verdict = ArrivalCheck.Run(packet, State, ref _rcv, _snd, _timestamps, now, out DropReason reason);
        if (_rcv.Acks.IsDue)
            RequestEmit();
        if (reason != DropReason.None)
            _stack.Drop(reason);
        switch (verdict)
        {
            case ArrivalVerdict.Acknowledge:
                AckNow();
                break;
            case ArrivalVerdict.Challenge:
                if (_remote.Challenges.TryTake(now))
                {
                    _stack.Counters.ChallengeAcks++;
                    AckNow();
                }
                break;
            case ArrivalVerdict.Refuse:
                _stack.Reset(packet);
                break;
            case ArrivalVerdict.Reset:
                _stack.Counters.RstsReceived++;
                Finish(TcpEvents.Reset);
                break;
        }
        return verdict == ArrivalVerdict.Accept;
    }

    private void Acknowledge(in Packet packet, Instant now)
    {
        if (State == TcpState.SynReceived && packet.Ack > SndUna)
            OnSynAcknowledged(packet, now);
        _snd.Acknowledge(packet, _timestamps, _stack.Counters, now, out AckOutcome outcome);
        if (outcome.Advanced)
            _afterClose.OnProgress(_stack.Orphans, _snd.Memory, _options, now);
        if (outcome.AllAcknowledged)
            Raise(TcpEvents.AllAcknowledged);
        if (outcome.Delivery.Fin)
        {
            OnFinAcknowledged(packet, now);
            if (State == TcpState.Closed)
                return;
        }
        _snd.Conclude(packet, outcome, ref _ecn, _options, _timestamps, _stack.Counters, now);
        if (_pathMtu.IsReduced && _snd.SearchMtu(ref _pathMtu, Headers, LinkMtu, _stack.Frames.PayloadCapacity, now))
            UpdateMss();
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
                _afterClose.OnFinAcknowledged(_stack.Orphans, _options, now);
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
        StackEnvironment environment = _stack.Environment;
        bool kept = environment.FurtherParts.IsEmpty
            ? _rcv.Accept(seq, frame, offset + skipped, length, _snd.HasSack, _options, environment)
            : _rcv.AcceptParts(packet.Seq, seq, frame, offset, length, _snd.HasSack, _options, environment);
        if (_rcv.BytesReceived != before && !_rcv.Discards)
            Raise(TcpEvents.Readable);
        return kept;
    }

    // Apart from the above, which then needs no room for the sources of a segment that is rarely written.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private void AckWithinBatch(Instant now) => _output.AckWithinBatch(Sources(now));

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
    private bool ReceiveInSynSent(in Packet packet, Block frame, int start, Instant now)
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
        NegotiatedOptions agreed = SynOptions.Negotiate(_options, packet, opening.Options.TsOffset);
        opening.OnPeerSyn(agreed, answer: !acceptableAck);
        Agree(agreed, now);
        _remote.Heard(packet.Path, _stack.Environment, now);
        _rcv.Start(packet.Seq, SynOptions.InitialWindow(_options), agreed.RcvWndShift);
        _snd.StartWindow(packet, scaled: false);
        State = TcpState.SynReceived;
        RequestEmit();
        if (!acceptableAck)
            return false;
        OnSynAcknowledged(packet, now);
        _rcv.Acks.Owe();
        return ReceiveText(packet.WithoutSyn(), frame, start, now);
    }

    /// <summary>The peer's SYN-ACK in a simultaneous open (RFC 9293, section 3.5, figure 8), after its SYN.</summary>
    private bool IsSimultaneousSynAck(in Packet packet) =>
        packet.IsSyn && packet.IsAck && !packet.IsRst && packet.Seq == RcvNxt - 1 && packet.Ack == SndNxt;

    private bool ReceiveSimultaneousSynAck(in Packet packet, Block frame, int start, Instant now)
    {
        _snd.StartWindow(packet, scaled: false);
        _timestamps.Restart(packet);
        OnSynAcknowledged(packet, now);
        AckNow();
        return ReceiveText(packet.WithoutSyn(), frame, start, now);
    }

    /// <summary>
    /// A segment of ours was not delivered, says somebody who quotes it. A quote of what is not in flight is a guess
    /// (RFC 5927, section 4.1).
    /// </summary>
    internal void ReceiveIcmp(in IcmpError news, Instant now)
    {
        bool isOutstanding = news.Seq >= SndUna && news.Seq < SndNxt;
        if (!isOutstanding || !(news.Mtu is { } mtu ? TryShrink(mtu, now) : TryFailToOpen()))
            _stack.Drop(DropReason.UnknownIcmp);
    }

    /// <summary>
    /// What is in flight has left the interface before. What of it is lost is cut anew when it is sent again.
    /// </summary>
    internal void OnLinkMtuChanged()
    {
        if (FullSegment != _snd.Mss)
            UpdateMss();
    }

    private bool TryShrink(int mtu, Instant now)
    {
        if (_remote.Route.IsMtuLocked || !_pathMtu.OnTooBig(mtu, LinkMtu, Key.Local.IsIPv4, now))
            return false;
        UpdateMss();
        _snd.OnTooLarge(_options, _timestamps, _stack.Counters, now);
        ArmWheel();
        RequestEmit();
        return true;
    }

    /// <summary>
    /// An open ends, hard error or soft, so that the application may try another address: RFC 5461, section 4.1, and
    /// Linux's tcp_v4_err. Once established, retransmission decides: anybody who guesses could end it (RFC 5927).
    /// </summary>
    private bool TryFailToOpen()
    {
        if (_opening is null)
            return false;
        Finish(TcpEvents.Unreachable);
        return true;
    }

    /// <summary>Payload bytes of a full segment, by what is known of the path and the peer.</summary>
    private int FullSegment => _pathMtu.EffectiveMss(Headers, LinkMtu, _stack.Frames.PayloadCapacity);

    /// <summary>Its own, what the interface's has become, or the route's: the least of them.</summary>
    private int LinkMtu => Math.Min(Math.Min(_options.Mtu, _stack.Options.Mtu), _remote.Route.Mtu);
    private HeaderLengths Headers => new(Key.Local.IsIPv4, _timestamps.Enabled);
    private void UpdateMss() => _snd.ChangeMss(FullSegment);

    // ---- answers

    private void AckNow()
    {
        _rcv.Acks.Owe();
        RequestEmit();
    }

    private void SendReset() => SegmentOutput.Reset(Sources(_stack.Now));

    // ---- what goes out

    /// <summary>Writes the next segment, if there is one to send now. Asked again until it says no.</summary>
    internal bool TryEmit(Instant now, out TxPacket packet, out bool starved)
    {
        packet = default;
        starved = false;
        if (State is TcpState.Closed or TcpState.TimeWait)
            return false;
        WriteResult result = _opening is { } opening
            ? EmitOpening(opening, now, out packet)
            : EmitSynchronised(now, out packet);
        starved = result == WriteResult.Starved;
        if (!starved)
            ArmWheel();
        return result == WriteResult.Written;
    }

    private WriteResult EmitOpening(ActiveOpen opening, Instant now, out TxPacket packet)
    {
        SegmentSources sources = Sources(now);
        if (opening.SynIsDue)
            return _output.WriteSyn(sources, opening, answers: State == TcpState.SynReceived, out packet);
        packet = default;
        return State == TcpState.SynReceived ? _output.WriteAckIfDue(sources, out packet) : WriteResult.Nothing;
    }

    private WriteResult EmitSynchronised(Instant now, out TxPacket packet)
    {
        _snd.Next(_options, _timestamps, _stack.Counters, now, out SendDecision next);
        if (next.Length > 0 && _snd.Outstanding == 0)
            RestartAfterIdle(now);
        if (!next.IsRetransmission && !next.IsNew && !_snd.ProbeIsDue && !_rcv.Acks.IsDue)
        {
            _snd.ArmPersistIfBlocked(_options, now);
            packet = default;
            return WriteResult.Nothing;
        }
        WriteResult result = _output.WriteNext(Sources(now), next, out packet);
        if (result == WriteResult.Written && next.Fin)
            State = State == TcpState.CloseWait ? TcpState.LastAck : TcpState.FinWait1;
        if (result == WriteResult.Written && next.Length > 0)
            Raise(TcpEvents.Sent);
        return result;
    }

    private void RestartAfterIdle(Instant now)
    {
        if (_pathMtu.Forget(now))
            UpdateMss();
        if (_remote.IsSuspect(now))
            Raise(TcpEvents.PathSuspect);
        _snd.RestartAfterIdle(_options, now);
    }

    private SegmentSources Sources(Instant now) => new(
        _stack.Environment, _options, _remote.Route, in Key, ref _rcv, ref _snd, in _timestamps, ref _ecn, now);

    // ---- deadlines. The connection has one entry in the stack's wheel, at or before the earliest of them. To disarm
    // one only changes a field: an entry that fires early finds nothing due and is scheduled again.

    private Instant NextDeadline
    {
        get
        {
            Instant next = Instant.Min(_snd.NextDeadline, _rcv.Acks.Deadline);
            next = Instant.Min(next, _afterClose.NextDeadline);
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
        {
            if (opening.OnTimeout(_snd.Rtt.Rto(_options, opening.Retries + 1), now))
                RequestEmit();
            else
                Finish(TcpEvents.TimedOut);
        }
        if (_snd.NextDeadline <= now)
            OnSenderDeadline(now);
        if (_keepAlive is { } keepAlive && keepAlive.Deadline <= now)
            OnKeepAliveTimeout(keepAlive, now);
        if (_afterClose.IsLateDataDue(now))
            ResetLateSender();
        else if (_afterClose.NextDeadline <= now)
            Finish(TcpEvents.None);
        if (State != TcpState.Closed)
            ArmWheel();
    }

    private void OnSenderDeadline(Instant now)
    {
        SenderTimeouts fired = _snd.OnDeadline(_options, _timestamps, _stack.Counters, now);
        bool orphanGivesUp = _afterClose.GivesUp(fired, _options);
        if (orphanGivesUp)
            _stack.Counters.OrphansTimedOut++;
        if (orphanGivesUp || fired.HasFlag(SenderTimeouts.GaveUp))
        {
            TimeOut();
            return;
        }
        if (fired.HasFlag(SenderTimeouts.Repeated))
            Raise(TcpEvents.PathSuspect);
        if (fired.HasFlag(SenderTimeouts.Retransmission)
            && _pathMtu.OnTimeout(_snd.Backoff, _snd.Flight!.Queue[0].Length, _snd.Mss, Headers))
        {
            UpdateMss();
        }
        if (fired != SenderTimeouts.None)
            RequestEmit();
    }

    private void StartKeepAlive(Instant now)
    {
        _keepAlive = KeepAliveTimer.Restart(_keepAlive, KeepAlive, now);
        ArmWheel();
    }

    private void OnKeepAliveTimeout(KeepAliveTimer timer, Instant now)
    {
        switch (timer.OnTimeout(_options, now))
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

    // ---- the end

    private void OnLateData(Instant now)
    {
        _stack.Drop(DropReason.ClosedReceive);
        if (!_rcv.Invite(_afterClose.Invited(_rcv.BytesReceived, _options)))
            _afterClose.OnUsedUp(_options, now);
    }

    private void ResetLateSender()
    {
        _stack.Counters.DataAfterCloseResets++;
        Abort();
    }

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
            Route = _remote.Route,
            SndNxt = SndNxt,
            RcvNxt = RcvNxt,
            Window = _rcv.WindowField(_stack.Environment.Memory),
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
    /// Both sides have closed. What was received is complete, and stays for the application to take. After any other
    /// end nobody would.
    /// </param>
    private void Finish(TcpEvents why, bool inOrder = false)
    {
        if (State == TcpState.Closed)
            return;
        State = TcpState.Closed;
        _opening = null;
        _afterClose.End(_stack.Orphans);
        _snd.ReturnFlight(_stack.Environment);
        _rcv.ClearReassembly(_stack.Environment);
        if (!inOrder)
            _rcv.ReturnReceived();
        _stack.Forget(this);
        Raise(why | TcpEvents.Closed);
    }

    // ---- states and lists

    private bool CanSend =>
        State is TcpState.SynSent or TcpState.SynReceived or TcpState.Established or TcpState.CloseWait;

    private bool CanReceive => State is TcpState.Established or TcpState.FinWait1 or TcpState.FinWait2;

    private void Raise(TcpEvents events)
    {
        _events |= events;
        _stack.MarkReady(this);
    }

    private void RequestEmit() => _stack.MarkToEmit(this);
}

namespace Xdp.TcpLite;

/// <summary>
/// The sending side of a connection (RFC 9293, section 3.8). Owns the SND variables and what waits to be sent, and
/// decides what goes out next: the peer's window, Nagle and cork, silly windows (RFC 1122, section 4.2.3.4), the
/// persist and retransmission timers. Losses are left to the <see cref="LossRecovery"/> of the <see cref="Flight"/>.
/// Does not write segments.
/// </summary>
internal struct Sender
{
    /// <summary>
    /// Most segments between SND.UNA and SND.NXT: 11 MiB of full ones. Each costs memory, and time in every walk after
    /// a time-out. So a peer with a tiny MSS must not be able to cause more.
    /// </summary>
    internal const int MaxSegmentsInFlight = 8192;

    private const int MaxBackoff = 16;

    /// <summary>The least send buffer: where Linux's begins to grow.</summary>
    private const int SmallestBuffer = 85 << 10;

    /// <summary>
    /// Full segments that must follow a larger one, so that its loss is noticed and repaired soon (RFC 4821, section
    /// 7.4; Linux: one more than its reordering threshold, and this less one for the probe itself).
    /// </summary>
    private const int SegmentsBehindMtuProbe = 3;

    private readonly ICongestionControl _congestion;
    private FineInstant _lastSentAt;
    private bool _finSent;
    private bool _finAcked;

    /// <summary>How often the persist timer has fired in a row.</summary>
    private byte _persistBackoff;

    /// <summary>
    /// How often the RTO was doubled since the last RTT sample. An ACK that may be for a retransmission does not reset
    /// it (Karn).
    /// </summary>
    private byte _rtoBackoff;

    internal RttEstimator Rtt;
    internal LossHistory Losses;
    private SendTimes _times;

    internal Sender(SeqNumber iss, ICongestionControl congestion)
    {
        _congestion = congestion;
        SndUna = SndNxt = iss;
    }

    internal SeqNumber SndUna { get; private set; }
    internal SeqNumber SndNxt { get; private set; }

    /// <summary>SND.WND in bytes, scaling applied.</summary>
    internal int SndWnd { get; private set; }
    internal int MaxSndWnd { get; private set; }
    internal SeqNumber SndWl1 { get; private set; }
    internal SeqNumber SndWl2 { get; private set; }

    /// <summary>Payload bytes of a full segment, options deducted.</summary>
    internal ushort Mss { get; private set; }

    /// <summary>Both sides use SACK.</summary>
    internal bool HasSack { get; private set; }

    /// <summary>Snd.Wind.Shift of RFC 7323.</summary>
    internal byte WindowShift { get; private set; }

    /// <summary>Send small segments at once, rather than collect them while data is unacknowledged.</summary>
    internal bool NoDelay;

    /// <summary>Send only full segments.</summary>
    internal bool Cork;

    /// <summary>A bare segment from before the window is due, which the peer must answer.</summary>
    internal bool ProbeIsDue;

    /// <summary>Nothing more will be written.</summary>
    internal bool FinQueued { get; private set; }

    /// <summary>Null while nothing is in flight and nothing waits.</summary>
    internal Flight? Flight { get; private set; }

    internal readonly ICongestionControl Congestion => _congestion;

    internal long BytesSent { get; private set; }

    /// <summary>Payload bytes that the peer has acknowledged. A FIN may be outstanding as well.</summary>
    internal readonly long BytesAcked => Math.Max(0, BytesSent - Outstanding + (_finSent && !_finAcked ? 1 : 0));

    internal readonly long Outstanding => SndNxt - SndUna;

    internal readonly long UnsentBytes => Flight?.Queue.UnsentBytes ?? 0;

    /// <summary>Written and not acknowledged, sent or not.</summary>
    internal readonly long UnacknowledgedBytes => Flight?.Queue.Bytes ?? 0;

    /// <summary>Bytes of the blocks that hold what is not acknowledged.</summary>
    internal readonly long Memory => Flight?.Queue.Memory ?? 0;

    /// <summary>Time-outs in a row.</summary>
    internal readonly int Backoff => Flight?.Retransmission.Backoff ?? 0;

    /// <summary>How long ago payload was sent, be it once more; null before the first.</summary>
    internal readonly TimeSpan? SinceSent(Instant now) => BytesSent > 0 ? _lastSentAt.Age(now) : null;

    internal readonly RecoveryPhase Phase => Flight?.Recovery.Phase ?? RecoveryPhase.Open;

    internal readonly Instant NextDeadline => Flight?.NextDeadline ?? Instant.Never;

    /// <summary>Bytes, sent or not, that keep the path busy for this round trip and the next.</summary>
    internal readonly long Buffer(TcpStackOptions options) =>
        Math.Min(Math.Max(SmallestBuffer, 2 * _congestion.Cwnd), options.SendBufferMax);

    internal readonly TimeSpan Rto(TcpStackOptions options) => Rtt.Rto(options, _rtoBackoff);

    /// <summary>Is there anything that may be sent, if the windows allow it?</summary>
    internal readonly bool WantsToSend =>
        FinQueued || Flight is { } flight && (flight.Queue.UnsentBytes > 0 || flight.Recovery.HasUnrepairedLoss);

    // ---- set-up

    internal void Negotiate(in NegotiatedOptions options) =>
        (HasSack, WindowShift) = (options.Sack, options.SndWndShift);

    /// <summary>The handshake says how large segments may be. The congestion window starts.</summary>
    internal void StartMss(int mss)
    {
        Mss = (ushort)mss;
        _congestion.Start(mss);
    }

    internal void ChangeMss(int mss)
    {
        Mss = (ushort)mss;
        _congestion.OnMssChanged(mss);
    }

    /// <summary>Our SYN takes a number.</summary>
    internal void SendSyn() => SndNxt = SndUna + 1;

    /// <summary>Our SYN is acknowledged.</summary>
    internal void AckSyn() => SndUna = SndNxt;

    /// <summary>SND.WND from the segment that establishes.</summary>
    /// <param name="packet">The segment.</param>
    /// <param name="scaled">Its window is scaled: it is no SYN.</param>
    internal void StartWindow(in Packet packet, bool scaled)
    {
        SndWnd = MaxSndWnd = scaled ? packet.Window << WindowShift : packet.Window;
        SndWl1 = packet.Seq;
        SndWl2 = packet.Ack;
    }

    /// <summary>What the handshake tells of the path.</summary>
    /// <param name="sentOnceAt">
    /// When our SYN was sent. Null after a retransmission: nobody can tell then which SYN was answered (Karn).
    /// </param>
    /// <param name="echoed">The round trip by the timestamp that the answer echoes, if it does.</param>
    /// <param name="retransmits">
    /// One lost SYN says little about the path. After more the window starts at one segment (RFC 6928, section 2).
    /// </param>
    /// <param name="now">The present.</param>
    internal void StartRtt(Instant? sentOnceAt, TimeSpan? echoed, int retransmits, Instant now)
    {
        if ((sentOnceAt is { } sentAt ? now - sentAt : echoed) is { } sample)
            Rtt.Sample(sample, now);
        else
            Rtt.FallBack();
        if (retransmits > 1)
            _congestion.SetCwnd(Mss);
    }

    // ---- the application

    /// <summary>Takes over the blocks.</summary>
    internal void Write(ref BlockQueue data, StackEnvironment environment)
    {
        Borrow(environment).Queue.Append(ref data, environment.Frames, Mss);
        ReturnFlightIfDone(environment);
    }

    internal void Shutdown() => FinQueued = true;

    // ---- arrival of an ACK, in this order

    /// <summary>Updates SND.UNA, SND.WND, and what is known of the segments.</summary>
    internal void Acknowledge(
        in Packet packet, in Timestamps timestamps, TcpStackCounters counters, Instant now, out AckOutcome outcome)
    {
        bool wasShut = SndWnd == 0;
        outcome = default;
        outcome.WindowChanged = UpdateWindow(packet);
        outcome.PriorFlight = Outstanding;
        outcome.Advanced = packet.Ack > SndUna;
        outcome.WindowOpened = wasShut && SndWnd > 0;
        if (Flight is not { } flight)
        {
            // A D-SACK may come when all is acknowledged. It tells of reordering on the path even then.
            if (HasSack && packet.TryGetDuplicateReport(out SeqNumber left, out SeqNumber right)
                && Losses.OnDuplicateReported(left, right, SndNxt, Mss, counters, out bool isSpurious) && isSpurious)
            {
                Losses.Spurious.End();
                _congestion.Undo();
            }
            return;
        }
        LossRecovery recovery = flight.Recovery;
        SendState.Of(in this, in timestamps, counters, now, out SendState state);
        if (outcome.Advanced)
        {
            recovery.OnAcknowledged(state, ref Losses, Rtt, packet, out outcome.Delivery);
            SndUna = packet.Ack;
            flight.Retransmission.OnProgress(now);
            outcome.AllAcknowledged = flight.Queue.Count == 0 && flight.Queue.UnsentBytes == 0;
            if (outcome.AllAcknowledged)
                flight.Clock.Stop(ref _times, now);
            _finAcked |= outcome.Delivery.Fin;
            // With a retransmission among it, only the timestamp can tell which transmission this answers.
            if (outcome.Delivery.Rtt is null && outcome.Delivery.Bytes > 0)
                outcome.Delivery.Rtt = timestamps.Elapsed(packet, now);
            if (outcome.Delivery.Rtt is { } sample)
            {
                // An ACK for every second segment is one sample.
                Rtt.Sample(sample, now, perRoundTrip: Math.Max(1, (int)outcome.PriorFlight / (2 * Mss)));
                _rtoBackoff = 0;
            }
        }
        if (SndWnd == 0)
            flight.Retransmission.OnShutWindow();
        if (HasSack)
        {
            if (packet.Sack.Count > 0)
            {
                // SND.UNA has moved meanwhile.
                SendState.Of(in this, in timestamps, counters, now, out state);
                outcome.Delivery.Bytes += recovery.OnSacked(state, ref Losses, Rtt, packet);
            }
        }
        else if (packet.Ack == SndUna && !outcome.Advanced && packet.SegmentLength == 0 && !outcome.WindowChanged
            && outcome.PriorFlight > 0)
        {
            recovery.OnDuplicateAck();
        }
        counters.BytesAcknowledged += outcome.Delivery.Bytes;
    }

    /// <summary>What follows from the ACK: losses are found, the congestion window and the timers adjusted.</summary>
    internal void Conclude(
        in Packet packet, in AckOutcome outcome, ref Ecn ecn, TcpStackOptions options, in Timestamps timestamps,
        TcpStackCounters counters, Instant now)
    {
        if (outcome.PriorFlight == 0)
        {
            // An ACK without news after the last of the data may be the answer to a probe that was needless.
            Flight?.Recovery.Probe.OnAckWithoutNews(packet, outcome.WindowChanged);
            if (outcome.WindowChanged && UnsentBytes > 0)
                ArmTimers(options, now, restart: true);
            return;
        }
        SendState.Of(in this, in timestamps, counters, now, out SendState state);
        LossRecovery? recovery = Flight?.Recovery;
        recovery?.Conclude(state, ref Losses, Rtt, packet, outcome);
        if (ecn.TryTakeEcho(packet, Phase != RecoveryPhase.Open, SndNxt))
            LossRecovery.OnCongestionEchoed(state, ref Losses);
        recovery?.AdjustWindow(
            state, ref Losses, Rtt, Flight!.CwndUse, outcome.Delivery, outcome.Advanced, IsPaced(Flight, options));
        bool resumes = outcome.WindowOpened && Outstanding > 0 && Backoff > 0;
        if (resumes)
            ResumeAfterShutWindow(Flight!, state, now);
        ArmTimers(options, now, restart: outcome.Advanced || resumes, progress: outcome.Advanced);
    }

    /// <summary>
    /// What was in flight as the window shut has found no room at the peer, and neither have the probes. All of it is
    /// sent again, and the waiting that grew with each probe is over.
    /// </summary>
    private void ResumeAfterShutWindow(Flight flight, in SendState state, Instant now)
    {
        flight.Recovery.OnRetransmitTimeout(state, isFirst: false, ref Losses);
        flight.Retransmission.OnProgress(now);
        _rtoBackoff = 0;
    }

    private bool UpdateWindow(in Packet packet)
    {
        if (packet.Ack < SndUna || !(SndWl1 < packet.Seq || (SndWl1 == packet.Seq && SndWl2 <= packet.Ack)))
            return false;
        int window = packet.Window << WindowShift;
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

    // ---- what to send next

    /// <summary>A segment to send again, new data, the FIN, or nothing.</summary>
    internal void Next(
        TcpStackOptions options, in Timestamps timestamps, TcpStackCounters counters, Instant now,
        out SendDecision next)
    {
        next = default;
        next.Retransmission = -1;
        if (Flight is not { } flight)
        {
            next.Fin = FinQueued && !_finSent;
            return;
        }
        SendState.Of(in this, in timestamps, counters, now, out SendState state);
        next.Retransmission = NextRetransmission(flight, state);
        if (!next.IsRetransmission)
        {
            next.Length = NextLength(flight, state, options, out next.Fin, out SendLimit limit);
            if (next.Length == 0)
            {
                flight.CwndUse.OnStopped(limited: limit == SendLimit.Cwnd, SndUna, SndNxt);
                if (flight.Queue.UnsentBytes > 0)
                    flight.Clock.Start(now);
                flight.Clock.OnStopped(limit, ref _times, now);
            }
            if (!next.IsNew && flight.Recovery.OnNoNewData(SndNxt))
                next.Retransmission = NextRetransmission(flight, state);
        }
        if (MustWait(flight, next, options, counters, now))
        {
            next = default;
            next.Retransmission = -1;
        }
    }

    /// <summary>Has the segment to wait for the pace?</summary>
    private readonly bool MustWait(
        Flight flight, in SendDecision decision, TcpStackOptions options, TcpStackCounters counters, Instant now)
    {
        bool waits = decision.IsRetransmission ? _congestion.SetsWindowInRecovery : decision.Length > 0;
        if (!waits || flight.Recovery.Probe.Sends || !IsPaced(flight, options))
            return false;
        bool waitedBefore = flight.Pacer.Deadline != Instant.Never;
        if (!flight.Pacer.Holds(now))
            return false;
        if (!waitedBefore)
            counters.PacingWaits++;
        flight.CwndUse.OnStopped(limited: false, SndUna, SndNxt);
        return true;
    }

    /// <summary>
    /// Are segments spread over the round trip? In recovery ACKs set the pace, unless congestion control sets its own,
    /// which holds for what is sent again too. A window no larger than an initial one is no burst for a path.
    /// </summary>
    private readonly bool IsPaced(Flight flight, TcpStackOptions options) =>
        options.Pacing && Pacer.Paces(Rtt.MinRtt) && _congestion.Cwnd > Pacer.Unpaced * Mss
        && (flight.Recovery.Phase == RecoveryPhase.Open || _congestion.SetsWindowInRecovery);

    private readonly int NextRetransmission(Flight flight, in SendState state) =>
        flight.Recovery.NextRetransmission(state) is >= 0 and int index && FitsWindow(flight.Queue, index) ? index : -1;

    /// <summary>
    /// Is a segment that was sent still in the window? The peer may have shrunk it since. What lies across the edge is
    /// cut there. The first segment is always sent: it is what probes a shut window (RFC 9293, section 3.8.6; Linux:
    /// tcp_retransmit_skb).
    /// </summary>
    private readonly bool FitsWindow(SendQueue queue, int index)
    {
        int room = SndUna + SndWnd - queue[index].Seq;
        int length = queue[index].Length;
        if (room > 0 && room < length)
            queue.Split(index, room);
        return index == 0 || room > 0 || length <= room;
    }

    /// <summary>
    /// Payload bytes of the next new segment: what both windows, Nagle, cork and silly-window avoidance allow.
    /// When there are none, what is in the way.
    /// </summary>
    private readonly int NextLength(
        Flight flight, in SendState state, TcpStackOptions options, out bool fin, out SendLimit limit)
    {
        fin = false;
        limit = SendLimit.None;
        if (_finSent || flight.Queue.Count >= MaxSegmentsInFlight)
            return 0;
        long unsent = flight.Queue.UnsentBytes;
        if (unsent == 0)
        {
            flight.Recovery.OnAllSent(state);
            fin = FinQueued;
            if (!FinQueued && Outstanding >= Buffer(options))
                limit = SendLimit.SendBuffer;
            return 0;
        }
        long window = SndUna + SndWnd - SndNxt;
        long room = Math.Min(window, options.SendBufferMax - Outstanding);
        bool probes = flight.Recovery.Probe.SendsNewData;
        long cwndRoom = _congestion.Cwnd - flight.Recovery.InFlight(state);
        long allowed = probes ? room : Math.Min(room, cwndRoom);
        int larger = flight.Recovery.MtuProbe.Wanted;
        long most = Math.Min(Math.Min(SndWnd, options.SendBufferMax), Math.Min(_congestion.Cwnd, unsent));
        if (larger > Mss && flight.Recovery.MayProbeMtu && !probes && larger + SegmentsBehindMtuProbe * Mss <= most)
        {
            if (larger <= allowed)
                return larger;
            // The room for it is collected from ACKs, which would otherwise let go of a smaller segment each.
            limit = Limit(window, room, cwndRoom);
            return 0;
        }
        int length = NextCut(flight);
        if (length > allowed)
        {
            limit = Limit(window, room, cwndRoom);
            // Less than a segment is sent only when it is half of the largest window there was, or after the persist
            // timer.
            bool crumb = length > window && window > 0 && allowed == window
                && (2 * window >= MaxSndWnd || flight.Persist.TakesAnyWindow);
            return crumb ? (int)window : 0;
        }
        bool last = length == unsent;
        if (Cork && last && length < Mss && !FinQueued)
            return 0;
        if (length < Mss && last && !NoDelay && !probes && !FinQueued && Outstanding > 0)
            return 0;
        fin = last && FinQueued;
        return length;
    }

    private static SendLimit Limit(long window, long room, long cwndRoom) =>
        cwndRoom < room ? SendLimit.Cwnd : room < window ? SendLimit.SendBuffer : SendLimit.PeerWindow;

    /// <summary>
    /// Bytes of the next segment if no window limits it. Nagle and cork want full segments, so frames are gathered.
    /// </summary>
    private readonly int NextCut(Flight flight) => flight.Queue.NextLength(Mss, gather: Cork || !NoDelay);

    // ---- sending

    /// <summary>Nothing was sent for longer than an RTO: the window decays, if it is to.</summary>
    internal readonly void RestartAfterIdle(TcpStackOptions options, Instant now)
    {
        TimeSpan idle = _lastSentAt.Age(now);
        TimeSpan rto = Rtt.Rto(options, 0);
        if (options.SlowStartAfterIdle && BytesSent > 0 && idle > rto)
            _congestion.OnIdle(idle, rto, now);
    }

    /// <summary>Cuts the new segment that was decided on, and returns its index.</summary>
    internal int Cut(in SendDecision decision, StackEnvironment environment, Instant now)
    {
        SendQueue queue = Borrow(environment).Queue;
        queue.Cut(decision.Length, SndNxt, decision.Fin, now);
        return queue.Count - 1;
    }

    /// <summary>Takes the last <see cref="Cut"/> back: there was no frame to send it in.</summary>
    internal void Uncut(StackEnvironment environment)
    {
        Flight!.Queue.Uncut();
        ReturnFlightIfDone(environment);
    }

    /// <summary>The segment that was cut has been sent.</summary>
    internal void OnSent(int index, in SendDecision decision, TcpStackOptions options, Instant now)
    {
        Flight flight = Flight!;
        bool idle = Outstanding == 0;
        flight.Clock.Start(now);
        if (decision.Length > Mss)
            flight.Recovery.MtuProbe.Begin(ref flight.Queue[index]);
        flight.Recovery.OnSent(ref flight.Queue[index], Outstanding);
        flight.Persist.OnSent();
        if (idle)
        {
            flight.Retransmission.OnFirstSent(now);
            _congestion.OnFirstSent(now);
        }
        if (decision.Length > 0)
        {
            _lastSentAt = new FineInstant(now);
            TellPacer(flight, decision.Length, options, now);
        }
        SndNxt += decision.Length + (decision.Fin ? 1 : 0);
        BytesSent += decision.Length;
        _finSent |= decision.Fin;
        ArmTimers(options, now, restart: idle, progress: true);
    }

    private readonly void TellPacer(Flight flight, int bytes, TcpStackOptions options, Instant now) =>
        flight.Pacer.OnSent(bytes, IsPaced(flight, options) ? _congestion.PacingRate(Rtt.Srtt) : 0, Mss, now);

    /// <summary>A segment has been sent again.</summary>
    internal void OnRetransmitted(
        int index, TcpStackOptions options, in Timestamps timestamps, TcpStackCounters counters, Instant now)
    {
        Flight flight = Flight!;
        ref SentSegment segment = ref flight.Queue[index];
        segment.SentAt = now;
        if (segment.Length > 0)
            _lastSentAt = new FineInstant(now);
        if (_congestion.SetsWindowInRecovery)
            TellPacer(flight, segment.Length, options, now);
        SendState.Of(in this, in timestamps, counters, now, out SendState state);
        flight.Recovery.OnRetransmitted(ref segment, state, ref Losses);
        ArmTimers(options, now, restart: index == 0);
    }

    // ---- time

    /// <summary>
    /// Arms what waits for the peer: the retransmission timer and the tail loss probe while something is in flight, the
    /// persist timer while the window is too small for what there is.
    /// </summary>
    /// <param name="options">Settings.</param>
    /// <param name="now">The present.</param>
    /// <param name="restart">
    /// The oldest segment in flight has changed: its time starts now (RFC 6298, section 5).
    /// </param>
    /// <param name="progress">
    /// New data was sent or acknowledged: the time of the tail loss probe starts now (RFC 8985, section 7.2). Other
    /// segments of a peer that talks must not put it off.
    /// </param>
    internal void ArmTimers(TcpStackOptions options, Instant now, bool restart, bool progress = false)
    {
        if (Flight is not { } flight)
            return;
        if (restart)
            flight.Retransmission.Restart(now);
        ref TailLossProbe probe = ref flight.Recovery.Probe;
        if (Outstanding == 0)
        {
            flight.Retransmission.Disarm();
            probe.Deadline = Instant.Never;
            if (flight.Queue.UnsentBytes == 0)
                flight.Persist.Stop();
            else if (!flight.Persist.IsRunning && SndWnd < Math.Min(flight.Queue.UnsentBytes, Mss))
                ArmPersist(flight, options, now);
            return;
        }
        flight.Persist.Stop();
        flight.Retransmission.Arm(Rto(options), options.UserTimeout, now);
        bool probes = HasSack && Rtt.HasSample && flight.Retransmission.Backoff == 0 && flight.Recovery.MayProbe
            && Outstanding <= SndWnd;
        if (!probes)
        {
            probe.Deadline = Instant.Never;
            return;
        }
        if (progress || probe.Deadline == Instant.Never)
        {
            bool mayWait = flight.Queue.Count == 1 || (flight.Queue.Count == 2 && Outstanding <= Mss);
            probe.Deadline = now + TailLossProbe.Timeout(Rtt.Srtt, mayWait);
        }
        probe.Deadline = Instant.Min(probe.Deadline, flight.Retransmission.Deadline);
    }

    /// <summary>
    /// The window was shut before there was anything to send: no ACK will come to arm the persist timer.
    /// </summary>
    internal void ArmPersistIfBlocked(TcpStackOptions options, Instant now)
    {
        if (Flight is { } flight && Outstanding == 0 && flight.Queue.UnsentBytes > 0 && !flight.Persist.IsRunning)
            ArmTimers(options, now, restart: false);
    }

    private readonly void ArmPersist(Flight flight, TcpStackOptions options, Instant now) =>
        flight.Persist.Arm(Rtt.Rto(options, _persistBackoff), options.UserTimeout, now);

    /// <summary>Works through what is due. The connection does what the result says.</summary>
    internal SenderTimeouts OnDeadline(
        TcpStackOptions options, in Timestamps timestamps, TcpStackCounters counters, Instant now)
    {
        if (Flight is not { } flight)
            return SenderTimeouts.None;
        var fired = SenderTimeouts.None;
        if (flight.Recovery.ReorderDeadline <= now)
        {
            SendState.Of(in this, in timestamps, counters, now, out SendState state);
            flight.Recovery.OnReorderTimeout(state, ref Losses, Rtt);
            ArmTimers(options, now, restart: false);
            fired |= SenderTimeouts.Other;
        }
        if (flight.Pacer.Deadline <= now)
        {
            flight.Pacer.OnDeadline();
            fired |= SenderTimeouts.Other;
        }
        if (flight.Recovery.Probe.Deadline <= now)
            fired |= OnProbeTimeout(flight, options, timestamps, counters, now);
        if (flight.Retransmission.Deadline <= now && !fired.HasFlag(SenderTimeouts.GaveUp))
            fired |= OnRetransmitTimeout(flight, options, timestamps, counters, now);
        if (flight.Persist.Deadline <= now && !fired.HasFlag(SenderTimeouts.GaveUp))
            fired |= OnPersistTimeout(flight, options, now);
        return fired;
    }

    /// <summary>
    /// Tail loss probe (RFC 8985, section 7.3): new data if there is any, else the last segment again.
    /// </summary>
    private SenderTimeouts OnProbeTimeout(
        Flight flight, TcpStackOptions options, in Timestamps timestamps, TcpStackCounters counters, Instant now)
    {
        ref TailLossProbe probe = ref flight.Recovery.Probe;
        probe.Deadline = Instant.Never;
        if (flight.Queue.Count == 0)
            return SenderTimeouts.None;
        if (flight.Retransmission.HasExceeded(options.UserTimeout, now))
            return SenderTimeouts.GaveUp;
        counters.TlpProbes++;
        int length = NextCut(flight);
        if (flight.Queue.UnsentBytes > 0 && Outstanding + length <= SndWnd)
            probe.BeginWithNewData(SndNxt + length);
        else
            probe.BeginWithTail(SndNxt, timestamps.At(now));
        flight.Retransmission.Restart(now);
        // When the user timeout is over, that is for the retransmission timer to find, at once.
        flight.Retransmission.Arm(Rto(options), options.UserTimeout, now);
        return SenderTimeouts.Other;
    }

    /// <summary>RFC 6298, section 5.4 to 5.7.</summary>
    private SenderTimeouts OnRetransmitTimeout(
        Flight flight, TcpStackOptions options, in Timestamps timestamps, TcpStackCounters counters, Instant now)
    {
        flight.Retransmission.Disarm();
        if (flight.Queue.Count == 0)
            return SenderTimeouts.None;
        if (flight.Retransmission.HasExceeded(options.UserTimeout, now))
            return SenderTimeouts.GaveUp;
        counters.RtoFires++;
        // A shut window says nothing about the path: neither that it is congested, nor that it takes no large packets.
        bool isShut = SndWnd == 0;
        bool isFirst = flight.Retransmission.Backoff == 0;
        SendState.Of(in this, in timestamps, counters, now, out SendState state);
        flight.Recovery.OnRetransmitTimeout(state, isFirst && !isShut, ref Losses);
        flight.Retransmission.OnTimeout(now);
        _rtoBackoff = (byte)Math.Min(_rtoBackoff + 1, MaxBackoff);
        ArmTimers(options, now, restart: true);
        if (isShut)
            return SenderTimeouts.Other;
        return isFirst ? SenderTimeouts.Retransmission : SenderTimeouts.Retransmission | SenderTimeouts.Repeated;
    }

    /// <summary>Probes a window that is shut; takes one that is a crumb.</summary>
    private SenderTimeouts OnPersistTimeout(Flight flight, TcpStackOptions options, Instant now)
    {
        bool windowIsShut = SndWnd == 0;
        flight.Persist.OnTimeout(windowIsShut);
        if (now - flight.Persist.Since >= options.UserTimeout)
            return SenderTimeouts.GaveUp;
        ProbeIsDue = windowIsShut;
        _persistBackoff = (byte)Math.Min(_persistBackoff + 1, MaxBackoff);
        ArmPersist(flight, options, now);
        return SenderTimeouts.Persist;
    }

    /// <summary>Full segments are smaller than what is in flight: that did not get through.</summary>
    internal void OnTooLarge(TcpStackOptions options, in Timestamps timestamps, TcpStackCounters counters, Instant now)
    {
        if (Flight is not { } flight)
            return;
        SendState.Of(in this, in timestamps, counters, now, out SendState state);
        flight.Recovery.OnTooLarge(state, ref Losses);
        if (flight.Queue.Count > 0)
            ArmTimers(options, now, restart: true);
    }

    /// <summary>
    /// A path that takes less than the link is tried with more. True when it is known by now to take another size.
    /// </summary>
    internal readonly bool SearchMtu(
        ref PathMtu path, HeaderLengths headers, int linkMtu, int capacity, Instant now)
    {
        if (Flight is not { } flight)
            return false;
        ref MtuProbe probe = ref flight.Recovery.MtuProbe;
        bool isKnown = probe.TryTakeResult(out MtuProbeResult result);
        if (isKnown)
            path.OnProbe(result, headers, linkMtu, now);
        probe.Wanted = path.ProbeMss(headers, linkMtu, capacity, now);
        return isKnown;
    }

    // ---- the flight

    private Flight Borrow(StackEnvironment environment)
    {
        if (Flight is { } flight)
            return flight;
        flight = environment.Flights.Borrow();
        flight.Start(SndNxt, Mss);
        Flight = flight;
        return flight;
    }

    /// <summary>Gives the flight back, with every block in it.</summary>
    internal void ReturnFlight(StackEnvironment environment)
    {
        if (Flight is not { } flight)
            return;
        Flight = null;
        flight.Clock.Stop(ref _times, environment.Now);
        flight.Clear();
        environment.Flights.Return(flight);
    }

    /// <summary>
    /// Gives the flight back if nothing is in flight, nothing waits to be sent, and no probe is unanswered.
    /// </summary>
    internal void ReturnFlightIfDone(StackEnvironment environment)
    {
        // A SYN that is not acknowledged needs no flight.
        if (Flight is { } flight && flight.Queue.Count == 0 && flight.Queue.UnsentBytes == 0
            && flight.Recovery.Probe.EndSeq is null)
        {
            ReturnFlight(environment);
        }
    }

    /// <summary>For how long there was something to send, what runs at present included.</summary>
    internal readonly SendTimes TimesAt(Instant now)
    {
        SendTimes times = _times;
        SendClock clock = Flight?.Clock ?? default;
        clock.Stop(ref times, now);
        return times;
    }
}

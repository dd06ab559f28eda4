namespace Xdp.TcpLite;

/// <summary>
/// One TCP connection (RFC 9293). Belongs to its <see cref="TcpStack"/>, and is called only by whoever may call the
/// stack at that moment. Variables carry the RFC's names.
/// </summary>
/// <remarks>
/// The parts: arrival of a segment in <c>TcpConnection.Receive.cs</c>, acknowledgements and loss recovery in
/// <c>TcpConnection.Acknowledge.cs</c>, the decision what to send next in <c>TcpConnection.Send.cs</c>, deadlines in
/// <c>TcpConnection.Timers.cs</c>. Nothing here sends: calls change state and mark the connection, and <see cref="TcpStack.Emit"/> asks it
/// for segments until it has none.
/// </remarks>
public sealed partial class TcpConnection : FlowEntry
{
    private readonly TcpStack _stack;

    /// <summary>The stack's, or a copy of them where the host has other wishes for this connection.</summary>
    private TcpStackOptions _options;
    private Flight _flight = Flight.None;
    private ReassemblyQueue _reassembly = ReassemblyQueue.None;
    private readonly ICongestionControl _congestion;
    private NegotiatedOptions _negotiated;
    private SharedPath _path;
    private TcpEvents _events;
    private bool _cork;

    // A connection is at most once on each of the stack's lists.
    internal bool IsReady;
    internal bool IsToEmit;

    internal TcpConnection(TcpStack stack, in FlowKey flow, SharedPath path, in NegotiatedOptions negotiated, SeqNumber iss, Instant now)
        : base(flow)
    {
        _stack = stack;
        _options = stack.Options;
        _negotiated = negotiated;
        NoDelay = _options.NoDelay;
        _congestion = new Cubic();
        _path = path;
        UpdateMss();
        _congestion.Start(_sndMss);
        SndUna = iss;
        SndNxt = iss;
        _rcvBuffer = Math.Min(_options.ReceiveBufferInitial, _options.ReceiveBufferMax);
        _rcvMss = Math.Min(_sndMss, (ushort)536);
        _challengedAt = TcpStack.TimestampClock(now) - InvalidInterval;
        _windowGrowthFrom = now;
        _heardAt = new CoarseInstant(now);
    }

    public TcpState State { get; private set; }

    /// <summary>Where segments are sent: where the last one that was accepted came from, or what was set since.</summary>
    public LinkPath Path
    {
        get => _path.Value;
        set => _path = _stack.Paths.Share(value);
    }

    /// <summary>The host's own object for this connection. The stack does not look at it.</summary>
    public object? Owner { get; set; }

    /// <summary>Send small segments at once (true), or collect them while data is unacknowledged (false).</summary>
    public bool NoDelay { get; set; }

    /// <summary>Send only full segments until it is taken back or the connection is shut down.</summary>
    public bool Cork
    {
        get => _cork;
        set
        {
            _cork = value;
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

    // ---- receive

    /// <summary>In-order bytes that have not been taken.</summary>
    public long ReadableBytes => _received.Bytes;

    /// <summary>
    /// Takes in-order blocks until <paramref name="maxBytes"/> are reached or exceeded. The caller owns them and returns each. The
    /// receive window stays as it is until <see cref="ReleaseWindow"/>.
    /// </summary>
    public BlockQueue TakeReceived(long maxBytes)
    {
        BlockQueue taken = default;
        if (_received.Bytes <= maxBytes)
        {
            taken = _received;
            _received = default;
            return taken;
        }
        while (taken.Bytes < maxBytes && _received.Dequeue() is { } block)
            taken.Enqueue(block);
        return taken;
    }

    /// <summary>The application has examined <paramref name="bytes"/> of what was taken: they no longer count against the receive buffer.</summary>
    public void ReleaseWindow(long bytes)
    {
        if (_discardReceived)
            return;
        _unreleased -= (int)bytes;
        _releasedSinceGrowth = (int)Math.Min(_releasedSinceGrowth + bytes, int.MaxValue);
        if (CanReceive && WorthAnnouncing())
            AckNow();
    }

    // ---- send

    /// <summary>
    /// Takes over the blocks of <paramref name="data"/> and will send their bytes. After <see cref="Shutdown"/> or the connection's end, the blocks are
    /// returned unsent.
    /// </summary>
    public void Write(ref BlockQueue data)
    {
        if (_finQueued || !CanSend)
        {
            data.ReturnAll();
            return;
        }
        BorrowFlight().Append(ref data, _stack.Frames, EffectiveMss);
        ReturnFlightIfDone();
        RequestEmit();
    }

    /// <summary>Written bytes that were never sent.</summary>
    public long UnsentBytes => _flight.UnsentBytes;

    /// <summary>Written bytes that are not acknowledged, sent or not.</summary>
    public long UnacknowledgedBytes => _flight.Bytes;

    /// <summary>Payload bytes that a full segment carries now, options deducted.</summary>
    public int EffectiveMss => _sndMss;

    /// <summary>Nothing more will be written: FIN follows the last byte. Idempotent.</summary>
    public void Shutdown()
    {
        if (_finQueued || !CanSend)
            return;
        _finQueued = true;
        RequestEmit();
    }

    /// <summary>
    /// Nothing more will be read either: received bytes are dropped from here on, acknowledged, and do not turn the FIN into
    /// a RST. Written bytes are still delivered. Implies <see cref="Shutdown"/>.
    /// </summary>
    public void Close()
    {
        Shutdown();
        if (_discardReceived)
            return;
        _discardReceived = true;
        _unreleased = 0;
        _received.ReturnAll();
        ClearReassembly();
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
            _received.ReturnAll();
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

    public TcpConnectionInfo GetInfo(Instant now) => new()
    {
        State = State,
        SndMss = _sndMss,
        RcvMss = _rcvMss,
        Cwnd = _congestion.Cwnd,
        Ssthresh = _congestion.Ssthresh,
        SndWnd = SndWnd,
        RcvWnd = Math.Max(0, _rcvAdvertised - RcvNxt),
        Srtt = _rtt.Srtt,
        RttVar = _rtt.RttVar,
        MinRtt = _rtt.MinRtt,
        Rto = _rtt.Rto(_options, _rtoBackoff),
        Unacked = SndNxt - SndUna,
        Sacked = _flight.SackedBytes,
        Lost = _flight.LostBytes,
        Unsent = _flight.UnsentBytes,
        TotalRetransmits = _retransmits,
        SpuriousRetransmits = _spuriousRetransmits,
        Backoff = _flight.Backoff,
        ReorderingSeen = _reordering.Seen,
        RcvSpace = _rcvBuffer,
        BytesSent = _bytesSent,
        BytesAcked = BytesAcked,
        BytesReceived = _bytesReceived,
        SegmentsIn = _segmentsIn,
        SegmentsOut = _segmentsOut,
    };

    // ---- shared by the parts

    private bool CanSend => State is TcpState.SynSent or TcpState.SynReceived or TcpState.Established or TcpState.CloseWait;

    private bool CanReceive => State is TcpState.Established or TcpState.FinWait1 or TcpState.FinWait2;

    private void Raise(TcpEvents events)
    {
        _events |= events;
        _stack.MarkReady(this);
    }

    private void RequestEmit() => _stack.MarkToEmit(this);

    private bool HasFlight => !ReferenceEquals(_flight, Flight.None);

    /// <summary>The flight, which there is from here on.</summary>
    private Flight BorrowFlight()
    {
        if (HasFlight)
            return _flight;
        Flight flight = _stack.Flights.Borrow();
        flight.NoneLostBefore = flight.CwndUseEnd = SndUna;
        return _flight = flight;
    }

    private void ReturnFlight()
    {
        if (!HasFlight)
            return;
        Flight flight = _flight;
        _flight = Flight.None;
        flight.Clear();
        _stack.Flights.Return(flight);
    }

    /// <summary>Nothing is in flight, nothing waits to be sent, and no answer to a probe is missed.</summary>
    private void ReturnFlightIfDone()
    {
        if (SndNxt == SndUna && _flight.UnsentBytes == 0 && _flight.TlpEnd is null)
            ReturnFlight();
    }

    /// <summary>The connection is over: everything it holds goes home, and the stack forgets it.</summary>
    /// <param name="why">What ended it, if it was not the application.</param>
    /// <param name="inOrder">
    /// Both sides have closed. What was received is complete, and stays for the application to take; at any other end nobody
    /// would.
    /// </param>
    private void Finish(TcpEvents why, bool inOrder = false)
    {
        if (State == TcpState.Closed)
            return;
        State = TcpState.Closed;
        ReturnFlight();
        ClearReassembly();
        if (!inOrder)
            _received.ReturnAll();
        _stack.Forget(this);
        Raise(why | TcpEvents.Closed);
    }

    private void EnterTimeWait(Instant now)
    {
        var timeWait = new TimeWait(Key)
        {
            Path = _path,
            SndNxt = SndNxt,
            RcvNxt = RcvNxt,
            Window = AdvertisedWindow(),
            Timestamps = _negotiated.Timestamps,
            TsOffset = _negotiated.TsOffset,
            TsRecent = _negotiated.TsRecent,
        };
        bool owesAck = _ackNow;
        Finish(TcpEvents.None, inOrder: true);
        _stack.AddTimeWait(timeWait, owesAck, now);
    }

    private const int TimestampOptionLength = 12;

    /// <summary>Smaller segments than this are not worth their headers: a peer that announces less gets this (RFC 6691; Linux's tcp_min_snd_mss).</summary>
    private const int MinMss = 36;
}

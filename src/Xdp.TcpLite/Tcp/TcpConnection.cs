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
    private readonly TcpStackOptions _options;
    private readonly SendQueue _send;
    private readonly ReassemblyQueue _reassembly = new();
    private readonly ICongestionControl _congestion;
    private NegotiatedOptions _negotiated;
    private LinkPath _path;
    private HeaderTemplate _headers;
    private TcpEvents _events;
    private bool _cork;
    private TimeSpan? _keepAlive;

    // Links of the stack's lists; a connection is at most once on each.
    internal TcpConnection? NextReady;
    internal TcpConnection? NextToEmit;
    internal bool IsReady;
    internal bool IsToEmit;
    internal Listener? Listener;

    internal TcpConnection(TcpStack stack, in FlowKey flow, in LinkPath path, in NegotiatedOptions negotiated, SeqNumber iss, Instant now)
        : base(flow)
    {
        _stack = stack;
        _send = new SendQueue(stack.Rings);
        _options = stack.Options;
        _negotiated = negotiated;
        NoDelay = _options.NoDelay;
        UserTimeout = _options.UserTimeout;
        _keepAlive = _options.KeepAlive;
        _congestion = new Cubic();
        SetPath(path);
        UpdateMss();
        _congestion.Start(_sndMss);
        Iss = iss;
        SndUna = iss;
        SndNxt = iss;
        _cwndUseEnd = iss;
        _rcvBuffer = Math.Min(_options.ReceiveBufferInitial, _options.ReceiveBufferMax);
        _rcvMss = Math.Min(_sndMss, 536);
        _lastHeardAt = now;
        _windowGrowthFrom = now;
    }

    public TcpState State { get; private set; }

    /// <summary>Where segments are sent: where the last one that was accepted came from, or what was set since.</summary>
    public LinkPath Path
    {
        get => _path;
        set => SetPath(value);
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
    public TimeSpan UserTimeout { get; set; }

    /// <summary>Idle time before the first keepalive probe; null sends none.</summary>
    public TimeSpan? KeepAlive
    {
        get => _keepAlive;
        set
        {
            _keepAlive = value;
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
        _unreleased -= bytes;
        _releasedSinceGrowth += bytes;
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
        _send.Append(ref data, _stack.Frames, EffectiveMss);
        RequestEmit();
    }

    /// <summary>Written bytes that were never sent.</summary>
    public long UnsentBytes => _send.UnsentBytes;

    /// <summary>Written bytes that are not acknowledged, sent or not.</summary>
    public long UnacknowledgedBytes => _send.Bytes;

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
        _reassembly.Clear(_stack.Frames);
        if (State == TcpState.FinWait2)
            ArmFinWait2(_stack.Now);
    }

    /// <summary>Ends the connection with a RST and drops what was not sent. Idempotent.</summary>
    public void Abort()
    {
        if (State == TcpState.Closed)
            return;
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
        Sacked = _sackedBytes,
        Lost = _lostBytes,
        Unsent = _send.UnsentBytes,
        TotalRetransmits = _retransmits,
        SpuriousRetransmits = _spuriousRetransmits,
        Backoff = _backoff,
        ReorderingSeen = _rack.ReorderingSeen,
        RcvSpace = _rcvBuffer,
        BytesSent = _bytesSent,
        BytesAcked = _bytesAcked,
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

    /// <summary>The connection is over: everything it holds goes home, and the stack forgets it.</summary>
    private void Finish(TcpEvents why)
    {
        if (State == TcpState.Closed)
            return;
        State = TcpState.Closed;
        _send.Clear();
        _reassembly.Clear(_stack.Frames);
        if ((why & TcpEvents.Reset) != 0 || _discardReceived)
            _received.ReturnAll();
        _stack.Forget(this);
        Raise(why | TcpEvents.Closed);
    }

    private void EnterTimeWait(Instant now)
    {
        var timeWait = new TimeWait(Flow)
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
        Finish(TcpEvents.None);
        _stack.AddTimeWait(timeWait, owesAck, now);
    }

    private void SetPath(in LinkPath path)
    {
        _path = path;
        _headers = HeaderTemplate.Create(path, Flow);
    }

    private const int TimestampOptionLength = 12;

    /// <summary>Smaller segments than this are not worth their headers: a peer that announces less gets this (RFC 6691; Linux's tcp_min_snd_mss).</summary>
    private const int MinMss = 36;
}

using System.Diagnostics.CodeAnalysis;

namespace Xdp.TcpLite;

/// <summary>
/// A TCP/IP stack without threads, clock, sockets or randomness of its own: deterministic given its inputs. The caller
/// serialises all calls (any thread, one at a time).
/// </summary>
/// <remarks>
/// <para>
/// A turn is: <see cref="Receive"/> for each packet, <see cref="OnDeadline"/> when <see cref="NextDeadline"/> has come,
/// <see cref="TryAccept"/> and <see cref="TryTakeReady"/> until they say no, calls on connections, and
/// <see cref="Emit"/> until it returns less than it was given room for.
/// </para>
/// <para>
/// The stack finds what a segment is for, and owns the lists of connections that have something to say or to send. The
/// rest is in parts, none of which knows the stack: <see cref="Listeners"/>, <see cref="HalfOpenTable"/>,
/// <see cref="CookieHandshake"/>, <see cref="AcceptQueue"/>, <see cref="TimeWaitTable"/>, <see cref="ResetLimiter"/>.
/// <see cref="StackEnvironment"/> is what they share.
/// </para>
/// </remarks>
public sealed class TcpStack
{
    /// <summary>
    /// Segments that one connection may emit before the others have their turn. Fewer would not make up for the switch
    /// from one connection to the next; with more, a bulk sender would hold up small answers.
    /// </summary>
    private const int EmitBurst = 32;

    private readonly Listeners _listeners;
    private readonly ResetLimiter _resets;
    private readonly HalfOpenTable _halfOpen;
    private readonly CookieHandshake _cookies;
    private readonly AcceptQueue _accepted = new();
    private readonly TimeWaitTable _timeWaits;
    private readonly ConnectionQueue _ready = new();
    private readonly ConnectionQueue _toEmit = new();

    /// <param name="options">Settings.</param>
    /// <param name="frames">The queue's UMEM.</param>
    /// <param name="blocks">Heap memory.</param>
    /// <param name="secret">32 random bytes; stacks that may see each other's flows share them.</param>
    /// <param name="now">The present.</param>
    public TcpStack(TcpStackOptions options, FramePool frames, BlockPool blocks, ReadOnlySpan<byte> secret, Instant now)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(frames);
        ArgumentNullException.ThrowIfNull(blocks);
        ArgumentOutOfRangeException.ThrowIfLessThan(secret.Length, 32);
        Environment = new StackEnvironment(options, frames, blocks, secret, now);
        _listeners = new Listeners(options.Backlog);
        _resets = new ResetLimiter(Environment);
        _halfOpen = new HalfOpenTable(Environment, _resets);
        _cookies = new CookieHandshake(Environment, secret[..32]);
        _timeWaits = new TimeWaitTable(Environment);
        Orphans = new OrphanTable(options);
    }

    public TcpStackOptions Options => Environment.Options;

    public TcpStackCounters Counters => Environment.Counters;

    /// <summary>
    /// Who knows the ways to peers. Null: the way that a packet came is the way back.
    /// </summary>
    public IRoutes? Routes
    {
        get => Environment.Routes;
        init => Environment.Routes = value;
    }

    /// <summary>Connections in any state but TIME-WAIT, half-open ones not counted.</summary>
    public int ConnectionCount { get; private set; }

    public int HalfOpenCount => _halfOpen.Count;

    public int TimeWaitCount => _timeWaits.Count;

    /// <summary>
    /// May this stack know a segment that belongs to none of its connections: is one half-open or in TIME-WAIT, or may
    /// a SYN cookie come back? For a host that has several stacks, and asks from another thread: near enough.
    /// </summary>
    public bool ExpectsOtherSegments => _halfOpen.Count > 0 || _timeWaits.Count > 0 || _cookies.IsExpected(Now);

    /// <summary>Connections that the application has closed and that still go on, TIME-WAIT not counted.</summary>
    public int OrphanCount => Orphans.Count;

    /// <summary>Memory of what the peers of such connections have not acknowledged.</summary>
    public long OrphanMemory => Orphans.Memory;

    /// <summary>Is there a connection (half-open and TIME-WAIT included) with this 4-tuple?</summary>
    public bool Owns(in FlowKey flow) => Environment.Flows.Find(flow) is not null;

    /// <summary>
    /// Which of these addresses and ports have a connection, half-open and TIME-WAIT included? Looks at all of them.
    /// </summary>
    /// <param name="ends">Local ends of interest.</param>
    /// <param name="found">Gets those that have one.</param>
    public void FindInUse(
        IReadOnlySet<(IpAddr Address, ushort Port)> ends, ISet<(IpAddr Address, ushort Port)> found)
    {
        ArgumentNullException.ThrowIfNull(ends);
        ArgumentNullException.ThrowIfNull(found);
        foreach (FlowEntry entry in Environment.Flows)
        {
            (IpAddr, ushort) end = (entry.Key.Local, entry.Key.LocalPort);
            if (ends.Contains(end))
                found.Add(end);
        }
    }

    /// <summary>
    /// The interface's MTU has changed. New connections announce it. All of them send what fits, also what they send
    /// again; one that was opened with less keeps to that.
    /// </summary>
    /// <param name="mtu">As <see cref="TcpStackOptions.Mtu"/>.</param>
    /// <param name="receiveMtu">As <see cref="TcpStackOptions.ReceiveMtu"/>.</param>
    public void ChangeMtu(int mtu, int? receiveMtu)
    {
        Environment.Options = Options with { Mtu = mtu, ReceiveMtu = receiveMtu };
        _listeners.ChangeMtu(mtu, receiveMtu);
        foreach (FlowEntry entry in Environment.Flows)
            (entry as TcpConnection)?.OnLinkMtuChanged();
    }

    // ---- opening

    /// <summary>
    /// Accepts connections to this address and port; the default <see cref="IpAddr"/> means every address. Idempotent.
    /// </summary>
    /// <param name="local">Local address.</param>
    /// <param name="port">Local port.</param>
    /// <param name="owner">Given to each accepted connection as <see cref="TcpConnection.Owner"/>.</param>
    /// <param name="hasRoom">
    /// Has the host room for one more connection? Asked before a handshake ends. While it says no, the handshake waits:
    /// the peer tries again. Null: always.
    /// </param>
    /// <param name="options">
    /// What its connections have in place of <see cref="Options"/>; null for nothing. It may differ in
    /// <see cref="TcpStackOptions.NoDelay"/>, <see cref="TcpStackOptions.CongestionControl"/>,
    /// <see cref="TcpStackOptions.UserTimeout"/> and the three of <see cref="TcpStackOptions.KeepAlive"/>. The rest
    /// must be equal: it shapes the handshake, or what all connections share.
    /// </param>
    public void Listen(
        IpAddr local, ushort port, object? owner, Func<bool>? hasRoom = null, TcpStackOptions? options = null) =>
        _listeners.Open(local, port, owner, hasRoom, options);

    /// <summary>Accepts no new connections there; half-open ones are dropped, established ones live on.</summary>
    public void StopListening(IpAddr local, ushort port) => _listeners.Close(local, port);

    /// <summary>
    /// The next established connection that nobody has accepted. <see cref="TcpConnection.Owner"/> is the listener's.
    /// </summary>
    public bool TryAccept([NotNullWhen(true)] out TcpConnection? connection) => _accepted.TryTake(out connection);

    /// <summary>Opens a connection; <see cref="TcpEvents.Established"/> tells when it is there.</summary>
    /// <returns>Null when there is a connection with this 4-tuple already.</returns>
    public TcpConnection? Connect(in FlowKey flow, in LinkPath path, Instant now)
    {
        Now = now;
        Route route = Paths.Share(path);
        IsnGenerator isn = Environment.Isn;
        NegotiatedOptions offer = SynOptions.Offer(Options, flow, isn.TimestampOffset(flow));
        var connection = new TcpConnection(this, flow, route, offer, isn.Next(flow, now), Options, now);
        if (!Environment.Flows.TryAdd(connection))
            return null;
        ConnectionCount++;
        connection.StartActive(offer, now);
        return connection;
    }

    // ---- what arrives

    /// <summary>
    /// Handles one packet: <paramref name="length"/> bytes from <paramref name="start"/> of <paramref name="frame"/>,
    /// which is in state <see cref="FrameState.Rx"/>, or a heap block.
    /// </summary>
    /// <param name="frame">Where the packet lies.</param>
    /// <param name="start">Offset of its first byte.</param>
    /// <param name="length">Its bytes.</param>
    /// <param name="now">The present.</param>
    /// <param name="flow">The segment's 4-tuple; default when it has none.</param>
    public ReceiveResult Receive(Block frame, int start, int length, Instant now, out FlowKey flow)
    {
        Now = now;
        Counters.SegmentsIn++;
        DropReason reason = Parse(frame.Span.Slice(start, length), out Packet packet);
        flow = packet.Flow;
        if (reason == DropReason.NotTcp)
            return ReceiveIcmp(frame.Span.Slice(start, length), now, out flow);
        if (reason != DropReason.None)
        {
            Drop(reason);
            return ReceiveResult.Done;
        }
        return ReceiveSegment(packet, frame, start, now);
    }

    /// <summary>
    /// Handles one packet that lies in several blocks, in their order, each of which holds a part of it. The headers
    /// are in the first. Each is a frame in state <see cref="FrameState.Rx"/>, or a heap block.
    /// </summary>
    /// <param name="blocks">The packet. What the stack keeps leaves the queue. The caller returns the rest.</param>
    /// <param name="now">The present.</param>
    /// <param name="flow">The segment's 4-tuple; default when it has none.</param>
    /// <returns>
    /// Never <see cref="ReceiveResult.Kept"/>. After <see cref="ReceiveResult.UnknownFlow"/> the packet is as it was.
    /// </returns>
    public ReceiveResult ReceiveChain(ref BlockQueue blocks, Instant now, out FlowKey flow)
    {
        Block first = blocks.Dequeue() ?? throw new ArgumentException("A packet has a block.", nameof(blocks));
        BlockQueue further = blocks;
        blocks = default;
        ReceiveResult result = further.IsEmpty
            ? Receive(first, first.Start, first.Length, now, out flow)
            : ReceiveParts(first, ref further, now, out flow);
        if (result != ReceiveResult.Kept)
            blocks.Enqueue(first);
        blocks.Append(ref further);
        return result == ReceiveResult.Kept ? ReceiveResult.Done : result;
    }

    private ReceiveResult ReceiveParts(Block first, ref BlockQueue further, Instant now, out FlowKey flow)
    {
        Now = now;
        Counters.SegmentsIn++;
        DropReason reason = Parse(first.Bytes, out Packet packet, further);
        flow = packet.Flow;
        if (reason != DropReason.None)
        {
            Drop(reason);
            return ReceiveResult.Done;
        }
        Environment.FurtherParts = further;
        ReceiveResult result = ReceiveSegment(packet, first, first.Start, now);
        further = Environment.FurtherParts;
        Environment.FurtherParts = default;
        return result;
    }

    private ReceiveResult ReceiveSegment(in Packet packet, Block frame, int start, Instant now)
    {
        Counters.BytesIn += packet.PayloadLength;
        switch (Environment.Flows.Find(packet.Flow))
        {
            case TcpConnection connection:
                return connection.Receive(packet, frame, start, now) ? ReceiveResult.Kept : ReceiveResult.Done;
            case HalfOpen half:
                return _halfOpen.Receive(half, packet, now)
                    ? Accept(half, packet, frame, start, now)
                    : ReceiveResult.Done;
            case TimeWait timeWait:
                return ReceiveTimeWait(timeWait, packet, now);
            default:
                return ReceiveUnknown(packet, frame, start, now);
        }
    }

    /// <summary>
    /// Answers the segment that <see cref="Receive"/> called <see cref="ReceiveResult.UnknownFlow"/> as RFC 9293,
    /// section 3.10.7.1 has it for CLOSED: with a RST, rate-limited.
    /// </summary>
    /// <returns>False when the host has to find out the way to the peer: the packet is to be received again.</returns>
    public bool Refuse(Block frame, int start, int length, Instant now) =>
        RefuseParts(frame.Span.Slice(start, length), further: default, now);

    /// <summary>
    /// As <see cref="Refuse"/>, for what <see cref="ReceiveChain"/> did not know. The packet stays the caller's.
    /// </summary>
    public bool RefuseChain(in BlockQueue blocks, Instant now)
    {
        Block first = blocks.Head ?? throw new ArgumentException("A packet has a block.", nameof(blocks));
        return RefuseParts(first.Bytes, blocks.BehindHead, now);
    }

    private bool RefuseParts(ReadOnlySpan<byte> bytes, in BlockQueue further, Instant now)
    {
        Now = now;
        DropReason reason = Parse(bytes, out Packet packet, further);
        // LISTEN drops what has neither SYN nor ACK (section 3.10.7.2).
        bool answers = reason == DropReason.None && !packet.IsRst
            && (packet.IsAck || _listeners.Find(packet.Flow) is null);
        bool ask = Routes is { IsBusy: false };
        if (answers && ask && Environment.RouteBack(packet, ask) is null)
            return false;
        Drop(reason == DropReason.None ? DropReason.NoListener : reason);
        if (answers)
            Reset(packet);
        return true;
    }

    private DropReason Parse(ReadOnlySpan<byte> bytes, out Packet packet, in BlockQueue further = default) =>
        PacketParser.Parse(bytes, Options.AcceptPartialChecksum, out packet, Options.Link, further);

    private ReceiveResult ReceiveIcmp(ReadOnlySpan<byte> packet, Instant now, out FlowKey flow)
    {
        DropReason reason = PacketParser.ParseIcmp(packet, out IcmpError news, Options.Link);
        flow = news.Flow;
        if (reason != DropReason.None)
        {
            Drop(reason);
            return ReceiveResult.Done;
        }
        if (Environment.Flows.Find(flow) is not TcpConnection connection)
            return ReceiveResult.UnknownFlow;
        connection.ReceiveIcmp(news, now);
        return ReceiveResult.Done;
    }

    private ReceiveResult ReceiveTimeWait(TimeWait timeWait, in Packet packet, Instant now)
    {
        if (timeWait.MayBeReusedBy(packet) && _listeners.Find(packet.Flow) is { } listener)
            return ReceiveSyn(listener, packet, timeWait, now);
        _timeWaits.Receive(timeWait, packet, now);
        return ReceiveResult.Done;
    }

    /// <summary>
    /// A segment that meets no connection. To a listener it may be a SYN (RFC 9293, section 3.10.7.2), or an ACK that
    /// brings back a cookie.
    /// </summary>
    private ReceiveResult ReceiveUnknown(in Packet packet, Block frame, int start, Instant now)
    {
        if (packet.IsRst)
        {
            Drop(DropReason.NoListener);
            return ReceiveResult.UnknownFlow;
        }
        bool isSyn = packet.IsSyn && !packet.IsAck;
        bool mayBeCookie = packet.IsAck && !packet.IsSyn && _cookies.IsExpected(now);
        if ((!isSyn && !mayBeCookie) || _listeners.Find(packet.Flow) is not { } listener)
            return ReceiveResult.UnknownFlow;
        if (isSyn)
            return ReceiveSyn(listener, packet, previous: null, now);
        if (!_cookies.TryCheck(packet, now, out SynCookieOptions cookie))
            return ReceiveResult.UnknownFlow;
        if (FindRoute(packet, out Route? route) is { } unusable)
            return unusable;
        return _cookies.Complete(listener, packet, cookie, route!) is { } half
            ? Accept(half, packet, frame, start, now)
            : ReceiveResult.Done;
    }

    /// <summary>The way to a new peer; or else what becomes of its packet.</summary>
    private ReceiveResult? FindRoute(in Packet packet, out Route? route)
    {
        route = Environment.RouteBack(packet, ask: true);
        switch (route?.Kind)
        {
            case null:
                return ReceiveResult.RouteUnknown;
            case RouteKind.Elsewhere:
                return ReceiveResult.Elsewhere;
            case RouteKind.Refused:
                Drop(DropReason.NoRoute);
                return ReceiveResult.Done;
            default:
                return null;
        }
    }

    /// <param name="listener">Who accepts the connection.</param>
    /// <param name="syn">SYN and no ACK.</param>
    /// <param name="previous">A connection with the same 4-tuple, whose place the new one takes.</param>
    /// <param name="now">The present.</param>
    private ReceiveResult ReceiveSyn(Listener listener, in Packet syn, TimeWait? previous, Instant now)
    {
        if (syn.IsFin)
        {
            Drop(DropReason.BadSyn);
            return ReceiveResult.Done;
        }
        if (!listener.HasRoomForWaiting)
        {
            Drop(DropReason.AcceptQueueFull);
            return ReceiveResult.Done;
        }
        bool needsCookie = !listener.HasRoomForHalfOpen || (Options.SynCookies && Routes is { IsBusy: true });
        if (needsCookie && !Options.SynCookies)
        {
            Drop(DropReason.BacklogFull);
            return ReceiveResult.Done;
        }
        // A flood asks for no routes: where one is not known, the cookie's ACK asks.
        Route? route = needsCookie ? Environment.RouteBack(syn, ask: false) ?? Paths.Share(syn.Path) : null;
        if (route is not { Kind: RouteKind.Link } && FindRoute(syn, out route) is { } unusable)
            return unusable;
        // With a cookie, nothing but its ACK will tell of the new connection, and that must not meet the old one.
        if (previous is not null)
        {
            Counters.TimeWaitReused++;
            _timeWaits.Forget(previous);
        }
        if (needsCookie)
            _cookies.Answer(syn, route!, now);
        else
            _halfOpen.Open(listener, syn, route!, previous?.LowestSuccessorIss, now);
        return ReceiveResult.Done;
    }

    /// <summary>The handshake is complete: its last segment is the connection's first.</summary>
    private ReceiveResult Accept(HalfOpen half, in Packet packet, Block frame, int start, Instant now)
    {
        TcpStackOptions options = half.Listener.Options ?? Options;
        var connection = new TcpConnection(this, half.Key, half.Route, half.Options, half.Iss, options, now)
        {
            Owner = half.Listener.Owner,
        };
        Environment.Flows.TryAdd(connection);
        ConnectionCount++;
        connection.StartPassive(half, packet, now);
        _accepted.Add(connection, half.Listener);
        Counters.ConnectionsAccepted++;
        return connection.Receive(packet, frame, start, now) ? ReceiveResult.Kept : ReceiveResult.Done;
    }

    // ---- deadlines

    /// <summary>
    /// When <see cref="OnDeadline"/> wants to be called next; <see cref="Instant.Never"/> when it does not.
    /// </summary>
    public Instant NextDeadline => Wheel.NextDeadline;

    /// <summary>Runs every timer that has come due.</summary>
    public void OnDeadline(Instant now)
    {
        Now = now;
        while (Wheel.TakeExpired(now) is { } entry)
        {
            switch (entry)
            {
                case TcpConnection connection:
                    connection.OnDeadline(now);
                    break;
                case HalfOpen half:
                    _halfOpen.OnDeadline(half, now);
                    break;
                case TimeWait timeWait:
                    _timeWaits.Forget(timeWait);
                    break;
            }
        }
    }

    // ---- what leaves

    /// <summary>
    /// The next connection with events to take. A connection is given once, however many events it has.
    /// </summary>
    public bool TryTakeReady(out TcpConnection connection)
    {
        if (_ready.IsEmpty)
        {
            connection = null!;
            return false;
        }
        connection = _ready.Dequeue();
        connection.IsReady = false;
        return true;
    }

    /// <summary>Is there something to <see cref="Emit"/>?</summary>
    public bool WantsToEmit => !_toEmit.IsEmpty || Environment.Replies.Count > 0;

    /// <summary>
    /// Writes the next segments to be sent and returns how many. Less than <paramref name="packets"/> has room for
    /// means that there is nothing more to send now, or no frame to send it in. Each frame counts as in the kernel from
    /// here on.
    /// </summary>
    public int Emit(Span<TxPacket> packets, Instant now)
    {
        Now = now;
        int count = 0;
        while (count < packets.Length && Environment.Replies.Count > 0)
        {
            if (!TryEmitReply(out packets[count]))
            {
                Counters.EmitStarved++;
                return count;
            }
            count++;
        }
        while (count < packets.Length && !_toEmit.IsEmpty)
        {
            TcpConnection connection = _toEmit.First;
            int burst = Math.Min(packets.Length - count, EmitBurst);
            bool starved = false;
            int emitted = 0;
            while (emitted < burst && connection.TryEmit(now, out packets[count], out starved))
            {
                emitted++;
                count++;
            }
            if (starved)
            {
                Counters.EmitStarved++;
                return count;
            }
            _toEmit.Dequeue();
            connection.IsToEmit = false;
            if (emitted == burst)
                MarkToEmit(connection);
        }
        return count;
    }

    /// <summary>False when there is no frame to be had.</summary>
    private bool TryEmitReply(out TxPacket packet)
    {
        if (Frames.TryTakeForSegment() is not { } frame)
        {
            packet = default;
            return false;
        }
        int start = Environment.Replies.WriteNext(frame.Span, out LinkPath path);
        frame.FreeOnCompletion = true;
        Environment.Submit(frame, start, FramePool.PayloadStart - start, path, out packet);
        return true;
    }

    // ---- for connections

    internal StackEnvironment Environment { get; }
    internal OrphanTable Orphans { get; }
    internal FramePool Frames => Environment.Frames;
    internal PathCache Paths => Environment.Paths;
    internal TimerWheel Wheel => Environment.Wheel;

    /// <inheritdoc cref="StackEnvironment.Now"/>
    internal Instant Now
    {
        get => Environment.Now;
        private set => Environment.Now = value;
    }

    internal void MarkReady(TcpConnection connection)
    {
        if (connection.IsReady)
            return;
        connection.IsReady = true;
        _ready.Enqueue(connection);
    }

    internal void MarkToEmit(TcpConnection connection)
    {
        if (connection.IsToEmit)
            return;
        connection.IsToEmit = true;
        _toEmit.Enqueue(connection);
    }

    /// <summary>The connection has ended: its 4-tuple is free.</summary>
    internal void Forget(TcpConnection connection)
    {
        Environment.Flows.Remove(connection.Key);
        Wheel.Cancel(connection);
        ConnectionCount--;
        Counters.ConnectionsClosed++;
    }

    /// <summary>
    /// The application has closed a connection. If there are too many like it, some are reset, perhaps this one.
    /// </summary>
    internal void AddOrphan(Orphan orphan, long memory, bool isDone)
    {
        Orphans.Add(orphan, memory, isDone);
        while (Orphans.Excess is { } victim)
        {
            Counters.OrphansReset++;
            ((TcpConnection)victim.Connection).Abort();
        }
    }

    /// <inheritdoc cref="TimeWaitTable.Add"/>
    internal void AddTimeWait(TimeWait timeWait, bool owesAck, Instant now) => _timeWaits.Add(timeWait, owesAck, now);

    /// <inheritdoc cref="StackEnvironment.Drop"/>
    internal void Drop(DropReason reason) => Environment.Drop(reason);

    /// <inheritdoc cref="StackEnvironment.Reply"/>
    internal bool Reply(in LinkPath path, in FlowKey flow, in SegmentFields fields) =>
        Environment.Reply(path, flow, fields);

    /// <inheritdoc cref="ResetLimiter.Answer"/>
    internal void Reset(in Packet packet) => _resets.Answer(packet);
}

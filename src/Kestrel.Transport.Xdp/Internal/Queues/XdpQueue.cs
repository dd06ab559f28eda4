using System.Collections.Concurrent;
using Kestrel.Transport.Xdp.Internal.Connections;
using Kestrel.Transport.Xdp.Internal.Logging;
using Microsoft.Extensions.Logging;
using Xdp.Sockets;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Queues;

/// <summary>
/// One NIC queue, and what happens in a turn of it: its <see cref="QueueRings"/>, its TCP stack, its
/// <see cref="QueueConnections"/> and its <see cref="FlowForwarder"/>.
/// </summary>
/// <remarks>
/// Everything that is not marked "any thread" belongs to the turn, and the turn to whoever the
/// <see cref="QueueWorker"/> lets run it: the worker, a thread of the pool, an application's thread that has something
/// to send, and the engine through <see cref="Run"/>.
/// </remarks>
internal sealed class XdpQueue : ConnectionHost, ITurns
{
    private readonly IQueueOwner _owner;
    private readonly ILogger _logger;
    private readonly QueueWorker _worker;
    private readonly QueueRings _rings;
    private readonly TcpStack _stack;
    private readonly QueueConnections _connections;
    private readonly QueueRoutes _routes;
    private readonly ConcurrentQueue<Action<TcpStack>> _asked = new();
    private Instant _now;
    private long _turnStarted;
    private int _delivered, _answered;

    // Packets that had arrived when a deadline was found due, and are not received yet; -1 when none is due.
    private long _timerDebt = -1;
    private volatile bool _closed;

    // The engine's.
    private bool _sendsRunsAsOne;

    /// <summary>
    /// Opens the socket, with its frames. To be bound, and started.
    /// </summary>
    /// <exception cref="XdpException">The kernel refused; says why.</exception>
    internal XdpQueue(IQueueOwner owner, QueueSettings settings, BlockPool blocks, ILogger logger)
    {
        _owner = owner;
        _logger = logger;
        Settings = settings;
        Mtu = settings.Mtu;
        Blocks = blocks;
        string name = $"xdp {settings.InterfaceName}/{settings.QueueId}";
        _worker = new QueueWorker(this, name, settings.BusySpin, settings.Inline);
        try
        {
            _rings = new QueueRings(settings, Counters);
        }
        catch
        {
            _worker.Dispose();
            throw;
        }
        _routes = new QueueRoutes(flow => owner.AskRoute(this, flow), Counters);
        _stack = new TcpStack(settings.ToStackOptions(), Frames, blocks, settings.Secret.Span, Clock.Now)
        {
            Routes = _routes,
        };
        _connections = new QueueConnections(this, owner, _stack, _routes);
        Forwarder = new FlowForwarder(owner, this, _stack, _routes, Counters);
        Statistics = new QueueStatistics(settings, Counters, _rings, _stack, _worker, () => _closed);
    }

    internal QueueSettings Settings { get; }

    /// <summary>The interface's, as its stack was told last. The engine's.</summary>
    internal int Mtu { get; private set; }

    /// <summary>Bytes of the largest packet that peers are told to send. The engine's.</summary>
    internal int LargestReceived => Settings.MultiBuffer ? Mtu : Math.Min(Mtu, QueueSettings.LargestPacket);

    internal QueueCounters Counters { get; } = new();

    internal QueueStatistics Statistics { get; }

    /// <summary>Where other queues put the segments of this queue's flows.</summary>
    internal FlowForwarder Forwarder { get; }

    public override FramePool Frames => _rings.Frames;

    public override BlockPool Blocks { get; }

    public override bool InTurn => _worker.InTurn;

    /// <summary>In a turn: read at its start, and again after inline application code.</summary>
    public override Instant Now => _now;

    internal bool IsZeroCopy => _rings.IsZeroCopy;

    /// <summary>For the program's map.</summary>
    internal int SocketDescriptor => _rings.SocketDescriptor;

    /// <summary>The queue serves no more: it was stopped, or it failed. Any thread.</summary>
    internal bool IsClosed => _closed;

    /// <summary>May its stack know a segment that belongs to no connection? Any thread.</summary>
    internal bool ExpectsOtherSegments => !_closed && _stack.ExpectsOtherSegments;

    /// <summary>How long the turn that is under way has lasted; zero when there is none. Any thread.</summary>
    internal TimeSpan TurnDuration
    {
        get
        {
            long started = Volatile.Read(ref _turnStarted);
            return started == 0 ? TimeSpan.Zero : TimeSpan.FromTicks(Clock.Now.Ticks - started);
        }
    }

    /// <summary>
    /// Binds the socket. Nothing arrives before the program knows it, and nothing is handled before
    /// <see cref="Start"/>. After a failure <see cref="Stop"/> is what is left.
    /// </summary>
    /// <exception cref="XdpException">The kernel refused; says why.</exception>
    internal void Bind() => _rings.Bind();

    internal void Start() => _worker.Start();

    /// <summary>
    /// Runs <paramref name="action"/> with the queue's stack as a turn of its own. Before <see cref="Start"/>, when no
    /// turn is to be waited for.
    /// </summary>
    internal void Run(Action<TcpStack> action) => _worker.Run(() =>
    {
        if (!_closed)
            action(_stack);
    });

    /// <summary>
    /// The interface has another MTU: the next turn knows it. What its socket takes was settled when it was bound.
    /// </summary>
    internal void ChangeMtu(int mtu)
    {
        Mtu = mtu;
        TcpStackOptions options = (Settings with { Mtu = mtu }).ToStackOptions();
        Ask(stack => stack.ChangeMtu(options.Mtu, options.ReceiveMtu));
    }

    /// <summary>
    /// May segments that follow each other go as one packet? In copy mode they do, if so. The engine's, on a thread in
    /// the interface's network namespace, once the socket is bound.
    /// </summary>
    internal void SendRunsAsOne(bool may)
    {
        may &= !IsZeroCopy;
        if (may == _sendsRunsAsOne)
            return;
        _sendsRunsAsOne = may;
        IRunSocket? socket = null;
        try
        {
            socket = may ? _rings.OpenRunSocket() : null;
        }
        catch (XdpException e)
        {
            TransportLog.SegmentsGoAlone(_logger, Settings.InterfaceName, Settings.QueueId, e.Message);
        }
        Ask(_ => _rings.UseRunSocket(socket));
    }

    /// <summary>
    /// Has a turn do that, in the order of the calls, and before it receives packets that come after the call. Nobody
    /// waits: a turn that runs application code may never end. Any thread.
    /// </summary>
    internal void Ask(Action<TcpStack> action)
    {
        _asked.Enqueue(action);
        _worker.Wake();
    }

    /// <summary>
    /// The process ends: the endpoints' connections end with FIN, behind what was written, as soon as a turn can do
    /// it. Any thread.
    /// </summary>
    internal void CloseConnections(ListeningEndpoint[] endpoints) => Ask(_ => _connections.CloseAll(endpoints));

    /// <summary>
    /// The process dies: the endpoints' connections end now, with FIN where the peer's window takes everything, else
    /// with RST. Any thread; gives up when another turn takes longer than <paramref name="patience"/>.
    /// </summary>
    internal void EndConnectionsAtOnce(ListeningEndpoint[] endpoints, TimeSpan patience) => _worker.TryRun(
        () =>
        {
            if (_closed)
                return;
            _now = Clock.Now;
            _connections.CloseAll(endpoints);
            _connections.ApplyDirty();
            SendNow();
            _connections.AbortUnsent(endpoints);
            SendNow();
        },
        patience);

    /// <summary>
    /// Ends the thread and closes the socket, once the turn that is under way has ended. Connections that are left are
    /// aborted. Idempotent; not from within a turn.
    /// </summary>
    internal void Stop()
    {
        _worker.Stop();
        try
        {
            _worker.Run(() =>
            {
                try
                {
                    if (!_closed)
                    {
                        Close(stackIsSound: true);
                        // The connections that were left are told.
                        SendNow();
                    }
                }
                finally
                {
                    _rings.Dispose();
                }
            });
        }
        finally
        {
            _worker.Dispose();
        }
    }

    /// <summary>The kernel has said the way to a flow's peer. In <see cref="Ask"/>.</summary>
    internal void TakeAnswer(in FlowKey flow, in RouteAnswer answer)
    {
        foreach (QueueRoutes.WaitingPacket waiting in _routes.Answer(flow, answer))
        {
            if (answer.Route is not null)
            {
                Forwarder.Arrive(waiting);
                continue;
            }
            Counters.RouteDropped++;
            waiting.Packet.ReturnAll();
        }
    }

    /// <summary>The kernel has said the way to a suspect connection's peer. In <see cref="Ask"/>.</summary>
    internal void Redirect(QueueSide connection, in RouteAnswer answer)
    {
        connection.PathIsSuspect = false;
        _routes.Learn(connection.Flow, answer);
        _routes.Redirect(connection, answer.Route);
    }

    /// <summary>
    /// The kernel's tables have changed. Connections learn their ways anew. In <see cref="Ask"/>.
    /// </summary>
    /// <param name="classes">Peers that the kernel routes alike.</param>
    /// <param name="hop">Nothing else has changed than how to reach this neighbour; null when more has.</param>
    internal void Reroute(PeerClasses classes, IpAddr? hop)
    {
        if (hop is { } neighbour)
            _routes.Forget(neighbour);
        else
            _routes.Forget(classes);
        _connections.Reroute(hop);
    }

    /// <summary>A neighbour has to be found before the question is answered. In <see cref="Ask"/>.</summary>
    internal void Postpone(in FlowKey flow) => _routes.Postpone(flow);

    /// <summary>The connection's work word went from zero to something. Any thread.</summary>
    public override void Post(QueueSide connection)
    {
        _connections.Post(connection);
        _worker.Posted();
    }

    /// <summary>The application gave frames back. Any thread.</summary>
    public override void FramesReturned()
    {
        if (_rings.IsFillStarved)
            _worker.Wake();
    }

    /// <summary>Another queue has forwarded a segment. Any thread.</summary>
    internal void Wake() => _worker.Wake();

    bool ITurns.IsClosed => _closed;

    bool ITurns.IsDirty => _connections.IsDirty;

    bool ITurns.HasOtherWork => Forwarder.HasArrivals || !_asked.IsEmpty || _rings.CanRefill;

    WaitResult ITurns.Wait(EventFd wake, TimeSpan timeout) => _rings.Wait(wake, timeout);

    void ITurns.WorkerFailed(Exception exception) => _worker.Run(() =>
    {
        Fail("its worker failed: " + exception.Message, stackIsSound: true);
        LogTurnFailed(exception);
    });

    /// <summary>Runs a turn. The caller has the token.</summary>
    TurnReport ITurns.Run(TurnKind kind)
    {
        if (_closed)
        {
            ApplyAfterClose();
            return default;
        }
        _delivered = 0;
        _now = Clock.Now;
        Volatile.Write(ref _turnStarted, _now.Ticks);
        Count(kind);
        try
        {
            Turn(kind);
            return _closed ? default : Report();
        }
        catch (Exception e)
        {
            Fail("an error in the transport: " + e.Message, stackIsSound: false);
            LogTurnFailed(e);
            return default;
        }
        finally
        {
            Volatile.Write(ref _turnStarted, 0);
        }
    }

    // Nothing in here allocates per packet, blocks, or runs application code outside of Deliver.
    private void Turn(TurnKind kind)
    {
        _rings.ReapCompletions();
        if (kind != TurnKind.Poster)
        {
            uint waiting = _rings.RxWaiting;
            // After the look at RX: who steers packets to a listener has asked for it before.
            while (_asked.TryDequeue(out Action<TcpStack>? action))
                action(_stack);
            _rings.Refill();
            _rings.Receive(Math.Min(waiting, QueueRings.ReceiveBudget), _stack, Forwarder, _now);
            Forwarder.Receive(_now);
            RunTimers(waiting);
        }
        _connections.ApplyDirty();
        _connections.TakeReady();
        Deliver(kind);
        _answered = _connections.ApplyDirty();
        _rings.Emit(_stack, _owner, _now);
        _rings.Refill();
        _rings.Kick();
        if (_rings.Failure is { } reason)
        {
            Fail(reason, stackIsSound: true);
            return;
        }
        // Sending makes room for writers that wait. They are told now, not at the next packet. What they write is for
        // the next turn.
        _connections.TakeReady();
        Deliver(kind);
    }

    private void Count(TurnKind kind)
    {
        Counters.Turns++;
        if (kind == TurnKind.Pool)
            Counters.PoolTurns++;
        else if (kind == TurnKind.Poster)
            Counters.PosterTurns++;
    }

    // A deadline counts once everything has been received that had arrived when it was found due: what a pause of this
    // process kept from being received must not look lost.
    private void RunTimers(uint waitingBefore)
    {
        if (_stack.NextDeadline > _now)
        {
            _timerDebt = -1;
            return;
        }
        _timerDebt = (_timerDebt < 0 ? waitingBefore : _timerDebt) - Math.Min(waitingBefore, QueueRings.ReceiveBudget);
        if (_timerDebt > 0)
            return;
        _timerDebt = -1;
        _stack.OnDeadline(_now);
    }

    // Inline means on the worker, so another thread leaves it to the worker.
    private void Deliver(TurnKind kind)
    {
        if (!_connections.HasUndelivered || (Settings.Inline && kind != TurnKind.Worker))
            return;
        _delivered += _connections.Deliver();
        if (Settings.Inline)
            _now = Clock.Now;
    }

    private TurnReport Report() => new()
    {
        Now = _now,
        DueAt = DueAt(),
        Delivered = _delivered,
        AllAnswered = Settings.Inline && _answered >= _delivered,
        RxWaiting = _rings.RxWaiting > 0,
        MustKickAgain = _rings.MustKickAgain,
        HasConnections = _stack.ConnectionCount > 0,
    };

    // When the queue wants the next turn, if nothing happens before.
    private Instant DueAt()
    {
        bool mustKickAgain = _rings.MustKickAgain;
        if ((_rings.HasMoreToEmit && !mustKickAgain) || _connections.HasUndelivered)
            return _now;
        Instant due = _stack.NextDeadline;
        return mustKickAgain || _stack.WantsToEmit ? Instant.Min(due, _now + _rings.KickAgainAfter) : due;
    }

    private void SendNow()
    {
        _rings.ReapCompletions();
        _rings.Emit(_stack, _owner, _now);
        _rings.Kick();
    }

    // In a turn: the queue ends, its connections with it, and the engine opens a new one. Does not throw.
    private void Fail(string reason, bool stackIsSound)
    {
        if (_closed)
            return;
        Counters.Failures++;
        new CleanUp(_logger, Settings.InterfaceName).Do(() => Close(stackIsSound));
        _owner.Failed(this, reason);
    }

    // In a turn, which need not be the worker's: the worker may be asleep on the socket and the event. Both are closed
    // once it has ended.
    private void Close(bool stackIsSound)
    {
        if (_closed)
            return;
        _closed = true;
        try
        {
            _connections.EndAll(stackIsSound);
        }
        finally
        {
            Forwarder.Clear();
            _routes.Clear();
            _asked.Clear();
        }
    }

    // Applications may still write to, read from and dispose connections that ended with the queue.
    private void ApplyAfterClose()
    {
        try
        {
            _connections.ApplyDirty();
            _connections.Schedule();
        }
        catch (Exception e)
        {
            LogTurnFailed(e);
        }
    }

    private void LogTurnFailed(Exception exception) =>
        TransportLog.TurnFailed(_logger, Settings.InterfaceName, Settings.QueueId, exception);
}

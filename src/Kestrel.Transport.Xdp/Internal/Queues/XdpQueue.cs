using Microsoft.Extensions.Logging;
using Xdp.Sockets;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal;

/// <summary>
/// One NIC queue: its AF_XDP socket, its frames, its TCP stack and the connections in it, and a thread that runs turns.
/// <para>
/// Everything but what is marked "any thread" belongs to the turn, and the turn to whoever the <see cref="QueueWorker"/> lets run it:
/// the worker, a thread of the pool, an application's thread that has something to send, and the engine's control path through <see cref="Run"/>. Within a turn: COMPLETION →
/// RX snapshot → FILL → receive → timers → apply what applications asked for → deliver → apply again → emit → FILL → one kick.
/// </para>
/// </summary>
internal sealed partial class XdpQueue : ConnectionHost, ITurns
{
    private readonly IQueueOwner _owner;
    private readonly ILogger _logger;
    private readonly QueueWorker _worker;
    private readonly Umem _umem;
    private readonly Xsk _xsk;
    private readonly FramePool _frames;
    private readonly TcpStack _stack;
    private DirtyList _dirty;
    private volatile bool _closed;

    /// <summary>Opens the socket; nothing arrives before its place in the program's map is filled, and nothing is handled before <see cref="Start"/>.</summary>
    /// <exception cref="XdpException">The kernel refused; says why.</exception>
    internal XdpQueue(IQueueOwner owner, QueueSettings settings, BlockPool blocks, ILogger logger)
    {
        _owner = owner;
        _logger = logger;
        Settings = settings;
        Blocks = blocks;
        _umem = Umem.Create(new UmemOptions { FrameCount = settings.FrameCount, FrameSize = QueueSettings.FrameSize });
        _frames = new FramePool(_umem.Memory, QueueSettings.FrameSize, settings.FrameCount, settings.ReceiveReserve) { Poison = EnvironmentSwitches.PoisonsMemory };
        _stack = new TcpStack(settings.ToStackOptions(), _frames, blocks, settings.Secret.Span, Clock.Now);
        Xsk? xsk = null;
        try
        {
            _xsk = xsk = Xsk.Create(_umem, settings.ToXskOptions());
            RefillFill(all: true);
            _xsk.Bind();
        }
        catch
        {
            xsk?.Dispose();
            throw;
        }
        _worker = new QueueWorker(this, $"xdp {settings.InterfaceName}/{settings.QueueId}", settings.BusySpin, settings.Inline);
    }

    internal QueueSettings Settings { get; }

    internal QueueCounters Counters { get; } = new();

    public override FramePool Frames => _frames;

    public override BlockPool Blocks { get; }

    public override bool InTurn => _worker.InTurn;

    /// <summary>In a turn: read at its start, and again after inline application code.</summary>
    public override Instant Now => _now;

    internal bool IsZeroCopy => _xsk.IsZeroCopy;

    /// <summary>For the program's map.</summary>
    internal int SocketDescriptor => _xsk.FileDescriptor;

    /// <summary>The queue serves no more: it was stopped, or it failed.</summary>
    internal bool IsClosed => _closed;

    internal void Start() => _worker.Start();

    /// <summary>Runs <paramref name="action"/> with the queue's stack as a turn of its own, if the queue is open. Not from within a turn.</summary>
    internal void Run(Action<TcpStack> action) => _worker.Run(() =>
    {
        if (!_closed)
            action(_stack);
    });

    /// <summary>Ends the thread and closes the socket. Connections that are left are aborted. Idempotent; not from within a turn.</summary>
    internal void Stop()
    {
        _worker.Stop();
        _worker.Run(() =>
        {
            Close();
            _xsk.Dispose();
        });
        _worker.Dispose();
    }

    /// <summary>Any thread. The connection's work word went from zero to something.</summary>
    public override void Post(XdpConnection connection)
    {
        _dirty.Push(connection);
        _worker.Posted();
    }

    /// <summary>Any thread. The application gave frames back.</summary>
    public override void FramesReturned()
    {
        if (Volatile.Read(ref _fillStarved))
            _worker.Wake();
    }

    bool ITurns.IsClosed => _closed;

    bool ITurns.IsDirty => !_dirty.IsEmpty;

    bool ITurns.HasOtherWork => !_moved.IsEmpty || (Volatile.Read(ref _fillStarved) && _frames.FreeCount > 0);

    WaitResult ITurns.Wait(EventFd wake, TimeSpan timeout) => _xsk.Wait(wake, timeout);

    // In a turn, which need not be the worker's: the worker may be asleep on the socket and the event. Both are closed once it has ended.
    private void Close()
    {
        if (_closed)
            return;
        _closed = true;
        AbandonConnections();
    }

    private void FailFast(string message) => Environment.FailFast(
        $"Kestrel.Transport.Xdp: {Settings.InterfaceName}, queue {Settings.QueueId}: {message}. Frames by state: {string.Join(' ', _frames.CountByState())}");
}

/// <summary>What a queue needs of the engine it belongs to.</summary>
internal interface IQueueOwner
{
    FlowDirectory<XdpConnection> Flows { get; }

    /// <summary>The queue after <paramref name="queue"/> on the same interface, in a circle; null when there is one only.</summary>
    XdpQueue? Next(XdpQueue queue);

    /// <summary>How many queues the circle has.</summary>
    int QueueCount { get; }

    /// <summary>The connection's peer has been silent for long: answered by <see cref="XdpQueue.Redirect"/>. Called in the queue's turn: do not block, do not call back.</summary>
    void PathSuspected(XdpQueue queue, XdpConnection connection);

    /// <summary>The queue has closed itself. Called in its turn: do not block, do not call back.</summary>
    void Failed(XdpQueue queue, string reason);
}

using System.Net;
using System.Runtime.CompilerServices;
using Kestrel.Transport.Xdp.Internal.Connections;
using Microsoft.Extensions.Logging;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Tests.Support;

/// <summary>
/// A queue without a network: its connections talk to <see cref="FakePeer"/>s. Turns run when the test says so
/// (<see cref="Turn"/>) or, after <see cref="StartWorker"/>, on a thread of its own whenever a connection posts work.
/// </summary>
internal sealed class FakeQueue : ConnectionHost, IDisposable
{
    private readonly object _turn = new();
    private readonly SemaphoreSlim _wake = new(0);
    private readonly List<FakePeer> _peers = [];
    private QueueSide? _dirty;
    private Thread? _worker;
    private volatile bool _stopping;
    private volatile int _turnThread;
    private Exception? _failure;

    public FakeQueue(int frames = 1024, int receiveReserve = 64)
    {
        byte[] umem = GC.AllocateArray<byte>(frames * 2048, pinned: true);
        Frames = new FramePool(umem, 2048, frames, receiveReserve) { Poison = true };
        Blocks = new BlockPool { Poison = true };
    }

    public override FramePool Frames { get; }
    public override BlockPool Blocks { get; }
    public override bool InTurn => _turnThread == Environment.CurrentManagedThreadId;
    public override Instant Now => new(42);
    public int Posts;
    public int FramesReturnedCalls;
    public CollectingLogger Logger { get; } = new();

    public override void Post(QueueSide connection)
    {
        Interlocked.Increment(ref Posts);
        QueueSide? head;
        do
        {
            head = Volatile.Read(ref _dirty);
            connection.Work.NextDirty = head;
        }
        while (Interlocked.CompareExchange(ref _dirty, connection, head) != head);
        if (_worker is not null && !InTurn)
            _wake.Release();
    }

    public override void FramesReturned() => Interlocked.Increment(ref FramesReturnedCalls);

    public FakePeer Connect(ConnectionSettings settings, bool receiveIntoFrames = true)
    {
        var connection = new XdpConnection(FakePeer.Mss, sendBuffer: 0, settings)
        {
            LocalEndPoint = IPEndPoint.Parse("10.0.0.1:80"),
            RemoteEndPoint = IPEndPoint.Parse("10.0.0.2:40000"),
        };
        var peer = new FakePeer(this, connection, receiveIntoFrames);
        lock (_turn)
            _peers.Add(peer);
        return peer;
    }

    public ConnectionSettings Settings(bool frames = true, bool inline = false) => new(this)
    {
        MemoryPool = System.Buffers.MemoryPool<byte>.Shared,
        Logger = Logger,
        InterfaceName = "eth7",
        QueueId = 3,
        BindMode = "copy",
        UseFrames = frames,
        InlineScheduling = inline,
    };

    public void StartWorker()
    {
        _worker = new Thread(Work) { IsBackground = true, Name = "fake queue" };
        _worker.Start();
    }

    /// <summary>
    /// Runs <paramref name="action"/> inside a turn, and then all that it and the applications cause.
    /// </summary>
    public void Turn(Action? action = null)
    {
        if (InTurn)
        {
            action?.Invoke();
            return;
        }
        lock (_turn)
        {
            _turnThread = Environment.CurrentManagedThreadId;
            try
            {
                action?.Invoke();
                while (RunOnce())
                {
                }
            }
            finally
            {
                _turnThread = 0;
            }
        }
    }

    /// <summary>Every frame and block is back, once the connections are gone.</summary>
    public void AssertAllHome()
    {
        Assert.Null(_failure);
        int[] counts = Frames.CountByState();
        Assert.Equal(Frames.FrameCount, counts[(int)FrameState.Free]);
        Assert.Equal(Frames.FrameCount, Frames.FreeCount);
        Assert.Equal(0, Frames.ApplicationCount);
        Assert.Equal(0, Blocks.InUse);
        var seen = new HashSet<int>();
        while (Frames.TryTakeForFill() is { } frame)
            Assert.True(seen.Add(frame.Index), $"frame {frame.Index} was free twice");
        Assert.Equal(Frames.FrameCount, seen.Count);
    }

    public void Dispose()
    {
        if (_worker is not null)
        {
            _stopping = true;
            _wake.Release();
            _worker.Join();
        }
    }

    private void Work()
    {
        try
        {
            while (!_stopping)
            {
                _wake.Wait();
                Turn();
            }
        }
        catch (Exception exception)
        {
            _failure = exception;
        }
    }

    private bool RunOnce()
    {
        bool any = false;
        var touched = new List<FakePeer>();
        foreach (FakePeer peer in _peers.ToArray())
        {
            peer.Emit();
            TcpEvents events = peer.TakeEvents();
            if (events == TcpEvents.None)
                continue;
            any = true;
            peer.Connection.Queue.OnEvents(events, peer.Tcp);
            touched.Add(peer);
            if ((events & TcpEvents.Closed) != 0)
                _peers.Remove(peer);
        }
        QueueSide? dirty = Interlocked.Exchange(ref _dirty, null);
        while (dirty is not null)
        {
            QueueSide connection = dirty;
            dirty = connection.Work.NextDirty;
            connection.Work.NextDirty = null;
            any = true;
            ConnectionWork work = connection.TakeWork();
            if (work == ConnectionWork.None)
                continue;
            FakePeer peer = _peers.First(candidate => candidate.Connection.Queue == connection);
            connection.ApplyWork(work, peer.Tcp);
            touched.Add(peer);
        }
        foreach (FakePeer peer in touched)
            any |= peer.Connection.Queue.Deliver();
        return any;
    }
}

internal static class FramePoolAccess
{
    [UnsafeAccessor(UnsafeAccessorKind.Method)]
    public static extern void Delivered(FramePool pool, Block frame);
}

/// <summary>Keeps what is logged above Debug, and the event ids of everything.</summary>
internal sealed class CollectingLogger : ILogger
{
    private readonly List<string> _aboveDebug = [];
    private readonly List<int> _events = [];

    public IReadOnlyList<string> AboveDebug
    {
        get
        {
            lock (_events)
                return [.. _aboveDebug];
        }
    }

    public IReadOnlyList<int> Events
    {
        get
        {
            lock (_events)
                return [.. _events];
        }
    }

    public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => true;

    public void Log<TState>(
        LogLevel logLevel, EventId eventId, TState state, Exception? exception,
        Func<TState, Exception?, string> formatter)
    {
        lock (_events)
        {
            _events.Add(eventId.Id);
            if (logLevel > LogLevel.Debug)
                _aboveDebug.Add(formatter(state, exception));
        }
    }
}

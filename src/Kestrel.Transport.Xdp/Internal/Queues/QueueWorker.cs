using Xdp.Sockets;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Queues;

internal enum TurnKind
{
    /// <summary>By the worker: everything, application code inline if so configured.</summary>
    Worker,

    /// <summary>By a thread of the pool, in its order: everything, application code scheduled.</summary>
    Pool,

    /// <summary>By a thread that has something to send: what was asked for, and what follows to be sent.</summary>
    Poster,
}

/// <summary>What a turn leaves.</summary>
internal struct TurnReport
{
    /// <summary>When the turn began, or later.</summary>
    internal Instant Now;

    /// <summary>When the queue wants the next turn, if nothing happens before.</summary>
    internal Instant DueAt;

    /// <summary>Connections whose applications were given something.</summary>
    internal int Delivered;

    /// <summary>All of these have answered within the turn, inline.</summary>
    internal bool AllAnswered;

    /// <summary>Packets wait on the RX ring.</summary>
    internal bool RxWaiting;

    /// <summary>The kernel would not take all that was to be sent: nothing tells when it will.</summary>
    internal bool MustKickAgain;

    internal bool HasConnections;
}

/// <summary>
/// What a <see cref="QueueWorker"/> runs: a queue's turns, and what it has to know of the queue before it sleeps.
/// </summary>
internal interface ITurns
{
    /// <summary>Runs a turn. The caller has the token; never throws.</summary>
    TurnReport Run(TurnKind kind);

    /// <summary>No turn does anything any more but for applications that go on using their connections.</summary>
    bool IsClosed { get; }

    /// <summary>Connections wait for a turn. Any thread.</summary>
    bool IsDirty { get; }

    /// <summary>
    /// Something other than connections, packets and time waits for a turn that receives. Any thread.
    /// </summary>
    bool HasOtherWork { get; }

    /// <summary>Sleeps until packets, the event, or the end of the time.</summary>
    WaitResult Wait(EventFd wake, TimeSpan timeout);

    /// <summary>
    /// The worker has failed outside of its turns, and ends. Called on its thread, without the token; never throws.
    /// </summary>
    void WorkerFailed(Exception exception);
}

/// <summary>
/// Who runs a queue's turns, and when. A thread of its own, the worker, waits for packets and deadlines and runs the
/// turn that follows. What that turn gave to applications is answered on the pool's threads, and the turn that sends
/// their answers is an item of the pool behind them (<see cref="PoolTurn"/>). Under load one such turn follows the
/// other and the worker rests, as epoll's thread does. A thread that flushes in a quiet moment, or the only answer that
/// is expected (<see cref="AnswerHabit"/>), runs the turn itself.
/// </summary>
internal sealed class QueueWorker : IDisposable
{
    // A thread other than the worker arms timers while the worker sleeps. It wakes the worker only for those that come
    // before the end of its sleep, and this bound makes that rare: delayed ACKs (40 ms) aside, no timer of a connection
    // is shorter than 200 ms.
    private static readonly TimeSpan LongestSleep = TimeSpan.FromMilliseconds(30);

    // Without connections no other thread has a reason to run a turn.
    private static readonly TimeSpan LongestIdleSleep = TimeSpan.FromSeconds(1);

    // A single answer is sent by its flush, or by the turn that its flush queues. Two can share a kick, so the worker
    // keeps out of their way.
    private const int SmallestBatch = 2;

    // Turns in a row that a thread which flushes runs before it leaves the rest to the worker.
    private const int PosterPasses = 2;

    private readonly ITurns _turns;
    private readonly TurnToken _token = new();
    private readonly WakeGate _gate = new();
    private readonly PoolTurn _poolTurn;
    private readonly Thread _thread;
    private readonly TimeSpan _busySpin;
    private readonly bool _inline;
    private volatile bool _stopping;

    // A thread that the system has refused cannot be joined.
    private volatile bool _started;

    // With the token: until when the worker will sleep, or the past.
    private Instant _wakesAt;

    // With the token: what the last turn that gave anything to applications gave.
    private int _lastBatch;
    private AnswerHabit _habit = new();
    private Instant _lastWork;

    /// <param name="turns">The queue's.</param>
    /// <param name="name">Of the thread.</param>
    /// <param name="busySpin">How long the worker goes on looking for work before it sleeps.</param>
    /// <param name="inline">
    /// The worker's turns run application code themselves, so the pool's turns leave packets to the worker.
    /// </param>
    /// <param name="pool">Queues an item behind all that the pool has to do; null for the process's pool.</param>
    internal QueueWorker(
        ITurns turns, string name, TimeSpan busySpin, bool inline, Action<IThreadPoolWorkItem>? pool = null)
    {
        _turns = turns;
        _busySpin = busySpin;
        _inline = inline;
        _poolTurn = new PoolTurn(RunPoolTurn, pool);
        _thread = new Thread(Work) { IsBackground = true, Name = name };
    }

    /// <summary>Is the calling thread in a turn of this queue?</summary>
    internal bool InTurn => _token.IsMine;

    /// <summary>Sleeps, over the worker's life.</summary>
    internal long Wakes { get; private set; }

    /// <summary>System calls to wake the worker.</summary>
    internal long Signals => _gate.Signals;

    /// <summary>Times the pool was too late with the turn.</summary>
    internal long PoolOverdue => _poolTurn.Overdue;

    internal void Start()
    {
        _thread.Start();
        _started = true;
    }

    /// <summary>Ends the thread. Not from within a turn.</summary>
    internal void Stop()
    {
        _stopping = true;
        _gate.Signal();
        if (_started && Thread.CurrentThread != _thread)
            _thread.Join();
    }

    /// <summary>
    /// After <see cref="Stop"/>. An item that the pool still has finds the queue closed, and does nothing.
    /// </summary>
    public void Dispose() => _gate.Dispose();

    /// <summary>
    /// Runs <paramref name="action"/> as a turn of its own, and has the worker run one behind it. Not from within a
    /// turn.
    /// </summary>
    internal void Run(Action action)
    {
        _token.Enter();
        try
        {
            action();
        }
        finally
        {
            _token.Exit();
        }
        _gate.Signal();
    }

    /// <summary>
    /// Runs <paramref name="action"/> as a turn of its own, unless another turn takes longer than that, or within the
    /// turn that the calling thread is in. For a process that dies: no turn follows, and none is resumed.
    /// </summary>
    internal void TryRun(Action action, TimeSpan patience)
    {
        if (_token.IsMine)
        {
            action();
            return;
        }
        if (!_token.TryEnter(patience))
            return;
        try
        {
            action();
        }
        finally
        {
            _token.Exit();
        }
    }

    /// <summary>A connection has been put on the list, which was a full fence. Any thread.</summary>
    internal void Posted()
    {
        if (_token.IsMine)
            return;
        switch (_gate.State)
        {
            case WorkerState.Awake:
                // It looks at the list before it sleeps. When it has ended nobody does.
                if (_turns.IsClosed)
                    RunPosterTurns();
                break;
            case WorkerState.Sleeping:
                RunPosterTurns();
                break;
            default:
                if (_poolTurn.AnswerWritten())
                    RunPosterTurns();
                _poolTurn.Queue();
                break;
        }
    }

    /// <summary>Something for which a turn has to receive or to fill has been published. Any thread.</summary>
    internal void Wake()
    {
        Interlocked.MemoryBarrier();
        // While it dozes or rests, the item that is queued receives and fills, or the worker does soon.
        WorkerState state = _gate.State;
        if (state == WorkerState.Sleeping || (state != WorkerState.Awake && (_inline || !_poolTurn.IsQueued)))
            _gate.Signal();
    }

    private void RunPosterTurns()
    {
        for (int pass = 1; ; pass++)
        {
            // Whoever has the token looks at the list once more after giving it back.
            if (!_token.TryEnter())
                return;
            bool workerIsNeeded;
            try
            {
                workerIsNeeded = WorkerIsNeeded(RunTurn(TurnKind.Poster));
            }
            finally
            {
                _token.Exit();
            }
            if (workerIsNeeded || (pass == PosterPasses && _turns.IsDirty))
                _gate.Signal();
            if (!_turns.IsDirty || pass == PosterPasses || (_gate.State == WorkerState.Awake && !_turns.IsClosed))
                return;
        }
    }

    private void RunPoolTurn()
    {
        bool again = false;
        if (_token.TryEnter())
        {
            bool workerIsNeeded;
            try
            {
                TurnReport report = RunTurn(_inline ? TurnKind.Poster : TurnKind.Pool);
                bool rests = _gate.State == WorkerState.Resting;
                again = report.Delivered >= (rests ? 1 : SmallestBatch) || (rests && report.RxWaiting);
                workerIsNeeded = WorkerIsNeeded(report);
            }
            finally
            {
                _token.Exit();
            }
            again |= _turns.IsDirty;
            if (workerIsNeeded && (!again || _gate.State == WorkerState.Sleeping))
                _gate.Signal();
        }
        else if (_turns.IsDirty || _turns.HasOtherWork)
        {
            // Whoever has the turn looks at the list once more, but does not do everything that this turn would have
            // done.
            _gate.Signal();
        }
        if (again)
            _poolTurn.Queue();
        _poolTurn.Ended();
        // It relies on an item that has run and was not queued again.
        if (_gate.State == WorkerState.Resting && !_poolTurn.IsQueued)
            _gate.Signal();
    }

    // With the token.
    private TurnReport RunTurn(TurnKind kind)
    {
        TurnReport report = _turns.Run(kind);
        _poolTurn.TurnRan(report.Now, receives: kind != TurnKind.Poster, report.Delivered);
        if (report.Delivered > 0)
            _lastBatch = report.Delivered;
        if (kind == TurnKind.Poster)
            _habit.TurnRan();
        else if (report.Delivered > 0)
            _habit.Delivered(report.Delivered);
        return report;
    }

    // After a turn that was not the worker's: is there anything that only the worker will do, and that its sleep is too
    // long for? With the token.
    private bool WorkerIsNeeded(in TurnReport report) => !_turns.IsClosed && report.DueAt < _wakesAt;

    private void Work()
    {
        try
        {
            RunWorker();
        }
        catch (Exception e)
        {
            // An exception that leaves a thread ends the process.
            _turns.WorkerFailed(e);
        }
    }

    private void RunWorker()
    {
        CurrentThread.TrySetTimerSlack(TimeSpan.FromMicroseconds(1));
        while (!_stopping && !_turns.IsClosed)
        {
            WorkerState sleep;
            _token.Enter();
            try
            {
                _wakesAt = default;
                sleep = PlanSleep(RunTurn(TurnKind.Worker));
            }
            finally
            {
                _token.Exit();
            }
            if (sleep != WorkerState.Awake)
                Sleep(sleep);
        }
    }

    // In the worker's turn, at its end. Who runs a turn after it finds in _wakesAt whether the worker has to be told.
    private WorkerState PlanSleep(in TurnReport report)
    {
        // While the pool is late the threads that flush take the turn themselves, however long the worker sleeps. Where
        // all have answered, or the one who answers sends it himself, the sleep need not be short. A timer that ends
        // before the kernel's next tick has its price.
        bool isAnsweredAtOnce = report.AllAnswered || (report.Delivered == 1 && _habit.TryExpectOne());
        bool answersExpected =
            (report.Delivered > 0 && !isAnsweredAtOnce) || (_poolTurn.IsQueued && !_poolTurn.IsLate);
        bool poolReceives = _lastBatch >= SmallestBatch && !_inline && !_poolTurn.IsLate;
        bool rests = answersExpected && poolReceives && !report.MustKickAgain;
        if (_turns.IsClosed || report.DueAt <= report.Now || (report.RxWaiting && !rests))
            return WorkerState.Awake;
        if (_busySpin > TimeSpan.Zero)
        {
            if (report.Delivered > 0 || _turns.IsDirty)
                _lastWork = report.Now;
            if (report.Now - _lastWork < _busySpin)
                return WorkerState.Awake;
        }
        TimeSpan longest = answersExpected ? PoolTurn.Patience
            : report.HasConnections ? LongestSleep
            : LongestIdleSleep;
        _wakesAt = Instant.Min(report.DueAt, Clock.Now + longest);
        return rests ? WorkerState.Resting : answersExpected ? WorkerState.Dozing : WorkerState.Sleeping;
    }

    private void Sleep(WorkerState kind)
    {
        Instant until = _wakesAt;
        if (kind == WorkerState.Resting)
            _poolTurn.Queue();
        _gate.Announce(kind);
        bool eventSeen = false;
        while (!HasWork(kind))
        {
            TimeSpan wait = until - Clock.Now;
            if (wait <= TimeSpan.Zero)
                break;
            Wakes++;
            if (kind != WorkerState.Resting)
            {
                eventSeen = (_turns.Wait(_gate.Event, wait) & WaitResult.Wake) != 0;
                break;
            }
            eventSeen = _gate.Event.Wait(wait);
            if (eventSeen)
                break;
            // The item may have run meanwhile, and wait again: then it has not waited for long.
            until = _poolTurn.IsQueued ? _poolTurn.OverdueAt : Clock.Now + PoolTurn.Patience;
        }
        _poolTurn.CheckOverdue();
        _gate.Woke(eventSeen);
    }

    // What others publish. RX is not among it: waiting looks at it. What the pool's turn will do can wait for the end
    // of this sleep, which is short then.
    private bool HasWork(WorkerState kind)
    {
        if (_stopping || _turns.IsClosed)
            return true;
        if (kind == WorkerState.Resting)
            return !_poolTurn.IsPending;
        bool poolDoesIt = kind == WorkerState.Dozing && _poolTurn.IsQueued;
        return (_turns.IsDirty && !poolDoesIt) || (_turns.HasOtherWork && (_inline || !poolDoesIt));
    }
}

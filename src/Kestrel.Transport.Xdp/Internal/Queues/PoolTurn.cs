using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Queues;

/// <summary>
/// A queue's turn as an item of the thread pool, which is in the pool's global queue at most once. The pool's own order
/// decides when a batch is complete: what was runnable when the item was queued runs before it, and the turn then sends
/// all that this has written with one kick.
/// </summary>
/// <remarks>
/// A pool whose threads are all busy, or that has a long batch before the item, comes to it late. What is written
/// meanwhile must not wait for that: once it has waited for <see cref="Patience"/>, the next thread that flushes runs a
/// turn itself, for all that was written until then. What arrives must not wait either: after the same time without a
/// turn that receives, the worker runs one.
/// </remarks>
/// <param name="run">The turn. Must not throw.</param>
/// <param name="pool">Puts the item at the end of the pool's global queue; null for the process's pool.</param>
/// <param name="clock">Null for the process's clock.</param>
internal sealed class PoolTurn(Action run, Action<IThreadPoolWorkItem>? pool = null, Func<Instant>? clock = null)
    : IThreadPoolWorkItem
{
    /// <summary>
    /// How long what was written may wait for the pool's turn. Longer than a batch of answers that need no I/O takes;
    /// short enough that a client hardly notices.
    /// </summary>
    internal static readonly TimeSpan Patience = TimeSpan.FromMicroseconds(500);

    /// <summary>
    /// While the pool is late, an answer that comes so long after the one before leaves alone: its kick costs little
    /// beside what was done for it. Answers that follow each other faster are a long batch of the queue's own. They
    /// share kicks.
    /// </summary>
    private static readonly TimeSpan s_slowAnswers = TimeSpan.FromMicroseconds(200);

    /// <summary>
    /// Answers that leave together. With more of them in a kick the kick costs next to nothing less, and their clients
    /// wait for the rest of a long batch, while this host then waits for them.
    /// </summary>
    internal const int MostAnswers = 16;

    /// <summary>What the pool may take for each connection of the batch before the item, and be in time.</summary>
    private static readonly TimeSpan s_patiencePerAnswer = TimeSpan.FromMicroseconds(200);

    private readonly Action<IThreadPoolWorkItem> _pool =
        pool ?? (static item => ThreadPool.UnsafeQueueUserWorkItem(item, preferLocal: false));
    private readonly Func<Instant> _clock = clock ?? (static () => Clock.Now);
    private int _queued;
    private int _running;
    private bool _late;

    // Of the item that waits: the worker has run its turn once already.
    private volatile bool _overdueBefore;

    // When the item was queued, how many connections the last turns have given the pool, and since when what was
    // written and what has arrived wait.
    private long _queuedAt;
    private int _batch;
    private long _writtenSince;
    private long _arrivedSince;

    // Connections that had something to send since the last turn; and while the pool is late, when the last one had.
    private int _answers;
    private long _answeredAt;

    /// <summary>The item waits in the pool. Any thread.</summary>
    internal bool IsQueued => Volatile.Read(ref _queued) != 0;

    /// <summary>The item waits or runs: whoever sleeps because of it will be told. Any thread.</summary>
    internal bool IsPending => IsQueued || Volatile.Read(ref _running) != 0;

    /// <summary>
    /// The pool does not keep up: the turn of an item had to be run by the worker, more than once. Any thread.
    /// </summary>
    internal bool IsLate => Volatile.Read(ref _late);

    /// <summary>When the worker runs the turn of an item that still waits.</summary>
    internal Instant OverdueAt => new(Volatile.Read(ref _arrivedSince) + Patience.Ticks);

    /// <summary>Times that the worker had to run the turn of an item.</summary>
    internal long Overdue { get; private set; }

    /// <summary>
    /// A connection has something to send. True when it leaves now, with what others have written. Any thread.
    /// </summary>
    internal bool AnswerWritten()
    {
        if (Interlocked.Increment(ref _answers) >= MostAnswers)
            return true;
        if (!IsQueued)
            return false;
        long now = _clock().Ticks;
        bool isSlow = IsLate && now - Interlocked.Exchange(ref _answeredAt, now) >= s_slowAnswers.Ticks;
        return isSlow || now >= Volatile.Read(ref _writtenSince) + Patience.Ticks;
    }

    /// <summary>Queues the item, unless it waits already. Any thread.</summary>
    internal void Queue()
    {
        if (IsQueued)
            return;
        // Before the flag, which says that the times are those of an item in the queue.
        long now = _clock().Ticks;
        Volatile.Write(ref _queuedAt, now);
        Volatile.Write(ref _writtenSince, now);
        Volatile.Write(ref _arrivedSince, now);
        if (Interlocked.Exchange(ref _queued, 1) == 0)
            _pool(this);
    }

    /// <summary>A turn has run, whoever ran it. With the turn's token.</summary>
    /// <param name="now">When it began, or later. What was written before it waits no more.</param>
    /// <param name="receives">It has received what had arrived.</param>
    /// <param name="delivered">Connections that it has given the pool.</param>
    internal void TurnRan(Instant now, bool receives, int delivered)
    {
        Volatile.Write(ref _writtenSince, now.Ticks);
        Volatile.Write(ref _answers, 0);
        if (!receives)
            return;
        Volatile.Write(ref _arrivedSince, now.Ticks);
        Volatile.Write(ref _batch, IsQueued ? _batch + delivered : delivered);
    }

    /// <summary>Notes it when the pool is too late with an item that waits. In the worker's thread.</summary>
    internal void CheckOverdue()
    {
        Instant now = _clock();
        if (!IsQueued || now < OverdueAt)
            return;
        Overdue++;
        // Once may be a pause of the whole process, or of the machine.
        if (_overdueBefore && IsTooLate(now))
            Volatile.Write(ref _late, true);
        _overdueBefore = true;
    }

    /// <summary>Runs the turn on a thread of the pool.</summary>
    public void Execute()
    {
        bool late = _late && IsTooLate(_clock());
        Volatile.Write(ref _late, late);
        _overdueBefore = late;
        Interlocked.Increment(ref _running);
        // From here on the item can be queued again. A full fence: what was published before somebody saw the flag set
        // is seen by the turn.
        Interlocked.Exchange(ref _queued, 0);
        // Ahead of all that this turn will give the pool to do: if the pool keeps up again, that is known before the
        // first of them flushes.
        if (late)
            Queue();
        run();
    }

    // Does the batch before the item explain how long it has waited?
    private bool IsTooLate(Instant now) =>
        now.Ticks - Volatile.Read(ref _queuedAt)
            >= (Patience + Volatile.Read(ref _batch) * s_patiencePerAnswer).Ticks;

    /// <summary>
    /// The turn is over, and all that it wants to queue or to signal has been. A full fence. In the turn's thread.
    /// </summary>
    internal void Ended() => Interlocked.Decrement(ref _running);
}

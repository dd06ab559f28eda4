using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Queues;

/// <summary>
/// A queue's turn as an item of the thread pool, which is in the pool's global queue at most once. The pool's own order
/// decides when a batch is complete: what was runnable when the item was queued runs before it, and the turn then sends
/// all that this has written with one kick.
/// </summary>
/// <remarks>
/// A pool whose threads are all busy, or that has a long batch before the item, comes to it late. What is written
/// meanwhile must not wait for that: once the item has waited for <see cref="Patience"/> without any turn, the next
/// thread that flushes runs one itself, for all that was written until then.
/// </remarks>
/// <param name="run">The turn. Must not throw.</param>
/// <param name="pool">Puts the item at the end of the pool's global queue; null for the process's pool.</param>
/// <param name="clock">Null for the process's clock.</param>
internal sealed class PoolTurn(Action run, Action<IThreadPoolWorkItem>? pool = null, Func<Instant>? clock = null)
    : IThreadPoolWorkItem
{
    /// <summary>
    /// How long the item may wait in the pool. Longer than a batch of answers that need no I/O takes; short enough that
    /// a client hardly notices. The worker runs the turn itself after this time.
    /// </summary>
    internal static readonly TimeSpan Patience = TimeSpan.FromMicroseconds(500);

    /// <summary>
    /// The same while the pool is late. It is not zero: a pool may be late because of a long batch of the queue's own,
    /// whose answers would leave with a kick each.
    /// </summary>
    private static readonly TimeSpan s_late = TimeSpan.FromMicroseconds(50);

    private readonly Action<IThreadPoolWorkItem> _pool =
        pool ?? (static item => ThreadPool.UnsafeQueueUserWorkItem(item, preferLocal: false));
    private readonly Func<Instant> _clock = clock ?? (static () => Clock.Now);
    private int _queued;
    private bool _running;
    private bool _late;

    // Of the item that waits: the worker has run its turn once already.
    private volatile bool _overdueBefore;

    // Since when what was written waits for a turn: since the item was queued, or the last turn.
    private long _since;

    /// <summary>The item waits in the pool. Any thread.</summary>
    internal bool IsQueued => Volatile.Read(ref _queued) != 0;

    /// <summary>The item waits or runs: whoever sleeps because of it will be told. Any thread.</summary>
    internal bool IsPending => IsQueued || Volatile.Read(ref _running);

    /// <summary>
    /// The pool does not keep up: the turn of the last item had to be run by the worker, more than once. Any thread.
    /// </summary>
    internal bool IsLate => Volatile.Read(ref _late);

    /// <summary>When an item that waits now has waited too long.</summary>
    internal Instant OverdueAt => new(Volatile.Read(ref _since) + Patience.Ticks);

    /// <summary>
    /// An item waits, and what is written has waited too long: whoever flushes runs the turn. Any thread.
    /// </summary>
    internal bool IsOverdue =>
        IsQueued && _clock().Ticks >= Volatile.Read(ref _since) + (IsLate ? s_late : Patience).Ticks;

    /// <summary>Times the pool was too late, and somebody else ran the turn.</summary>
    internal long Overdue { get; private set; }

    /// <summary>Queues the item, unless it waits already. Any thread.</summary>
    internal void Queue()
    {
        if (IsQueued)
            return;
        // Before the flag, which says that the time is that of an item in the queue.
        Volatile.Write(ref _since, _clock().Ticks);
        if (Interlocked.Exchange(ref _queued, 1) == 0)
            _pool(this);
    }

    /// <summary>
    /// A turn has run, whoever ran it: what was written before it waits no more. With the turn's token.
    /// </summary>
    /// <param name="now">When it began, or later.</param>
    internal void TurnRan(Instant now) => Volatile.Write(ref _since, now.Ticks);

    /// <summary>Notes it when the pool is too late with an item that waits. In the worker's thread.</summary>
    internal void CheckOverdue()
    {
        if (!IsQueued || _clock() < OverdueAt)
            return;
        Overdue++;
        // Once may be a pause of the whole process, or of the machine.
        if (_overdueBefore)
            Volatile.Write(ref _late, true);
        _overdueBefore = true;
    }

    /// <summary>Runs the turn on a thread of the pool.</summary>
    public void Execute()
    {
        bool late = _late && _clock() >= OverdueAt;
        Volatile.Write(ref _late, late);
        _overdueBefore = late;
        Volatile.Write(ref _running, true);
        // From here on the item can be queued again. A full fence: what was published before somebody saw the flag set
        // is seen by the turn.
        Interlocked.Exchange(ref _queued, 0);
        // Ahead of all that this turn will give the pool to do: if the pool keeps up again, that is known before the
        // first of them flushes.
        if (late)
            Queue();
        run();
    }

    /// <summary>
    /// The turn is over, and all that it wants to queue or to signal has been. A full fence. In the turn's thread.
    /// </summary>
    internal void Ended()
    {
        Volatile.Write(ref _running, false);
        Interlocked.MemoryBarrier();
    }
}

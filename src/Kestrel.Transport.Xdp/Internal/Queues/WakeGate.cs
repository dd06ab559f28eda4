using Xdp.Sockets;

namespace Kestrel.Transport.Xdp.Internal.Queues;

internal enum WorkerState
{
    /// <summary>Looks at everything again before it sleeps: what was published before needs no signal.</summary>
    Awake,

    /// <summary>Sleeps until packets, a deadline or a signal.</summary>
    Sleeping,

    /// <summary>
    /// Sleeps likewise, and not for long: applications were just given something, and may answer soon.
    /// </summary>
    Dozing,

    /// <summary>
    /// Sleeps, and not for long, without looking at packets: a <see cref="PoolTurn"/> is on its way and receives them.
    /// </summary>
    Resting,
}

/// <summary>
/// How a queue's worker falls asleep without missing anything. The worker: <see cref="Announce"/> (a full fence), look
/// at everything that others publish, sleep, <see cref="Woke"/>. The others: publish, full fence, read
/// <see cref="State"/>, <see cref="Signal"/> if it is not <see cref="WorkerState.Awake"/>. Of the two looks across, one
/// sees the other side.
/// </summary>
internal sealed class WakeGate : IDisposable
{
    private int _state;
    private int _signalled;
    private long _signals;

    internal EventFd Event { get; } = new();

    internal WorkerState State => (WorkerState)Volatile.Read(ref _state);

    /// <summary>Signals that were written, one system call each.</summary>
    internal long Signals => Interlocked.Read(ref _signals);

    internal void Announce(WorkerState state)
    {
        Volatile.Write(ref _state, (int)state);
        Interlocked.MemoryBarrier();
    }

    /// <summary>To be followed by a look at everything that others publish.</summary>
    /// <param name="eventSeen">The sleep ended because the event was signalled.</param>
    internal void Woke(bool eventSeen)
    {
        Volatile.Write(ref _state, (int)WorkerState.Awake);
        if (!eventSeen && Volatile.Read(ref _signalled) == 0)
            return;
        // The event first: a signaller that finds the flag still set writes nothing, and what it published is found by
        // the look that follows. One that is held up between flag and event writes when the worker is past; that ends
        // the next sleep at once, and is drained then.
        Event.Drain();
        Interlocked.Exchange(ref _signalled, 0);
    }

    /// <summary>
    /// Wakes the worker, or keeps it from falling asleep. Any thread; does nothing after <see cref="Dispose"/>.
    /// </summary>
    internal void Signal()
    {
        if (Interlocked.Exchange(ref _signalled, 1) != 0)
            return;
        Interlocked.Increment(ref _signals);
        Event.Signal();
    }

    public void Dispose() => Event.Dispose();
}

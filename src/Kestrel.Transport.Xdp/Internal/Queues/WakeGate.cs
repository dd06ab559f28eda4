using Xdp.Sockets;

namespace Kestrel.Transport.Xdp.Internal;

internal enum WorkerState
{
    /// <summary>Looks at everything again before it sleeps: what was published before needs no signal.</summary>
    Awake,

    /// <summary>Sleeps briefly for a known number of answers: whoever gives the last one runs the turn.</summary>
    Gathering,

    /// <summary>Sleeps until packets, a deadline or a signal.</summary>
    Sleeping,
}

/// <summary>
/// How a queue's worker falls asleep without missing anything. The worker: <see cref="Announce"/> (a full fence), look at everything that others
/// publish, sleep, <see cref="Woke"/>. The others: publish, full fence, read <see cref="State"/>, <see cref="Signal"/> if it is not
/// <see cref="WorkerState.Awake"/>. Of the two looks across, one sees the other side.
/// </summary>
internal sealed class WakeGate : IDisposable
{
    private int _state;
    private int _signalled;

    // The worker's own: signals it knows of minus those it has read. A signaller that is held up between its two steps writes when the worker is
    // past; left in the eventfd, that would keep the worker from ever sleeping again.
    private long _owed;

    internal EventFd Event { get; } = new();

    internal WorkerState State => (WorkerState)Volatile.Read(ref _state);

    /// <summary>Signals that were written, one system call each.</summary>
    internal long Signals;

    internal void Announce(WorkerState state)
    {
        Volatile.Write(ref _state, (int)state);
        Interlocked.MemoryBarrier();
    }

    /// <summary>To be followed by a look at everything that others publish.</summary>
    internal void Woke()
    {
        Volatile.Write(ref _state, (int)WorkerState.Awake);
        // In this order: a signal between the two is taken back, and the look that follows finds what it was for.
        if (Interlocked.Exchange(ref _signalled, 0) != 0)
            _owed++;
        if (_owed > 0)
            _owed -= (long)Event.Drain();
    }

    /// <summary>Wakes the worker, or keeps it from falling asleep. Any thread.</summary>
    internal void Signal()
    {
        if (Interlocked.Exchange(ref _signalled, 1) != 0)
            return;
        Interlocked.Increment(ref Signals);
        Event.Signal();
    }

    public void Dispose() => Event.Dispose();
}

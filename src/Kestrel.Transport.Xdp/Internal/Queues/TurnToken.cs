namespace Kestrel.Transport.Xdp.Internal.Queues;

/// <summary>
/// The right to run a queue's turn, and with it to touch the queue's stack, rings and counters. One thread has it at a
/// time; which one does not matter. It is never taken twice by the same thread, so that nothing runs inside of itself.
/// </summary>
internal sealed class TurnToken
{
    private readonly Lock _lock = new();

    /// <summary>The calling thread has the token.</summary>
    internal bool IsMine => _lock.IsHeldByCurrentThread;

    /// <summary>Waits for the token.</summary>
    internal void Enter()
    {
        if (_lock.IsHeldByCurrentThread)
            throw new InvalidOperationException("The turn is this thread's already.");
        _lock.Enter();
    }

    /// <summary>As <see cref="TryEnter()"/>, with patience for others.</summary>
    internal bool TryEnter(TimeSpan patience) => !_lock.IsHeldByCurrentThread && _lock.TryEnter(patience);

    /// <summary>False when anybody has the token, the calling thread included.</summary>
    internal bool TryEnter() => !_lock.IsHeldByCurrentThread && _lock.TryEnter();

    /// <summary>
    /// Gives the token back; a full fence, so that what the caller looks at next is newer than any attempt that failed
    /// meanwhile.
    /// </summary>
    internal void Exit()
    {
        _lock.Exit();
        Interlocked.MemoryBarrier();
    }
}

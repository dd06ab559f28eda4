using Xdp.Sockets;

namespace Kestrel.Transport.Xdp.Internal;

/// <summary>
/// Knows how many connections have been given something and have not come back for more, and decides whether the worker should sleep through their answers, so
/// that one turn sends them all. An application answers by waiting for the connection again: what it flushed until then belongs in one turn too.
/// Gathering pays while answers come within microseconds; it would only delay packets when the application takes its time, so those
/// that did not come in time are no longer waited for, and it is left for a while when that happens.
/// </summary>
internal sealed class AnswerGatherer
{
    // A single answer is sent by the thread that gives it, without any gathering.
    private const int SmallestBatch = 2;

    /// <summary>
    /// Longer than answers that need no I/O, shorter than a client notices. An answer that is flushed and not followed by a wait is
    /// sent this late at most; so is what arrives while the worker gathers.
    /// </summary>
    internal static readonly TimeSpan Patience = TimeSpan.FromMicroseconds(200);

    // Sleeps that are not for gathering after one that did not pay, doubled each time in a row.
    private const int FirstPause = 16, LongestPause = 4096;

    private int _epoch = 1;
    private int _outstanding;
    private int _completed;
    private int _pause;
    private int _nextPause = FirstPause;

    /// <summary>Connections that are still awaited. Any thread.</summary>
    internal int Outstanding => Volatile.Read(ref _outstanding);

    internal long Gathered { get; private set; }

    internal long GivenUp { get; private set; }

    /// <summary>Something is about to go to a connection's application, which may answer before this thread does anything else. In a turn.</summary>
    /// <param name="awaited">The connection's mark.</param>
    internal void Expect(ref int awaited)
    {
        int epoch = Volatile.Read(ref _epoch);
        if (Interlocked.Exchange(ref awaited, epoch) != epoch)
            Interlocked.Increment(ref _outstanding);
    }

    /// <summary>Is the connection awaited, so that what it flushes can wait for its answer to be complete? Any thread.</summary>
    internal bool IsAwaited(ref int awaited) => Volatile.Read(ref awaited) == Volatile.Read(ref _epoch);

    /// <summary>The connection's application waits for it again. True for the last one awaited. Any thread.</summary>
    internal bool Answered(ref int awaited)
    {
        if (!Forget(ref awaited))
            return false;
        Interlocked.Increment(ref _completed);
        return true;
    }

    /// <summary>The connection was given nothing after all, or has ended. True when nobody is awaited any more, and somebody was.</summary>
    internal bool Forget(ref int awaited) =>
        Interlocked.Exchange(ref awaited, 0) == Volatile.Read(ref _epoch) && Interlocked.Decrement(ref _outstanding) <= 0;

    /// <summary>Should the worker sleep through the answers now? In a turn.</summary>
    internal bool Wants()
    {
        if (Outstanding < SmallestBatch)
            return false;
        if (_pause == 0)
            return true;
        _pause--;
        return false;
    }

    /// <summary>Sleeps through the answers, and learns from whether they all came.</summary>
    internal void Gather(EventFd wake, TimeSpan time)
    {
        int completed = Volatile.Read(ref _completed);
        wake.Wait(time);
        Ended(complete: Volatile.Read(ref _completed) != completed || Outstanding <= 0);
    }

    internal void Ended(bool complete)
    {
        if (complete)
        {
            Gathered++;
            _nextPause = FirstPause;
            return;
        }
        GivenUp++;
        _pause = _nextPause;
        _nextPause = Math.Min(_nextPause * 2, LongestPause);
        GiveUp();
    }

    /// <summary>Those still awaited take their time: they are forgotten, and what they flush is sent at once. By the worker.</summary>
    internal void GiveUp()
    {
        // Answers given between the two are counted against nobody: the count is then too high for one short sleep, at most.
        Volatile.Write(ref _epoch, _epoch == int.MaxValue ? 1 : _epoch + 1);
        Volatile.Write(ref _outstanding, 0);
    }
}

using Xdp.Sockets;

namespace Kestrel.Transport.Xdp.Internal;

/// <summary>
/// Decides whether the worker, having delivered requests to n connections, should sleep through the answers, so that one turn sends them all. Worth it
/// when answers come within microseconds; it would only delay packets when the application takes its time, so it is given up while it fails.
/// Everything but <see cref="Answered"/> belongs to the turn.
/// </summary>
internal sealed class AnswerGatherer
{
    // One connection's answer is sent by its own flush, without any gathering.
    private const int SmallestBatch = 2;

    // Longer than answers that need no I/O, shorter than a client notices; packets that arrive meanwhile wait this long at most.
    private static readonly TimeSpan LongestWait = TimeSpan.FromMicroseconds(200);

    // Turns without gathering after it did not pay, doubled each time in a row.
    private const int FirstPause = 16, LongestPause = 4096;

    private int _outstanding;
    private int _completed;
    private int _pause;
    private int _nextPause = FirstPause;

    internal int Outstanding => Volatile.Read(ref _outstanding);

    internal long Gathered { get; private set; }

    internal long GivenUp { get; private set; }

    /// <summary>A turn begins to deliver; stragglers of earlier ones no longer count.</summary>
    internal void Begin() => Volatile.Write(ref _outstanding, 0);

    /// <summary>A request is about to go to a connection's application, which may answer before this thread does anything else.</summary>
    internal void Expect() => Interlocked.Increment(ref _outstanding);

    /// <summary>It did not go there after all.</summary>
    internal void Unexpect() => Interlocked.Decrement(ref _outstanding);

    /// <summary>One connection has something to send. True for the last one awaited. Any thread.</summary>
    internal bool Answered()
    {
        if (Volatile.Read(ref _outstanding) <= 0 || Interlocked.Decrement(ref _outstanding) != 0)
            return false;
        Interlocked.Increment(ref _completed);
        return true;
    }

    /// <summary>Should the worker sleep through the answers now?</summary>
    internal bool Wants(int delivered)
    {
        if (delivered < SmallestBatch || Outstanding <= 0)
            return false;
        if (_pause == 0)
            return true;
        _pause--;
        return false;
    }

    internal static TimeSpan WaitFor(TimeSpan untilDeadline) => untilDeadline < LongestWait ? untilDeadline : LongestWait;

    /// <summary>Sleeps through the answers, and learns from whether a batch came in whole meanwhile.</summary>
    internal void Wait(EventFd wake, TimeSpan time)
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
    }
}

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
    internal static readonly TimeSpan Patience = TimeSpan.FromMicroseconds(500);

    // Sleeps that are not for gathering after one that did not pay, doubled each time in a row.
    private const int FirstPause = 16, LongestPause = 4096;

    // Who is awaited: an epoch (upper half), which outdates all marks when it changes, and the number of marks in it. One word, so that an answer never
    // counts against an epoch it does not belong to.
    private long _awaited = OneEpoch;
    // Counts answers, not each of them where two threads meet: only whether there were any matters.
    private int _answers;
    private int _pause;
    private int _nextPause = FirstPause;

    /// <summary>Connections that are still awaited. Any thread.</summary>
    internal int Outstanding => (int)Volatile.Read(ref _awaited);

    internal long Gathered { get; private set; }

    internal long GivenUp { get; private set; }

    /// <summary>Something is about to go to a connection's application, which may answer before this thread does anything else. In a turn.</summary>
    /// <param name="mark">The connection's.</param>
    internal void Expect(ref int mark)
    {
        // Only turns and the worker change the epoch, so it stands still here.
        int epoch = EpochOf(Volatile.Read(ref _awaited));
        if (Interlocked.Exchange(ref mark, epoch) != epoch)
            Interlocked.Increment(ref _awaited);
    }

    /// <summary>Is the connection awaited, so that what it flushes can wait for its answer to be complete? Any thread.</summary>
    internal bool IsAwaited(ref int mark) => Volatile.Read(ref mark) == EpochOf(Volatile.Read(ref _awaited));

    /// <summary>The connection's application waits for it again. True for the last one awaited. Any thread.</summary>
    internal bool Answered(ref int mark)
    {
        bool last = Forget(ref mark);
        Volatile.Write(ref _answers, _answers + 1);
        return last;
    }

    /// <summary>The connection was given nothing after all, or has ended. True when nobody is awaited any more, and somebody was.</summary>
    internal bool Forget(ref int mark)
    {
        int epoch = Volatile.Read(ref mark);
        if (epoch == 0 || Interlocked.CompareExchange(ref mark, 0, epoch) != epoch)
            return false;
        long awaited = Volatile.Read(ref _awaited);
        while (EpochOf(awaited) == epoch && (int)awaited > 0)
        {
            long seen = Interlocked.CompareExchange(ref _awaited, awaited - 1, awaited);
            if (seen == awaited)
                return (int)awaited == 1;
            awaited = seen;
        }
        return false;
    }

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

    /// <summary>Grows with every answer. Any thread.</summary>
    internal int Answers => Volatile.Read(ref _answers);

    /// <summary>Learns from how gathering went: were there answers, if not all of them? In a turn.</summary>
    internal void Ended(bool answered)
    {
        if (answered)
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

    /// <summary>Those still awaited take their time: they are forgotten, and what they flush is sent at once. In a turn.</summary>
    internal void GiveUp()
    {
        int epoch = EpochOf(Volatile.Read(ref _awaited));
        Interlocked.Exchange(ref _awaited, (epoch == int.MaxValue ? 1 : epoch + 1) * OneEpoch);
    }

    private const long OneEpoch = 1L << 32;

    private static int EpochOf(long awaited) => (int)(awaited >> 32);
}

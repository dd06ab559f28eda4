namespace Kestrel.Transport.Xdp.Internal.Queues;

/// <summary>
/// Do applications answer with one flush what a turn has given to one connection? Then the thread that flushes sends
/// the answer at once, and nobody waits for a second one to share its kick. HTTP/2 and responses in parts flush more
/// often: a turn behind them sends all of it together. Owned by the <see cref="QueueWorker"/>, with the token.
/// </summary>
/// <remarks>
/// How often they flush is seen only while each flush is sent by itself. So that is tried from time to time, and less
/// often each time that it proves wrong.
/// </remarks>
internal struct AnswerHabit()
{
    // In turns that give something to one connection.
    private const int ShortestPause = 64, LongestPause = 8192;

    private int _pause = ShortestPause;
    private int _untilTrial = ShortestPause;
    private int _proven;
    private int _flushes;

    /// <summary>One flush is expected for what the last turn has given.</summary>
    internal readonly bool IsSingle => _untilTrial == 0;

    /// <summary>A turn has given something to so many connections.</summary>
    internal void Delivered(int connections)
    {
        _flushes = 0;
        if (connections > 1)
            return;
        if (!IsSingle)
            _untilTrial--;
        else if (++_proven == LongestPause)
            _pause = ShortestPause;
    }

    /// <summary>A thread that has flushed has run a turn.</summary>
    internal void Flushed()
    {
        if (++_flushes == 1 || !IsSingle)
            return;
        _pause = Math.Min(2 * _pause, LongestPause);
        _untilTrial = _pause;
        _proven = 0;
    }
}

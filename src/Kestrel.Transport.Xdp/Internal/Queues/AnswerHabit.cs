namespace Kestrel.Transport.Xdp.Internal.Queues;

/// <summary>
/// Do applications answer with one flush what a turn has given to one connection? Then the thread that flushes sends
/// the answer at once, and nobody waits for a second one to share its kick. HTTP/2 and responses in parts flush more
/// often: a turn behind them sends all of it together. Owned by the <see cref="QueueWorker"/>, with the token.
/// </summary>
/// <remarks>
/// How often they flush is seen only while each flush is sent by itself. So that is tried from time to time, and less
/// often each time that it proves wrong: when many in a series have flushed more than once.
/// </remarks>
internal struct AnswerHabit()
{
    /// <summary>A flush wants a turn, and the read behind it, which opens the window, wants another.</summary>
    private const int TurnsForOne = 2;

    // In turns that give something to one connection.
    private const int ShortestPause = 64, LongestPause = 8192, Series = 32, MostInSeries = 8;

    private int _pause = ShortestPause;
    private int _untilTrial = ShortestPause;
    private int _watched;
    private int _wrong;
    private int _turns;
    private bool _isWatching;

    /// <summary>
    /// A turn has given something to one connection. True if one flush is expected: then it is to be sent at once, and
    /// what follows until the next delivery is watched.
    /// </summary>
    internal bool TryExpectOne()
    {
        _turns = 0;
        return _isWatching = _untilTrial == 0;
    }

    /// <summary>A turn has given something to so many connections.</summary>
    internal void Delivered(int connections)
    {
        if (_isWatching)
            Judge(flushedMore: _turns > TurnsForOne);
        else if (connections == 1 && _untilTrial > 0)
            _untilTrial--;
        _isWatching = false;
    }

    /// <summary>A thread of an application's has run a turn.</summary>
    internal void TurnRan() => _turns++;

    private void Judge(bool flushedMore)
    {
        _wrong += flushedMore ? 1 : 0;
        _watched++;
        if (_wrong > MostInSeries)
        {
            _pause = Math.Min(2 * _pause, LongestPause);
            _untilTrial = _pause;
            _watched = _wrong = 0;
        }
        else if (_watched == LongestPause)
        {
            _pause = ShortestPause;
            _watched = _wrong = 0;
        }
        else if (_watched % Series == 0)
        {
            _wrong = 0;
        }
    }
}

namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>
/// Keeps a warning that peers can bring about from filling the log. The first is told at once, and each one that is
/// told makes the pause before the next twice as long. After an hour in which nothing happened it begins anew. Owns
/// when the next may be told, and how many were not. Times are in milliseconds.
/// </summary>
internal sealed class WarningPause
{
    internal const long First = 60_000, Longest = 3_600_000;

    private long _pause = First;
    private long _nextTold = long.MinValue;
    private long _lastSeen;
    private long _heldBack;

    /// <summary>It has happened. May it be told?</summary>
    /// <param name="now">In milliseconds.</param>
    /// <param name="notTold">A sentence for the end of the line, or nothing.</param>
    internal bool MayTell(long now, out string notTold)
    {
        notTold = "";
        if (now - _lastSeen >= Longest)
            _pause = First;
        _lastSeen = now;
        if (now < _nextTold)
        {
            _heldBack++;
            return false;
        }
        if (_heldBack > 0)
            notTold = $" It has happened {_heldBack} times since this was told last.";
        _heldBack = 0;
        _nextTold = now + _pause;
        _pause = Math.Min(2 * _pause, Longest);
        return true;
    }
}

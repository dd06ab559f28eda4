namespace Xdp.TcpLite;

/// <summary>
/// Lets through <paramref name="perSecond"/> events a second on average, and <paramref name="burst"/> at once.
/// </summary>
internal struct TokenBucket(int perSecond, int burst)
{
    private double _tokens = burst;
    private Instant _filledAt = new(0);

    public bool TryTake(Instant now)
    {
        double elapsed = Math.Max(0, (now - _filledAt).TotalSeconds);
        _filledAt = now;
        _tokens = Math.Min(burst, _tokens + elapsed * perSecond);
        if (_tokens < 1)
            return false;
        _tokens--;
        return true;
    }
}

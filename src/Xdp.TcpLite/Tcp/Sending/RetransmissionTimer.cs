namespace Xdp.TcpLite;

/// <summary>The retransmission timer of what is in flight (RFC 6298, section 5). Spans come from the <see cref="RttEstimator"/>.</summary>
internal struct RetransmissionTimer()
{
    private const int MaxBackoff = 16;

    /// <summary>From when the RTO counts.</summary>
    private Instant _since;

    internal Instant Deadline { get; private set; } = Instant.Never;

    /// <summary>When the oldest unacknowledged segment, or what has taken its place since, began to wait.</summary>
    internal Instant FirstUnackedAt { get; private set; }

    /// <summary>Time-outs in a row.</summary>
    internal int Backoff { get; private set; }

    /// <summary>The first segment of a flight is sent.</summary>
    internal void OnFirstSent(Instant now) => FirstUnackedAt = now;

    /// <summary>Something was acknowledged.</summary>
    internal void OnProgress(Instant now) => (Backoff, FirstUnackedAt) = (0, now);

    /// <summary>The RTO counts from now.</summary>
    internal void Restart(Instant now) => _since = now;

    internal void Arm(TimeSpan rto, TimeSpan userTimeout, Instant now) =>
        Deadline = Patience.Within(userTimeout, _since + rto, FirstUnackedAt, now);

    internal void Disarm() => Deadline = Instant.Never;

    internal void OnTimeout(Instant now)
    {
        Disarm();
        Backoff = Math.Min(Backoff + 1, MaxBackoff);
        _since = now;
    }
}

/// <summary>The persist timer (RFC 9293, section 3.8.6.1): runs while the peer's window is too small for what waits, and nothing is in flight.</summary>
internal struct PersistTimer()
{
    internal Instant Deadline { get; private set; } = Instant.Never;

    /// <summary>When it began; <see cref="Instant.Never"/> while it does not run.</summary>
    internal Instant Since { get; private set; } = Instant.Never;

    /// <summary>It has fired: a window that is open, though it is a crumb, is used.</summary>
    internal bool TakesAnyWindow { get; private set; }

    internal readonly bool IsRunning => Deadline != Instant.Never;

    internal void Arm(TimeSpan wait, TimeSpan userTimeout, Instant now)
    {
        if (Since == Instant.Never)
            Since = now;
        Deadline = Patience.Within(userTimeout, now + wait, Since, now);
    }

    internal void Stop() => Deadline = Since = Instant.Never;

    internal void OnTimeout(bool windowIsShut)
    {
        Deadline = Instant.Never;
        TakesAnyWindow = !windowIsShut;
    }

    internal void OnSent() => TakesAnyWindow = false;
}

/// <summary>How the user timeout (RFC 5482) bounds a deadline.</summary>
internal static class Patience
{
    /// <summary>The deadline, or the end of the user timeout where that comes first, but not the past.</summary>
    internal static Instant Within(TimeSpan userTimeout, Instant deadline, Instant since, Instant now)
    {
        TimeSpan left = userTimeout - (deadline - since);
        return left >= TimeSpan.Zero ? deadline : Instant.Max(now, deadline + left);
    }
}

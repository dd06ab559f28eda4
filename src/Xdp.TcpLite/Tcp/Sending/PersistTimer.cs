namespace Xdp.TcpLite;

/// <summary>
/// The persist timer (RFC 9293, section 3.8.6.1). Runs while nothing is in flight and the peer's window is too small
/// for what waits.
/// </summary>
internal struct PersistTimer()
{
    internal Instant Deadline { get; private set; } = Instant.Never;

    /// <summary>When it began; <see cref="Instant.Never"/> while it does not run.</summary>
    internal Instant Since { get; private set; } = Instant.Never;

    /// <summary>It has fired while the window was open: however small the window is, it is used.</summary>
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

    /// <summary>As new.</summary>
    internal void Clear()
    {
        this = default;
        Stop();
    }
}

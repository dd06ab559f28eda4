namespace Xdp.TcpLite;

/// <summary>
/// The retransmission timer (RFC 6298, section 5). The RTO itself is the <see cref="RttEstimator"/>'s.
/// </summary>
internal struct RetransmissionTimer()
{
    private const int MaxBackoff = 16;

    /// <summary>From when the RTO counts.</summary>
    private Instant _since;

    internal Instant Deadline { get; private set; } = Instant.Never;

    /// <summary>
    /// Since when nothing new has been acknowledged, although something is in flight. <see cref="Instant.Never"/> after
    /// the peer has answered with a shut window, until it is asked again.
    /// </summary>
    internal Instant FirstUnackedAt { get; private set; }

    /// <summary>Time-outs in a row.</summary>
    internal int Backoff { get; private set; }

    /// <summary>The first segment of a flight is sent.</summary>
    internal void OnFirstSent(Instant now) => FirstUnackedAt = now;

    /// <summary>Something was acknowledged.</summary>
    internal void OnProgress(Instant now) => (Backoff, FirstUnackedAt) = (0, now);

    /// <summary>
    /// The peer answers with a shut window, and so has to be waited for as long as it does (RFC 9293, section 3.8.6.1).
    /// </summary>
    internal void OnShutWindow() => FirstUnackedAt = Instant.Never;

    /// <summary>Has the oldest segment waited longer than the user is willing to?</summary>
    internal readonly bool HasExceeded(TimeSpan userTimeout, Instant now) => now - FirstUnackedAt >= userTimeout;

    /// <summary>The RTO counts from now.</summary>
    internal void Restart(Instant now) => _since = now;

    internal void Arm(TimeSpan rto, TimeSpan userTimeout, Instant now) =>
        Deadline = FirstUnackedAt == Instant.Never
            ? _since + rto
            : Patience.Within(userTimeout, _since + rto, FirstUnackedAt, now);

    internal void Disarm() => Deadline = Instant.Never;

    /// <summary>As new.</summary>
    internal void Clear()
    {
        this = default;
        Deadline = Instant.Never;
    }

    internal void OnTimeout(Instant now)
    {
        Disarm();
        Backoff = Math.Min(Backoff + 1, MaxBackoff);
        _since = now;
        if (FirstUnackedAt == Instant.Never)
            FirstUnackedAt = now;
    }
}

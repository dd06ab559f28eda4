namespace Xdp.TcpLite;

/// <summary>Keepalive (RFC 9293, section 3.8.4), of a connection that asks for it.</summary>
internal sealed class KeepAliveTimer
{
    private Instant _heardAt;

    /// <summary>Probes since then.</summary>
    private int _probes;

    private KeepAliveTimer(Instant now) => _heardAt = now;

    internal enum Verdict
    {
        /// <summary>The peer was heard of meanwhile.</summary>
        Alive,

        /// <summary>A probe is to be sent.</summary>
        Probe,

        /// <summary>Too many probes were not answered.</summary>
        Dead,
    }

    internal Instant Deadline { get; private set; }

    /// <summary>The timer of a connection that wants its peer probed after <paramref name="idle"/>.</summary>
    /// <param name="timer">The one it has; null for none.</param>
    /// <param name="idle">Null when the peer is not to be probed; the result is null then.</param>
    /// <param name="now">The present.</param>
    internal static KeepAliveTimer? Restart(KeepAliveTimer? timer, TimeSpan? idle, Instant now)
    {
        if (idle is not { } span)
            return null;
        timer ??= new KeepAliveTimer(now);
        timer.Deadline = now + span;
        return timer;
    }

    /// <summary>A segment of the peer's has come.</summary>
    internal void Heard(Instant now) => (_heardAt, _probes) = (now, 0);

    /// <summary>The deadline has come. The next one is set.</summary>
    /// <param name="options">With an idle time.</param>
    /// <param name="now">The present.</param>
    internal Verdict OnTimeout(TcpStackOptions options, Instant now)
    {
        TimeSpan idle = options.KeepAlive!.Value;
        if (now - _heardAt < idle)
        {
            _probes = 0;
            Deadline = _heardAt + idle;
            return Verdict.Alive;
        }
        if (_probes >= options.KeepAliveCount)
        {
            Deadline = Instant.Never;
            return Verdict.Dead;
        }
        _probes++;
        Deadline = now + options.KeepAliveInterval;
        return Verdict.Probe;
    }
}

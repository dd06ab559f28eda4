namespace Xdp.TcpLite;

/// <summary>
/// Limits the answers to segments that may be a blind attack, or come from a peer that disagrees (RFC 5961, section 7).
/// Each record has one of its own: a limit that is shared can be probed from the side (CVE-2016-5696).
/// </summary>
internal struct AnswerLimit()
{
    /// <summary>Time between two answers: Linux's tcp_invalid_ratelimit.</summary>
    internal static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(TcpConnection.InvalidInterval);

    /// <summary>At the start it lies so far back that the first answer is always allowed.</summary>
    private Instant _answeredAt = new(long.MinValue / 2);

    /// <summary>Is an answer allowed now? If so, it counts as given.</summary>
    internal bool TryTake(Instant now)
    {
        if (now - _answeredAt < Interval)
            return false;
        _answeredAt = now;
        return true;
    }

    /// <summary>An unlimited answer was given. The next limited one waits for an interval from here.</summary>
    internal void Note(Instant now) => _answeredAt = now;
}

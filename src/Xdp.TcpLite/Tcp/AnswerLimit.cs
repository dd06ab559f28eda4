namespace Xdp.TcpLite;

/// <summary>
/// Limits the answers to segments that may be a blind attack, or come from a peer that disagrees (RFC 5961, section 7).
/// Each record has one of its own: a limit that is shared can be probed from the side (CVE-2016-5696).
/// </summary>
internal struct AnswerLimit
{
    /// <summary>Time between two answers: Linux's tcp_invalid_ratelimit.</summary>
    internal static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(500);

    /// <summary>
    /// Milliseconds of a clock that wraps after 49 days; 0 before the first answer. After so long a silence one answer
    /// may be withheld.
    /// </summary>
    private uint _answeredAt;

    /// <summary>Is an answer allowed now? If so, it counts as given.</summary>
    internal bool TryTake(Instant now)
    {
        if (_answeredAt != 0 && Milliseconds(now) - _answeredAt < Interval.TotalMilliseconds)
            return false;
        Note(now);
        return true;
    }

    /// <summary>An unlimited answer was given. The next limited one waits for an interval from here.</summary>
    internal void Note(Instant now) => _answeredAt = Milliseconds(now);

    private static uint Milliseconds(Instant now) => Math.Max(1, (uint)(now.Ticks / TimeSpan.TicksPerMillisecond));
}

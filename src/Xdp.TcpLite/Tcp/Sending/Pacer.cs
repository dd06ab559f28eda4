namespace Xdp.TcpLite;

/// <summary>
/// Spreads segments over the round trip, at the rate that congestion control gives. Sent at once, a window of them
/// would meet a queue at the bottleneck that is too short for it, and be lost there.
/// </summary>
/// <remarks>
/// Segments leave in quanta: what the rate allows in a tick of the timer wheel, and no less than two segments, so that
/// the receiver has a reason to acknowledge. A timer that fires late is made up for, by a quantum at most.
/// </remarks>
internal struct Pacer()
{
    /// <summary>
    /// Paths with a shorter round trip are not paced: it is a few ticks of the wheel, and their queues hold a window.
    /// </summary>
    private static readonly TimeSpan s_shortest = TimeSpan.FromMilliseconds(2);

    /// <summary>
    /// Segments that leave at once when nothing was in flight: an initial window (RFC 6928). Most answers are no
    /// longer, and would only be late.
    /// </summary>
    internal const int Unpaced = 10;

    /// <summary>When the next segment leaves, if all leave at the rate.</summary>
    private Instant _next;

    /// <summary>The time that a quantum takes; zero while nothing has been paced.</summary>
    private TimeSpan _quantum;

    /// <summary>Bytes that still leave at once.</summary>
    private int _unpaced;

    /// <summary>When what waits is sent; <see cref="Instant.Never"/> while nothing waits.</summary>
    internal Instant Deadline { get; private set; } = Instant.Never;

    /// <summary>Is a path with this least round trip paced?</summary>
    internal static bool Paces(TimeSpan minRtt) => minRtt >= s_shortest;

    /// <summary>Nothing was in flight.</summary>
    internal void Start(int mss) => _unpaced = Unpaced * mss;

    /// <summary>A segment was sent.</summary>
    /// <param name="bytes">Its payload.</param>
    /// <param name="rate">Bytes a second; 0 does not pace.</param>
    /// <param name="mss">Payload bytes of a full segment.</param>
    /// <param name="now">The present.</param>
    internal void OnSent(int bytes, long rate, int mss, Instant now)
    {
        if (_unpaced > 0)
        {
            _unpaced -= bytes;
            return;
        }
        if (rate <= 0)
        {
            _quantum = TimeSpan.Zero;
            return;
        }
        TimeSpan two = TimeOf(2 * mss, rate);
        _quantum = two > TimerWheel.Tick ? two : TimerWheel.Tick;
        _next = Instant.Max(_next, now - 2 * _quantum) + TimeOf(bytes, rate);
    }

    /// <summary>Must a segment wait? If so, <see cref="Deadline"/> says until when.</summary>
    internal bool Holds(Instant now)
    {
        if (Deadline != Instant.Never && Deadline > now)
            return true;
        // An ACK may come before the wheel has fired: what has waited goes, at the pace.
        Deadline = Instant.Never;
        if (_quantum == TimeSpan.Zero || _next <= now)
            return false;
        Deadline = _next + _quantum;
        return true;
    }

    /// <summary>As new.</summary>
    internal void Clear()
    {
        this = default;
        Deadline = Instant.Never;
    }

    /// <summary>What waited may go.</summary>
    internal void OnDeadline() => Deadline = Instant.Never;

    private static TimeSpan TimeOf(int bytes, long rate) => new(bytes * TimeSpan.TicksPerSecond / rate);
}

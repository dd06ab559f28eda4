namespace Xdp.TcpLite;

/// <summary>
/// A point on the host's monotonic clock, in ticks of 100 ns since an origin of the host's choice. The stack never
/// reads a clock: every call that depends on time is given one of these, and calls never go back in time.
/// </summary>
public readonly record struct Instant(long Ticks) : IComparable<Instant>
{
    /// <summary>Later than any real time: "no deadline".</summary>
    public static readonly Instant Never = new(long.MaxValue);

    public static Instant operator +(Instant instant, TimeSpan span) => new(instant.Ticks + span.Ticks);
    public static Instant operator -(Instant instant, TimeSpan span) => new(instant.Ticks - span.Ticks);
    public static TimeSpan operator -(Instant left, Instant right) => new(left.Ticks - right.Ticks);
    public static bool operator <(Instant left, Instant right) => left.Ticks < right.Ticks;
    public static bool operator >(Instant left, Instant right) => left.Ticks > right.Ticks;
    public static bool operator <=(Instant left, Instant right) => left.Ticks <= right.Ticks;
    public static bool operator >=(Instant left, Instant right) => left.Ticks >= right.Ticks;

    public static Instant Min(Instant left, Instant right) => left < right ? left : right;
    public static Instant Max(Instant left, Instant right) => left > right ? left : right;

    public int CompareTo(Instant other) => Ticks.CompareTo(other.Ticks);

    public override string ToString() => this == Never ? "never" : TimeSpan.FromTicks(Ticks).ToString();
}

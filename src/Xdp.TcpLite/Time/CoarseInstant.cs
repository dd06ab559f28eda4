namespace Xdp.TcpLite;

/// <summary>
/// An <see cref="Instant"/> to the second, in half the memory. For what each connection remembers for minutes or days.
/// </summary>
internal readonly struct CoarseInstant(Instant at)
{
    private readonly uint _second = SecondOf(at);

    /// <summary>How long ago it was, give or take a second.</summary>
    internal TimeSpan Age(Instant now) => TimeSpan.FromSeconds((int)(SecondOf(now) - _second));

    private static uint SecondOf(Instant at) => (uint)(at.Ticks / TimeSpan.TicksPerSecond);
}

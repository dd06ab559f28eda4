namespace Xdp.TcpLite;

/// <summary>An <see cref="Instant"/> to the second, in half the memory: for what is kept for each connection and lies minutes or days back.</summary>
internal readonly struct CoarseInstant(Instant at)
{
    private readonly uint _second = SecondOf(at);

    /// <summary>Time that has passed since, give or take a second.</summary>
    internal TimeSpan Age(Instant now) => TimeSpan.FromSeconds((int)(SecondOf(now) - _second));

    private static uint SecondOf(Instant at) => (uint)(at.Ticks / TimeSpan.TicksPerSecond);
}

namespace Xdp.TcpLite;

/// <summary>
/// An <see cref="Instant"/> to the millisecond, in half the memory. For what each connection remembers, where an age of
/// seven weeks may count as none.
/// </summary>
internal readonly struct FineInstant(Instant at)
{
    private readonly uint _millisecond = MillisecondOf(at);

    /// <summary>How long ago it was, give or take a millisecond.</summary>
    internal TimeSpan Age(Instant now) => new((MillisecondOf(now) - _millisecond) * TimeSpan.TicksPerMillisecond);

    private static uint MillisecondOf(Instant at) => (uint)(at.Ticks / TimeSpan.TicksPerMillisecond);
}

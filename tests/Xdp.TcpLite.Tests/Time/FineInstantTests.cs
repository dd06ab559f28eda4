namespace Xdp.TcpLite.Tests;

public class FineInstantTests
{
    [Theory]
    [InlineData(0, 0)]
    [InlineData(0.0004, 0.0006)]
    [InlineData(1.9999, 86400 * 49)]
    [InlineData(4_294_967.295, 0.007)] // around the wrap
    public void Age_AnySpan_IsKnownToTheMillisecond(double atSeconds, double ageSeconds)
    {
        var at = new Instant((long)(atSeconds * TimeSpan.TicksPerSecond));
        TimeSpan age = new FineInstant(at).Age(at + TimeSpan.FromSeconds(ageSeconds));
        Assert.InRange(age.TotalSeconds, ageSeconds - 0.001, ageSeconds + 0.001);
    }
}

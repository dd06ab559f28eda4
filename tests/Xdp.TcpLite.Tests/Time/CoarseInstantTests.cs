namespace Xdp.TcpLite.Tests;

public class CoarseInstantTests
{
    [Theory]
    [InlineData(0, 0)]
    [InlineData(0.4, 600)]
    [InlineData(1.9, 86400 * 25)]
    [InlineData(uint.MaxValue, 7)]
    public void Age_AnySpan_IsKnownToTheSecond(double atSeconds, double ageSeconds)
    {
        var at = new Instant((long)(atSeconds * TimeSpan.TicksPerSecond));
        TimeSpan age = new CoarseInstant(at).Age(at + TimeSpan.FromSeconds(ageSeconds));
        Assert.InRange(age.TotalSeconds, ageSeconds - 1, ageSeconds + 1);
    }
}

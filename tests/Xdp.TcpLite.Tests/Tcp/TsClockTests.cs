namespace Xdp.TcpLite.Tests;

public class TsClockTests
{
    [Theory]
    [InlineData(0, 0u)]
    [InlineData(TimeSpan.TicksPerMillisecond - 1, 0u)]
    [InlineData(TimeSpan.TicksPerMillisecond, 1u)]
    [InlineData(TimeSpan.TicksPerMillisecond * 0xffff_ffffL, 0xffff_ffffu)]
    [InlineData(TimeSpan.TicksPerMillisecond * 0x1_0000_0000L, 0u)]
    public void At_TicksOnceAMillisecondAndWraps(long ticks, uint expected) =>
        Assert.Equal(expected, TsClock.At(new Instant(ticks)));
}

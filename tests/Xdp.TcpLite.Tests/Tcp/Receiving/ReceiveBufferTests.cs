namespace Xdp.TcpLite.Tests;

public class ReceiveBufferTests
{
    private static readonly TimeSpan s_rtt = TimeSpan.FromMilliseconds(20);

    [Theory]
    [InlineData(250, 1 << 20, 1000)] // four times that is what there is
    [InlineData(251, 1 << 20, 1004)]
    [InlineData(500, 1 << 20, 2000)]
    [InlineData(5000, 1 << 20, 2000)] // at most twice
    [InlineData(5000, 1500, 1500)]
    [InlineData(long.MaxValue, 1 << 20, 2000)]
    public void Grow_AfterARoundTrip_FollowsWhatWasReleased(long released, int max, int size)
    {
        var start = new Instant(TimeSpan.TicksPerHour);
        var buffer = new ReceiveBuffer(1000, start);
        buffer.OnReleased(released);
        buffer.Grow(s_rtt, max, start + s_rtt - TimeSpan.FromTicks(1));
        Assert.Equal(1000, buffer.Size);
        buffer.Grow(s_rtt, max, start + s_rtt);
        Assert.Equal(size, buffer.Size);
        // What was released counts for one round trip.
        buffer.Grow(s_rtt, max, start + 3 * s_rtt);
        Assert.Equal(size, buffer.Size);
    }

    [Fact]
    public void Grow_WhereTheLowerHalfOfTheTicksWraps_StillGrows()
    {
        var start = new Instant(0x7_ffff_ffffL);
        var buffer = new ReceiveBuffer(1000, start);
        buffer.OnReleased(400);
        buffer.Grow(s_rtt, 1 << 20, start + TimeSpan.FromTicks(1));
        Assert.Equal(1000, buffer.Size);
        buffer.Grow(s_rtt, 1 << 20, start + s_rtt);
        Assert.Equal(1600, buffer.Size);
    }

    [Fact]
    public void Room_MoreReceivedThanItHolds_IsNegativeUntilReleased()
    {
        var buffer = new ReceiveBuffer(1000, default);
        buffer.OnReceived(1200);
        Assert.Equal(-200, buffer.Room);
        buffer.OnReleased(1100);
        Assert.Equal((900, 100), (buffer.Room, buffer.Unreleased));
        buffer.OnDiscarded();
        Assert.Equal(1000, buffer.Room);
    }

    [Theory]
    [InlineData(2000, 1000)]
    [InlineData(400, 400)]
    [InlineData(0, 0)]
    public void Limit_OnlyMakesItSmaller(long most, int size)
    {
        var buffer = new ReceiveBuffer(1000, default);
        buffer.Limit(most);
        Assert.Equal((size, size), (buffer.Size, buffer.Room));
    }
}

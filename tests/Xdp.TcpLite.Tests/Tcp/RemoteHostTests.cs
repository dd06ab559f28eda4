namespace Xdp.TcpLite.Tests;

public class RemoteHostTests
{
    private static readonly Instant s_start = new(TimeSpan.TicksPerHour);

    private readonly PathCache _paths = new();

    [Fact]
    public void Heard_FromAnotherWay_AnswersGoThere()
    {
        SharedPath first = _paths.Share(SegmentBuilder.Path);
        var host = new RemoteHost(first, s_start);
        host.Heard(SegmentBuilder.Path, _paths, s_start);
        Assert.Same(first, host.Shared);
        LinkPath other = SegmentBuilder.Path with { RemoteMac = 7, TagCount = 1, OuterTag = LinkPath.Tag(0x8100, 5) };
        host.Heard(other, _paths, s_start);
        Assert.Equal(other, host.Path);
        Assert.Same(_paths.Share(other), host.Shared);
        host.Take(first);
        Assert.Equal(SegmentBuilder.Path, host.Path);
    }

    /// <summary>Silence for Linux's base_reachable_time, counted from the last segment.</summary>
    [Theory]
    [InlineData(0, 29, false)]
    [InlineData(0, 30, true)]
    [InlineData(20, 49, false)]
    [InlineData(20, 50, true)]
    public void IsSuspect_AfterThirtySecondsOfSilence(int heard, int now, bool expected)
    {
        var host = new RemoteHost(_paths.Share(SegmentBuilder.Path), s_start);
        host.Heard(SegmentBuilder.Path, _paths, s_start + TimeSpan.FromSeconds(heard));
        Assert.Equal(expected, host.IsSuspect(s_start + TimeSpan.FromSeconds(now)));
    }
}

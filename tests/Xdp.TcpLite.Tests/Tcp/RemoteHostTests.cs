namespace Xdp.TcpLite.Tests;

public class RemoteHostTests
{
    private static readonly Instant s_start = new(TimeSpan.TicksPerHour);

    private readonly StackEnvironment _environment = new PartRig().Environment;

    [Fact]
    public void Heard_FromAnotherWay_AnswersGoThere()
    {
        Route first = _environment.Paths.Share(SegmentBuilder.Path);
        var host = new RemoteHost(first, s_start);
        host.Heard(SegmentBuilder.Path, _environment, s_start);
        Assert.Same(first, host.Route);
        LinkPath other = SegmentBuilder.Path with { RemoteMac = 7, TagCount = 1, OuterTag = LinkPath.Tag(0x8100, 5) };
        host.Heard(other, _environment, s_start);
        Assert.Equal(other, host.Route.Path);
        Assert.Same(_environment.Paths.Share(other), host.Route);
    }

    /// <summary>Silence for Linux's base_reachable_time, counted from the last segment.</summary>
    [Theory]
    [InlineData(0, 29, false)]
    [InlineData(0, 30, true)]
    [InlineData(20, 49, false)]
    [InlineData(20, 50, true)]
    public void IsSuspect_AfterThirtySecondsOfSilence(int heard, int now, bool expected)
    {
        var host = new RemoteHost(new Route(SegmentBuilder.Path), s_start);
        host.Heard(SegmentBuilder.Path, _environment, s_start + TimeSpan.FromSeconds(heard));
        Assert.Equal(expected, host.IsSuspect(s_start + TimeSpan.FromSeconds(now)));
    }
}

namespace Xdp.TcpLite.Tests;

public class PathMtuTests
{
    private const int Link = 1500;
    private const int Capacity = 9000;

    private static readonly Instant s_now = new(TimeSpan.TicksPerHour);
    private static readonly HeaderLengths s_plain = new(isIPv4: true, hasTimestamps: false);

    private static PathMtu Create(ushort peerMss = 1460)
    {
        var path = new PathMtu();
        path.Negotiate(peerMss);
        return path;
    }

    /// <summary>RFC 6691: neither MSS option counts TCP options, so a segment that has them carries less.</summary>
    [Theory]
    [InlineData(true, false, 1460, 1500, 9000, 1460)]
    [InlineData(true, true, 1460, 1500, 9000, 1448)]
    [InlineData(false, true, 1440, 1500, 9000, 1428)]
    [InlineData(true, false, 8960, 1500, 9000, 1460)]
    [InlineData(true, true, 536, 1500, 9000, 524)]
    [InlineData(true, false, 8960, 9000, 1792, 1792)] // what a frame holds
    [InlineData(true, true, 0, 1500, 9000, 36)] // a peer that wants crumbs
    [InlineData(true, false, 0, 1500, 9000, 48)]
    [InlineData(true, false, 65535, 65535, 100_000, 65495)]
    public void EffectiveMss_IsWhatAllSidesTake(
        bool isIPv4, bool timestamps, int peerMss, int link, int capacity, int expected) => Assert.Equal(
        expected, Create((ushort)peerMss).EffectiveMss(new HeaderLengths(isIPv4, timestamps), link, capacity));

    /// <summary>RFC 1191, section 7.1; RFC 8201: IPv6 has 1280 at least.</summary>
    [Theory]
    [InlineData(1400, true, true, 1360)]
    [InlineData(1500, true, false, 1460)] // no news
    [InlineData(9000, true, false, 1460)]
    [InlineData(0, true, true, 1452)] // the plateau below 1500 is 1492
    [InlineData(68, true, true, 512)]
    [InlineData(68, false, true, 1220)]
    public void OnTooBig_TakesAPlausibleClaim(int reported, bool isIPv4, bool isNews, int mss)
    {
        PathMtu path = Create();
        Assert.Equal(isNews, path.OnTooBig(reported, Link, isIPv4, s_now));
        Assert.Equal(mss, path.EffectiveMss(new HeaderLengths(isIPv4, hasTimestamps: false), Link, Capacity));
        Assert.False(path.OnTooBig(reported == 0 ? Link : reported, Link, isIPv4, s_now));
    }

    [Fact]
    public void OnTooBig_RouterDoesNotSay_GoesDownPlateauByPlateau()
    {
        PathMtu path = Create(peerMss: 60_000);
        int last = 65535;
        while (path.OnTooBig(0, 65535, isIPv4: true, s_now))
        {
            int mss = path.EffectiveMss(s_plain, 65535, 65535);
            Assert.InRange(mss, 512, last - 1);
            last = mss;
        }
        Assert.Equal(576 - 40, last);
    }

    /// <summary>
    /// RFC 4821, section 7.7: large segments that time out again and again may be swallowed by the path. No path takes
    /// less than 552 bytes over IPv4, or 1280 over IPv6.
    /// </summary>
    [Theory]
    [InlineData(3, 1460, true, false, 1460)] // too early
    [InlineData(4, 1460, true, true, 1024)]
    [InlineData(4, 1460, false, true, 1220)]
    [InlineData(4, 1000, true, false, 1460)] // that one is small anyway
    [InlineData(4, 1200, false, false, 1440)]
    [InlineData(4, 0, true, false, 1460)] // a bare FIN
    public void OnTimeout_RepeatedForALargeSegment_TakesLess(
        int timeouts, int length, bool isIPv4, bool shrinks, int expected)
    {
        PathMtu path = Create();
        var headers = new HeaderLengths(isIPv4, hasTimestamps: false);
        int mss = path.EffectiveMss(headers, Link, Capacity);
        Assert.Equal(shrinks, path.OnTimeout(timeouts, length, mss, headers));
        Assert.Equal(expected, path.EffectiveMss(headers, Link, Capacity));
    }

    [Theory]
    [InlineData(true, 512)]
    [InlineData(false, 1220)]
    public void OnTimeout_AgainAndAgain_StopsAtTheProtocolsLeast(bool isIPv4, int least)
    {
        PathMtu path = Create();
        var headers = new HeaderLengths(isIPv4, hasTimestamps: false);
        for (int timeouts = 4; timeouts < 20; timeouts++)
        {
            int mss = path.EffectiveMss(headers, Link, Capacity);
            Assert.Equal(mss > least, path.OnTimeout(timeouts, mss, mss, headers));
        }
        Assert.Equal(least, path.EffectiveMss(headers, Link, Capacity));
    }

    /// <summary>What is only suspected is tried at once; and when it was none, nothing has changed.</summary>
    [Fact]
    public void OnProbe_OfTheLinksSizePasses_ItWasAnOutage()
    {
        PathMtu path = Create();
        Assert.Equal((false, 0), (path.IsReduced, path.ProbeMss(s_plain, Link, Capacity, s_now)));
        path.OnTimeout(4, 1460, 1460, s_plain);
        Assert.Equal((true, 1460), (path.IsReduced, path.ProbeMss(s_plain, Link, Capacity, s_now)));
        path.OnProbe(new MtuProbeResult(1460, Passed: true), s_plain, Link, s_now);
        Assert.Equal((false, 1460), (path.IsReduced, path.EffectiveMss(s_plain, Link, Capacity)));
    }

    /// <summary>
    /// RFC 4821, section 7.3: the interval is halved by each probe. After ten minutes all is open again.
    /// </summary>
    [Fact]
    public void OnProbe_Search_ComesToWithinEightBytes()
    {
        const int takes = 1288;
        PathMtu path = Create();
        path.OnTimeout(4, 1460, 1460, s_plain);
        int probes = 0;
        while (path.ProbeMss(s_plain, Link, Capacity, s_now) is var probe and > 0)
        {
            Assert.InRange(++probes, 1, 7);
            path.OnProbe(new MtuProbeResult(probe, probe + s_plain.All <= takes), s_plain, Link, s_now);
            Assert.InRange(path.EffectiveMss(s_plain, Link, Capacity), 1024, takes - s_plain.All);
        }
        Assert.InRange(path.EffectiveMss(s_plain, Link, Capacity), takes - s_plain.All - 8, takes - s_plain.All);
        Assert.Equal(0, path.ProbeMss(s_plain, Link, Capacity, s_now + TimeSpan.FromSeconds(599)));
        Assert.Equal(1460, path.ProbeMss(s_plain, Link, Capacity, s_now + TimeSpan.FromSeconds(600)));
    }

    /// <summary>More than the peer takes is not tried.</summary>
    [Fact]
    public void ProbeMss_PeerTakesNoMore_IsNone()
    {
        PathMtu path = Create(peerMss: 1024);
        path.OnTooBig(1100, Link, isIPv4: true, s_now);
        Assert.Equal(0, path.ProbeMss(s_plain, Link, Capacity, s_now + TimeSpan.FromDays(1)));
    }

    /// <summary>What a router says is exact, and holds for ten minutes.</summary>
    [Fact]
    public void ProbeMss_RouterHasSpoken_TriesTheLinkAfterTenMinutes()
    {
        PathMtu path = Create();
        path.OnTooBig(1400, Link, isIPv4: true, s_now);
        Assert.Equal(0, path.ProbeMss(s_plain, Link, Capacity, s_now + TimeSpan.FromSeconds(599)));
        Assert.Equal(1460, path.ProbeMss(s_plain, Link, Capacity, s_now + TimeSpan.FromSeconds(600)));
    }

    /// <summary>RFC 1191, section 6.3: not before five minutes; ten are advised.</summary>
    [Fact]
    public void Forget_AfterTenMinutes_TriesTheLinkAgain()
    {
        PathMtu path = Create();
        Assert.False(path.Forget(s_now + TimeSpan.FromDays(1)));
        path.OnTooBig(1400, Link, isIPv4: true, s_now);
        Assert.False(path.Forget(s_now + TimeSpan.FromSeconds(599)));
        Assert.True(path.Forget(s_now + TimeSpan.FromSeconds(600)));
        Assert.Equal(1460, path.EffectiveMss(s_plain, Link, Capacity));
        Assert.False(path.Forget(s_now + TimeSpan.FromSeconds(1200)));
    }
}

using Kestrel.Transport.Xdp.Internal.Interfaces;
using Kestrel.Transport.Xdp.Tests.Support;
using Xdp.Sockets;

namespace Kestrel.Transport.Xdp.Tests.Interfaces;

public class SynLimiterTests
{
    private readonly FakeInterface _maps = new();
    private readonly CollectingLogger _log = new();
    private readonly SynLimiter _limiter;

    public SynLimiterTests() => _limiter = new SynLimiter("eth7", _log);

    [Fact]
    public void NoCookies_NoLimit()
    {
        _limiter.Check(queue: 0, cookiesSent: 0, _maps, now: 1_000_000);
        Assert.Empty(_maps.SynRates);
        Assert.Empty(_log.AboveDebug);
    }

    [Fact]
    public void Cookies_Limit_AndTellOnce()
    {
        _limiter.Check(0, 0, _maps, now: 0);
        _limiter.Check(0, 5, _maps, now: 250);
        Assert.Equal(SynLimiter.PerSecond, _maps.SynRates[0]);
        _maps.SynRates.Clear();
        _limiter.Check(0, 9, _maps, now: 500);
        Assert.Empty(_maps.SynRates);
        Assert.Contains("queue 0, is flooded", Assert.Single(_log.AboveDebug), StringComparison.Ordinal);
    }

    [Fact]
    public void LastCookie_LimitEndsAWhileAfter()
    {
        _limiter.Check(0, 5, _maps, now: 0);
        _limiter.Check(0, 6, _maps, now: 1_000);
        _limiter.Check(0, 6, _maps, now: 1_000 + SynLimiter.PressureLasts - 1);
        Assert.Equal(SynLimiter.PerSecond, _maps.SynRates[0]);
        _limiter.Check(0, 6, _maps, now: 1_000 + SynLimiter.PressureLasts);
        Assert.Equal(0, _maps.SynRates[0]);
    }

    [Fact]
    public void EachQueue_ForItself()
    {
        _limiter.Check(0, 5, _maps, now: 0);
        _limiter.Check(1, 0, _maps, now: 0);
        Assert.Equal([0], _maps.SynRates.Keys);
    }

    [Fact]
    public void QueueInPlaceOfALimitedOne_BeginsWithoutALimit()
    {
        _limiter.Check(0, 5, _maps, now: 0);
        _limiter.Forget(0, _maps);
        Assert.Equal(0, _maps.SynRates[0]);
        _maps.SynRates.Clear();
        _limiter.Check(0, 0, _maps, now: 250);
        Assert.Empty(_maps.SynRates);
    }

    [Fact]
    public void LimitThatCouldNotBeLifted_WithItsQueue_IsLiftedLater()
    {
        _limiter.Check(0, 5, _maps, now: 0);
        _maps.SynRateFails = 12; // ENOMEM
        Assert.Throws<XdpException>(() => _limiter.Forget(0, _maps));
        Assert.Equal(SynLimiter.PerSecond, _maps.SynRates[0]);
        _maps.SynRateFails = 0;
        // The new queue's stack has sent no cookie yet.
        _limiter.Check(0, 0, _maps, now: 250);
        _limiter.Check(0, 0, _maps, now: 250 + SynLimiter.PressureLasts);
        Assert.Equal(0, _maps.SynRates[0]);
    }

    /// <summary>A peer that begins and ends a flood again and again must not fill the log.</summary>
    [Fact]
    public void FloodAfterFlood_IsLimitedEachTime_AndToldWithPauses()
    {
        const long Period = SynLimiter.PressureLasts + 1_000;
        int limited = 0;
        for (long flood = 0; flood * Period < WarningPause.First; flood++)
        {
            _limiter.Check(0, flood + 1, _maps, now: flood * Period);
            limited += _maps.SynRates[0] > 0 ? 1 : 0;
            _limiter.Check(0, flood + 1, _maps, now: flood * Period + SynLimiter.PressureLasts);
            Assert.Equal(0, _maps.SynRates[0]);
        }
        Assert.Equal(WarningPause.First / Period, limited);
        Assert.Single(_log.AboveDebug);
    }
}

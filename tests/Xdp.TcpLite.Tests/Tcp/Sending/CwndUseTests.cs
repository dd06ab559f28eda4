namespace Xdp.TcpLite.Tests;

public class CwndUseTests
{
    private const int Mss = 1460;

    private static NewReno Control(long cwnd, bool slowStart)
    {
        var control = new NewReno();
        control.Start(Mss);
        if (!slowStart)
        {
            control.SetCwnd(2 * cwnd);
            control.OnCongestion(default);
            control.OnRecoveryExit(default);
        }
        control.SetCwnd(cwnd);
        return control;
    }

    /// <summary>
    /// RFC 7661 and RFC 9438, section 5.8: only a window that is used grows. In slow start half is enough.
    /// </summary>
    [Theory]
    [InlineData(true, 10, false, false)]
    [InlineData(true, 11, false, true)]
    [InlineData(true, 1, true, true)]
    [InlineData(false, 20, false, false)]
    [InlineData(false, 20, true, true)]
    public void IsUsed_ByPhaseAndFlight(bool slowStart, int segments, bool limited, bool used)
    {
        foreach (uint una in new[] { 1000u, 0xffff_f000u })
        {
            var use = new CwndUse();
            var sndUna = new SeqNumber(una);
            use.Start(sndUna);
            use.OnStopped(limited, sndUna, sndUna + segments * Mss);
            Assert.Equal(used, use.IsUsed(Control(20 * Mss, slowStart)));
        }
    }

    /// <summary>What was so once in a round trip is so for all of it, across the wrap of sequence numbers.</summary>
    [Fact]
    public void OnStopped_LimitedOnce_HoldsForTheRoundTrip()
    {
        var use = new CwndUse();
        var una = new SeqNumber(0xffff_fff0);
        use.Start(una);
        use.OnStopped(limited: true, una, una + 1000);
        use.OnStopped(limited: false, una + 999, una + 1500);
        Assert.True(use.Limited);
        use.OnStopped(limited: false, una + 1000, una + 1500);
        Assert.False(use.Limited);
    }

    [Fact]
    public void OnStopped_SmallerFlight_DoesNotLowerTheMost()
    {
        NewReno control = Control(10 * Mss, slowStart: true);
        var use = new CwndUse();
        var una = new SeqNumber(0);
        use.Start(una);
        use.OnStopped(limited: false, una, una + 6 * Mss);
        use.OnStopped(limited: false, una + 3 * Mss, una + 6 * Mss);
        Assert.True(use.IsUsed(control));
        use.OnStopped(limited: false, una + 6 * Mss, una + 8 * Mss);
        Assert.False(use.IsUsed(control));
    }
}

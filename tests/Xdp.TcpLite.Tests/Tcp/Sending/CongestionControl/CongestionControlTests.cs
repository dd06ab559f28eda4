namespace Xdp.TcpLite.Tests;

public class CongestionControlTests
{
    private const int Mss = 1460;

    private static readonly TimeSpan s_rtt = TimeSpan.FromMilliseconds(50);

    private static ICongestionControl Make(bool cubic)
    {
        ICongestionControl control = cubic ? new Cubic() : new NewReno();
        control.Start(Mss);
        return control;
    }

    private static AckSample Sample(long acked, TimeSpan rtt, Instant now, bool limited, bool mayGrow = true) => new()
    {
        AckedBytes = acked,
        Rtt = rtt,
        Srtt = rtt,
        MinRtt = rtt,
        InFlight = 0,
        CwndLimited = limited,
        IsCwndFull = false,
        InFastRecovery = false,
        HasSack = true,
        MayGrow = mayGrow,
        Now = now,
    };

    /// <summary>One round trip: an ACK for each two segments of the window.</summary>
    private static Instant Round(ICongestionControl control, Instant now, TimeSpan rtt, bool limited = true)
    {
        long left = control.Cwnd;
        long acks = Math.Max(1, left / (2 * Mss));
        for (long i = 0; i < acks; i++)
        {
            now += rtt / acks;
            control.OnAck(Sample(i + 1 == acks ? left : 2 * Mss, rtt, now, limited));
            left -= 2 * Mss;
        }
        return now;
    }

    private static Instant Lose(ICongestionControl control, Instant now)
    {
        control.OnCongestion(now);
        control.SetCwnd(control.Ssthresh);
        control.OnRecoveryExit(now);
        return now;
    }

    [Theory]
    [InlineData(1460, 14600)]
    [InlineData(536, 5360)]
    [InlineData(8960, 17920)]
    [InlineData(2000, 14600)]
    public void Start_InitialWindow_IsRfc6928(int mss, long expected)
    {
        foreach (ICongestionControl control in new ICongestionControl[] { new Cubic(), new NewReno() })
        {
            control.Start(mss);
            Assert.Equal(expected, control.Cwnd);
            Assert.Equal(LossBasedControl.Unlimited, control.Ssthresh);
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void SlowStart_DoublesEachRound_HoweverAcksAreCut(bool cubic)
    {
        ICongestionControl whole = Make(cubic), divided = Make(cubic);
        Instant now = default;
        for (int round = 0; round < 5; round++)
        {
            long before = whole.Cwnd;
            whole.OnAck(Sample(before, s_rtt, now, true));
            Assert.Equal(2 * before, whole.Cwnd);
            for (long i = 0; i < before; i += 73)
                divided.OnAck(Sample(Math.Min(73, before - i), s_rtt, now, true));
            Assert.Equal(whole.Cwnd, divided.Cwnd);
            now += s_rtt;
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void OnAck_NotCwndLimited_DoesNotGrow(bool cubic)
    {
        ICongestionControl control = Make(cubic);
        Instant now = Round(control, default, s_rtt, limited: false);
        Assert.Equal(14600, control.Cwnd);
        Lose(control, now);
        long before = control.Cwnd;
        Round(control, now, s_rtt, limited: false);
        Assert.Equal(before, control.Cwnd);
    }

    [Theory]
    [InlineData(false, 0.5)]
    [InlineData(true, 0.7)]
    public void OnCongestion_CutsTheThresholdOncePerEpisode(bool cubic, double beta)
    {
        ICongestionControl control = Make(cubic);
        control.SetCwnd(80 * Mss);
        control.OnCongestion(default);
        Assert.Equal((long)(80 * Mss * beta), control.Ssthresh);
        Assert.Equal(80 * Mss, control.Cwnd);
        control.SetCwnd(40 * Mss);
        control.OnCongestion(default);
        Assert.Equal((long)(80 * Mss * beta), control.Ssthresh);
        control.SetCwnd(3 * Mss);
        control.OnRecoveryExit(default);
        Assert.Equal(control.Ssthresh, control.Cwnd);
        control.SetCwnd(40 * Mss);
        control.OnCongestion(default);
        Assert.Equal((long)(40 * Mss * beta), control.Ssthresh);
    }

    [Theory]
    [InlineData(false, 0.5)]
    [InlineData(true, 0.7)]
    public void OnRto_OneSegmentAndSlowStartToTheThreshold(bool cubic, double beta)
    {
        ICongestionControl control = Make(cubic);
        control.SetCwnd(100 * Mss);
        control.OnRto(default);
        Assert.Equal(Mss, control.Cwnd);
        Assert.Equal((long)(100 * Mss * beta), control.Ssthresh);
        control.OnAck(Sample(Mss, s_rtt, default, true));
        Assert.Equal(2 * Mss, control.Cwnd);
        control.OnRecoveryExit(default);
        Assert.Equal(2 * Mss, control.Cwnd);
    }

    [Theory]
    [InlineData(false, 0.5)]
    [InlineData(true, 0.7)]
    public void OnRto_InFastRecovery_HoldsTheThresholdAndAfterAnotherRtoLowersIt(bool cubic, double beta)
    {
        ICongestionControl control = Make(cubic);
        control.SetCwnd(100 * Mss);
        control.OnCongestion(default);
        control.SetCwnd(60 * Mss);
        control.OnRto(default);
        Assert.Equal((long)(100 * Mss * beta), control.Ssthresh);
        control.OnAck(Sample(9 * Mss, s_rtt, default, true));
        control.OnRto(default);
        Assert.Equal((long)(10 * Mss * beta), control.Ssthresh);
        Assert.Equal(Mss, control.Cwnd);
        control.OnRecoveryExit(default);
        Assert.Equal(Mss, control.Cwnd);
        control.SetCwnd(40 * Mss);
        control.OnCongestion(default);
        Assert.Equal((long)(40 * Mss * beta), control.Ssthresh);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Undo_BringsBackWhatWasBefore(bool cubic)
    {
        foreach (bool timeout in new[] { false, true })
        {
            ICongestionControl control = Make(cubic);
            control.SetCwnd(60 * Mss);
            Instant now = Lose(control, default);
            now = Round(control, now, s_rtt);
            long cwnd = control.Cwnd, ssthresh = control.Ssthresh;
            if (timeout)
                control.OnRto(now);
            else
                control.OnCongestion(now);
            control.SetCwnd(Mss);
            control.Undo();
            Assert.Equal(cwnd, control.Cwnd);
            Assert.Equal(ssthresh, control.Ssthresh);
            control.Undo();
            Assert.Equal(cwnd, control.Cwnd);
            Round(control, now, s_rtt);
            Assert.InRange(control.Cwnd, cwnd, cwnd + 3 * Mss);
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void OnIdle_HalvesEachRtoDownToTheInitialWindow(bool cubic)
    {
        TimeSpan rto = TimeSpan.FromMilliseconds(250);
        ICongestionControl control = Make(cubic);
        control.SetCwnd(80 * Mss);
        control.OnIdle(rto + TimeSpan.FromTicks(1), rto, default);
        Assert.Equal(40 * Mss, control.Cwnd);
        control.OnIdle(TimeSpan.FromDays(30), rto, default);
        Assert.Equal(10 * Mss, control.Cwnd);
        control.SetCwnd(Mss);
        control.OnIdle(TimeSpan.FromDays(30), rto, default);
        Assert.Equal(Mss, control.Cwnd);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Control_RandomEvents_KeepsAtLeastOneMss(bool cubic)
    {
        var random = new Random(7);
        ICongestionControl control = Make(cubic);
        Instant now = default;
        int mss = Mss;
        for (int i = 0; i < 100_000; i++)
        {
            now += TimeSpan.FromMicroseconds(random.Next(100_000));
            long flight = random.NextInt64(control.Cwnd + 1);
            switch (random.Next(12))
            {
                case 0: control.OnCongestion(now); break;
                case 1: control.OnRto(now); break;
                case 2: control.OnRecoveryExit(now); break;
                case 3: control.Undo(); break;
                case 4: control.SetCwnd(random.NextInt64(control.Cwnd + 1)); break;
                case 5: control.OnIdle(TimeSpan.FromSeconds(random.Next(100)), s_rtt, now); break;
                case 6: control.OnMssChanged(mss = random.Next(48, 9000)); break;
                default: control.OnAck(Sample(flight, s_rtt, now, random.Next(2) == 0)); break;
            }
            Assert.True(control.Cwnd >= mss, $"{i}: {control.Cwnd} < {mss}");
            Assert.True(control.Ssthresh >= 2 * mss);
            Assert.True(control.Cwnd < 1L << 50);
        }
    }

    [Fact]
    public void NewReno_Avoidance_GrowsOneSegmentARound()
    {
        ICongestionControl control = Make(cubic: false);
        control.SetCwnd(100 * Mss);
        Instant now = Lose(control, default);
        for (int round = 1; round <= 20; round++)
        {
            now = Round(control, now, s_rtt);
            Assert.InRange(control.Cwnd, (50 + round - 1) * Mss, (50 + round) * Mss);
        }
    }

    /// <summary>On a long path the window follows W(t) = C (t - K)³ + Wmax.</summary>
    [Fact]
    public void Cubic_LongPath_FollowsTheFunction()
    {
        TimeSpan rtt = TimeSpan.FromMilliseconds(100);
        ICongestionControl control = Make(cubic: true);
        control.SetCwnd(1000 * Mss);
        Instant start = Lose(control, default);
        double k = Math.Cbrt(1000 * (1 - Cubic.Beta) / Cubic.C);
        Instant now = start;
        Instant first = Instant.Never;
        while (now - start < TimeSpan.FromSeconds(12))
        {
            now = Round(control, now, rtt);
            first = Instant.Min(first, now);
            double t = (now - start).TotalSeconds;
            double expected = Cubic.C * Math.Pow(t - k, 3) + 1000;
            Assert.Equal(expected, (double)control.Cwnd / Mss, expected * 0.03);
        }
        Assert.True(control.Cwnd > 1000 * Mss);
    }

    [Fact]
    public void Cubic_ShortPath_IsNotSlowerThanReno()
    {
        TimeSpan rtt = TimeSpan.FromMilliseconds(1);
        ICongestionControl control = Make(cubic: true);
        control.SetCwnd(40 * Mss);
        Instant now = Lose(control, default);
        for (int round = 1; round <= 60; round++)
        {
            now = Round(control, now, rtt);
            Assert.True(control.Cwnd >= (28 + 0.5 * round) * Mss, $"{round}: {control.Cwnd / Mss}");
        }
        Assert.True(control.Cwnd < 100 * Mss);
    }

    /// <summary>Two losses in a row without getting back: fast convergence leaves room.</summary>
    [Fact]
    public void Cubic_SecondLossBelowTheFirst_AimsLower()
    {
        ICongestionControl converging = Make(cubic: true);
        converging.SetCwnd(1000 * Mss);
        Instant now = Lose(converging, default);
        now = Round(converging, now, s_rtt);
        Lose(converging, now);
        long floor = converging.Cwnd;
        ICongestionControl fresh = Make(cubic: true);
        fresh.SetCwnd(floor * 10 / 7);
        Lose(fresh, now);
        for (int i = 0; i < 100; i++)
        {
            Round(converging, now, s_rtt);
            now = Round(fresh, now, s_rtt);
        }
        Assert.True(converging.Cwnd < fresh.Cwnd);
    }

    /// <summary>A minute in which the application sent little is no minute of growth.</summary>
    [Fact]
    public void Cubic_AfterUnusedTime_DoesNotLeap()
    {
        ICongestionControl control = Make(cubic: true);
        control.SetCwnd(100 * Mss);
        Instant now = Lose(control, default);
        now = Round(control, now, s_rtt);
        for (int i = 0; i < 1200; i++)
            now = Round(control, now, s_rtt, limited: false);
        long before = control.Cwnd;
        Round(control, now, s_rtt);
        Assert.InRange(control.Cwnd, before, before + 6 * Mss);
    }
}

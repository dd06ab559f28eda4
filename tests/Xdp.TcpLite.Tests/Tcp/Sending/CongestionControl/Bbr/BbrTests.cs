namespace Xdp.TcpLite.Tests;

/// <summary>The states of draft-ietf-ccwg-bbr, section 5.3, and what they do to the window and the rate.</summary>
public class BbrTests
{
    private const int Mss = BbrRig.Mss;
    private const long Rate = BbrRig.Rate;
    private const long Bdp = BbrRig.Bdp;

    private static long Paced(double gain, long rate = Rate) => (long)(gain * Bbr.PacingMargin * rate);

    // ---- Startup

    [Fact]
    public void Startup_BeforeAnySample_PacesTheInitialWindow()
    {
        var rig = new BbrRig();
        Assert.Equal(BbrState.Startup, rig.Control.State);
        Assert.Equal((10L * Mss, LossBasedControl.Unlimited), (rig.Control.Cwnd, rig.Control.Ssthresh));
        Assert.Equal(0, rig.Control.PacingRate(TimeSpan.Zero));
        Assert.Equal((long)(2.77 * 10 * Mss / 0.1), rig.Control.PacingRate(BbrRig.Rtt));
    }

    [Fact]
    public void Startup_EachRound_DoublesRateAndWindow()
    {
        var rig = new BbrRig();
        long cwnd = rig.Control.Cwnd;
        for (long rate = 100_000; rate <= 800_000; rate *= 2, cwnd *= 2)
        {
            rig.Ack(rate, acked: cwnd);
            Assert.Equal(2 * cwnd, rig.Control.Cwnd);
            Assert.Equal(Paced(2.77, rate), rig.Control.PacingRate(BbrRig.Rtt), 10_000.0);
        }
        Assert.Equal(BbrState.Startup, rig.Control.State);
    }

    /// <summary>Section 5.3.1.2: three rounds with less than a quarter more.</summary>
    [Theory]
    [InlineData(1.24, true)]
    [InlineData(1.26, false)]
    public void Startup_ThreeRoundsWithoutGrowth_IsOver(double growth, bool isOver)
    {
        var rig = new BbrRig();
        rig.Ack();
        rig.Ack((long)(Rate * growth));
        rig.Ack((long)(Rate * growth));
        Assert.Equal(BbrState.Startup, rig.Control.State);
        rig.Ack((long)(Rate * growth));
        Assert.Equal(isOver ? BbrState.Drain : BbrState.Startup, rig.Control.State);
        Assert.Equal(isOver, rig.Control.HasFilledPipe);
    }

    [Fact]
    public void Startup_AppLimited_IsNeverOver_AndLowersNothing()
    {
        var rig = new BbrRig();
        rig.Ack(appLimited: true);
        long cwnd = rig.Control.Cwnd, rate = rig.Control.PacingRate(BbrRig.Rtt);
        for (int i = 0; i < 30; i++)
            rig.Ack(Rate / 10, acked: Mss, inFlight: 0, appLimited: true);
        Assert.Equal(BbrState.Startup, rig.Control.State);
        Assert.True(rig.Control.Cwnd >= cwnd);
        Assert.Equal(rate, rig.Control.PacingRate(BbrRig.Rtt));
        Assert.Equal(Rate, rig.Control.Model.MaxBandwidth);
    }

    /// <summary>Section 5.3.1.3: recovery for a round, six gaps, and more than 2 % of what was in flight.</summary>
    [Theory]
    [InlineData(6, 5000, true, true)]
    [InlineData(5, 5000, true, false)]
    [InlineData(6, 4000, true, false)]
    [InlineData(6, 5000, false, false)]
    public void Startup_ManyLossesInARound_IsOver(int gaps, long lost, bool recovering, bool isOver)
    {
        var rig = new BbrRig();
        rig.Ack();
        rig.Lose(gaps);
        rig.Control.OnCongestion(rig.Now);
        rig.Ack(2 * Rate, atSend: 2 * Bdp, lost: lost, recovering: recovering);
        Assert.Equal(BbrState.Startup, rig.Control.State);
        rig.Ack(4 * Rate, acked: 3 * Bdp, inFlight: 9 * Bdp, atSend: 2 * Bdp, lost: lost, recovering: recovering);
        Assert.Equal(isOver ? BbrState.Drain : BbrState.Startup, rig.Control.State);
        // As much as was delivered in a round trip, or the product of what was known of rate and round trip before.
        Assert.Equal(isOver ? 3 * Bdp : BbrModel.Unlimited, rig.Control.Model.InflightLongterm);
    }

    [Fact]
    public void Startup_OneLossWithoutSack_IsOver()
    {
        var rig = new BbrRig();
        rig.Ack(sack: false);
        rig.Lose(1);
        rig.Control.OnCongestion(rig.Now);
        rig.Ack(2 * Rate, lost: Mss, recovering: true, sack: false);
        rig.Ack(4 * Rate, inFlight: 9 * Bdp, lost: Mss, recovering: true, sack: false);
        Assert.Equal(BbrState.Drain, rig.Control.State);
    }

    // ---- Drain

    [Fact]
    public void Drain_PacesAtHalf_UntilTheQueueIsEmpty()
    {
        BbrRig rig = new BbrRig().ToDrain();
        Assert.Equal(Paced(0.5), rig.Control.PacingRate(BbrRig.Rtt));
        rig.Ack(delivered: 2 * Bdp, inFlight: Bdp + 1);
        Assert.Equal(BbrState.Drain, rig.Control.State);
        // Then nothing is left for ProbeBW_DOWN to do.
        rig.Ack(delivered: 2 * Bdp, inFlight: Bdp);
        Assert.Equal(BbrState.Cruise, rig.Control.State);
    }

    [Fact]
    public void Drain_QueueThatStays_IsLeftAfterThreeRounds()
    {
        BbrRig rig = new BbrRig().ToDrain();
        for (int i = 0; i < 3; i++)
        {
            rig.Ack();
            Assert.Equal(BbrState.Drain, rig.Control.State);
        }
        rig.Ack();
        Assert.Equal(BbrState.Down, rig.Control.State);
    }

    // ---- ProbeBW

    [Fact]
    public void Down_UntilTheQueueIsEmpty_ThenCruisesAtTheRate()
    {
        BbrRig rig = new BbrRig().ToDown();
        rig.Ack(inFlight: Bdp + 1);
        Assert.Equal((BbrState.Down, Paced(0.9)), (rig.Control.State, rig.Control.PacingRate(BbrRig.Rtt)));
        rig.Ack(inFlight: Bdp);
        Assert.Equal(BbrState.Cruise, rig.Control.State);
        Assert.Equal(Paced(1), rig.Control.PacingRate(BbrRig.Rtt));
        // Twice what the path holds, and what comes at once.
        Assert.Equal(2 * Bdp + rig.Control.Model.Aggregation.Extra, rig.Control.Cwnd);
    }

    /// <summary>Section 5.3.3.5: two to three seconds, by chance.</summary>
    [Fact]
    public void Cruise_ProbesAfterTwoToThreeSeconds_NotAllAtOnce()
    {
        var waits = new HashSet<TimeSpan>();
        for (uint seed = 1; seed <= 20; seed++)
        {
            BbrRig rig = new BbrRig(seed * 7919).ToDown();
            Instant since = rig.Now;
            while (rig.Control.State != BbrState.Refill)
                rig.Ack(inFlight: Bdp);
            waits.Add(rig.Now - since);
            Assert.InRange(rig.Now - since, TimeSpan.FromSeconds(2), TimeSpan.FromSeconds(3.1));
        }
        Assert.True(waits.Count > 4, string.Join(", ", waits));
    }

    /// <summary>
    /// Section 5.3.3.5.1: as many rounds as segments, and no more than 63, so that Reno gets its share.
    /// </summary>
    [Theory]
    [InlineData(100_000, 62, 63)]
    [InlineData(20_000, 19, 20)]
    public void Cruise_ShortRoundTrips_ProbesAfterSomeRounds(long rate, int least, int most)
    {
        var rig = new BbrRig();
        TimeSpan rtt = TimeSpan.FromMilliseconds(1);
        long bdp = rate * 1000 / 1000;
        for (int i = 0; i < 4; i++)
            rig.Ack(rate * 1000, acked: bdp, inFlight: 0, rtt: rtt);
        Assert.Equal(BbrState.Cruise, rig.Control.State);
        int rounds = 0;
        for (; rig.Control.State != BbrState.Refill; rounds++)
            rig.Ack(rate * 1000, acked: bdp, inFlight: 0, rtt: rtt);
        Assert.InRange(rounds, least, most);
    }

    [Fact]
    public void Refill_ForgetsTheShortTerm_AndLastsARound()
    {
        BbrRig rig = new BbrRig().ToCruise();
        rig.Lose(1);
        rig.Ack(inFlight: Bdp);
        rig.Ack(inFlight: Bdp);
        Assert.NotEqual(BbrModel.Unlimited, rig.Control.Model.BandwidthShortterm);
        while (rig.Control.State == BbrState.Cruise)
            rig.Ack(inFlight: Bdp);
        Assert.Equal(BbrState.Refill, rig.Control.State);
        Assert.Equal(BbrModel.Unlimited, rig.Control.Model.BandwidthShortterm);
        Assert.Equal(BbrModel.Unlimited, rig.Control.Model.InflightShortterm);
        rig.Ack(delivered: 2 * Bdp);
        Assert.Equal(BbrState.Refill, rig.Control.State);
        rig.Ack();
        Assert.Equal(BbrState.Up, rig.Control.State);
        Assert.Equal(Paced(1.25), rig.Control.PacingRate(BbrRig.Rtt));
        Assert.Equal((long)(2.25 * Bdp) + rig.Control.Model.Aggregation.Extra + 2 * Mss, rig.Control.Cwnd, 100_000.0);
    }

    [Fact]
    public void Up_ThreeRoundsWithoutGrowth_IsOver()
    {
        BbrRig rig = new BbrRig().ToUp();
        rig.Ack();
        rig.Ack();
        Assert.Equal(BbrState.Up, rig.Control.State);
        rig.Ack();
        Assert.Equal(BbrState.Down, rig.Control.State);
        Assert.Equal(BbrModel.Unlimited, rig.Control.Model.InflightLongterm);
    }

    [Fact]
    public void Up_AppLimited_IsNeverOver()
    {
        BbrRig rig = new BbrRig().ToUp();
        for (int i = 0; i < 20; i++)
            rig.Ack(Rate / 2, inFlight: 0, appLimited: true, rtt: BbrRig.Rtt);
        Assert.Equal(BbrState.Up, rig.Control.State);
    }

    [Fact]
    public void Up_FindsMore_AndKeepsIt()
    {
        BbrRig rig = new BbrRig().ToUp();
        for (int i = 0; i < 8; i++)
            rig.Ack((long)(Rate * Math.Pow(1.25, i + 1)));
        Assert.Equal(BbrState.Up, rig.Control.State);
        Assert.Equal((long)(Rate * Math.Pow(1.25, 8)), rig.Control.Model.MaxBandwidth);
    }

    /// <summary>
    /// Section 5.5.10.2: the bound is what was in flight when 2 % of it were lost: of 200 segments the fourth loss is
    /// one too many.
    /// </summary>
    [Fact]
    public void Up_TooManyLosses_BoundsWhatIsInFlight()
    {
        BbrRig rig = new BbrRig().ToUp();
        rig.Ack(Rate * 2);
        rig.Lose(4);
        Assert.Equal(BbrState.Up, rig.Control.State);
        rig.Lose(1, lostBefore: 4 * Mss);
        Assert.Equal(BbrState.Down, rig.Control.State);
        double prefix = (0.02 * (2 * Bdp - Mss) - 4 * Mss) / 0.98;
        Assert.Equal((long)(2 * Bdp - Mss + prefix), rig.Control.Model.InflightLongterm);
        // A search is answered once.
        rig.Lose(1, atSend: Bdp, lostBefore: 9 * Mss);
        Assert.Equal((long)(2 * Bdp - Mss + prefix), rig.Control.Model.InflightLongterm);
    }

    /// <summary>Never below what a loss leaves to CUBIC.</summary>
    [Fact]
    public void Up_LossWithLittleInFlight_BoundsAtSevenTenths()
    {
        BbrRig rig = new BbrRig().ToUp();
        rig.Lose(1, atSend: 10 * Mss);
        Assert.Equal((long)(0.7 * Bdp), rig.Control.Model.InflightLongterm);
    }

    [Fact]
    public void Up_TooManyLossesWhenAppLimited_BoundsNothing()
    {
        BbrRig rig = new BbrRig().ToUp();
        rig.Lose(5, appLimited: true);
        Assert.Equal((BbrState.Down, BbrModel.Unlimited), (rig.Control.State, rig.Control.Model.InflightLongterm));
    }

    [Fact]
    public void Bound_LeavesHeadroomInCruise()
    {
        BbrRig rig = new BbrRig().ToUp();
        rig.Lose(5);
        long bound = rig.Control.Model.InflightLongterm;
        rig.Ack(inFlight: 0, atSend: Bdp);
        Assert.Equal(BbrState.Cruise, rig.Control.State);
        Assert.Equal(bound - (long)(0.15 * bound), rig.Control.Cwnd);
    }

    /// <summary>
    /// Section 5.3.3.4.2: after too much, the next search stops at the bound; if that did no harm, the one after it
    /// follows at once, and goes on at the bound: one segment more in the first round trip, two in the second, then
    /// four.
    /// </summary>
    [Fact]
    public void Bound_IsTriedWithCaution_ThenRaisedFasterAndFaster()
    {
        BbrRig rig = new BbrRig().ToUp();
        rig.Lose(5);
        long bound = rig.Control.Model.InflightLongterm;
        while (rig.Control.State != BbrState.Up)
            rig.Ack(inFlight: 0, atSend: Bdp);
        rig.Ack(inFlight: bound - 1, atSend: Bdp);
        Assert.Equal(BbrState.Up, rig.Control.State);
        rig.Ack(inFlight: bound, atSend: Bdp);
        Assert.Equal(BbrState.Down, rig.Control.State);
        rig.Ack(inFlight: 0, atSend: Bdp);
        Assert.Equal(BbrState.Refill, rig.Control.State);
        rig.Ack(inFlight: Bdp, atSend: Bdp);
        Assert.Equal(BbrState.Up, rig.Control.State);
        rig.Control.SetCwnd(bound);
        var raised = new List<long>();
        for (int i = 0; i < 3; i++)
        {
            long before = rig.Control.Model.InflightLongterm;
            rig.Control.SetCwnd(before);
            rig.Ack(acked: before, inFlight: Bdp, atSend: Bdp, cwndFull: true);
            raised.Add((rig.Control.Model.InflightLongterm - before) / Mss);
        }
        Assert.Equal([1, 2, 4], raised);
    }

    /// <summary>Section 5.5.10.3.</summary>
    [Fact]
    public void Cruise_RoundWithLoss_ComesDownToWhatWasDelivered_ButNotBelowSevenTenths()
    {
        BbrRig rig = new BbrRig().ToCruise();
        long cwnd = rig.Control.Cwnd;
        rig.Lose(1);
        rig.Ack(Rate * 9 / 10, acked: 90_000, inFlight: Bdp);
        Assert.Equal(BbrModel.Unlimited, rig.Control.Model.BandwidthShortterm);
        rig.Ack(Rate * 9 / 10, acked: 90_000, inFlight: Bdp);
        // The best of the round, which began before the loss.
        Assert.Equal(Rate, rig.Control.Model.BandwidthShortterm);
        rig.Lose(1);
        rig.Ack(Rate / 2, acked: 50_000, inFlight: Bdp);
        rig.Ack(Rate / 2, acked: 50_000, inFlight: Bdp);
        Assert.Equal(Rate * 9 / 10, rig.Control.Model.BandwidthShortterm);
        Assert.Equal(rig.Control.Model.BandwidthShortterm, rig.Control.Model.Bandwidth);
        rig.Lose(1);
        rig.Ack(Rate / 2, acked: 50_000, inFlight: Bdp);
        rig.Ack(Rate / 2, acked: 50_000, inFlight: Bdp);
        Assert.Equal((long)(0.7 * (Rate * 9 / 10)), rig.Control.Model.BandwidthShortterm);
        Assert.True(rig.Control.Cwnd < cwnd);
        Assert.Equal(Rate, rig.Control.Model.MaxBandwidth);
    }

    [Fact]
    public void Startup_Losses_DoNotTouchTheShortTerm()
    {
        var rig = new BbrRig();
        for (int i = 0; i < 3; i++)
        {
            rig.Lose(1);
            rig.Ack(Rate << i);
        }
        Assert.Equal(BbrModel.Unlimited, rig.Control.Model.BandwidthShortterm);
    }

    // ---- ProbeRTT

    /// <summary>
    /// Section 5.3.4: five seconds without as short a round trip; half the product for 200 ms and a round.
    /// </summary>
    [Fact]
    public void ProbeRtt_AfterFiveSeconds_HalvesWhatIsInFlightFor200Milliseconds()
    {
        BbrRig rig = new BbrRig().ToProbeRtt();
        TimeSpan elapsed = rig.Now - new Instant(TimeSpan.TicksPerHour);
        Assert.InRange(elapsed, TimeSpan.FromSeconds(5), TimeSpan.FromSeconds(5.2));
        Assert.Equal((Bdp / 2, Paced(1)), (rig.Control.Cwnd, rig.Control.PacingRate(BbrRig.Rtt)));
        Assert.True(rig.Control.HoldsBack);
        rig.Ack(inFlight: Bdp / 2 + 1);
        rig.Ack(Rate / 2, inFlight: Bdp / 2, appLimited: true);
        Instant low = rig.Now;
        while (rig.Control.State == BbrState.ProbeRtt)
            rig.Ack(Rate / 2, acked: Bdp / 2, inFlight: Bdp / 2, appLimited: true);
        Assert.InRange(rig.Now - low, TimeSpan.FromMilliseconds(200), TimeSpan.FromMilliseconds(300));
        Assert.Equal(BbrState.Cruise, rig.Control.State);
        Assert.False(rig.Control.HoldsBack);
        Assert.True(rig.Control.Cwnd >= 2 * Bdp);
        Assert.Equal(Rate, rig.Control.Model.MaxBandwidth);
    }

    [Fact]
    public void ProbeRtt_InStartup_ReturnsToStartup()
    {
        var rig = new BbrRig();
        rig.Ack();
        while (rig.Control.State == BbrState.Startup)
            rig.Ack(appLimited: true);
        Assert.Equal(BbrState.ProbeRtt, rig.Control.State);
        while (rig.Control.State == BbrState.ProbeRtt)
            rig.Ack(acked: Bdp / 2, inFlight: 0, appLimited: true);
        Assert.Equal(BbrState.Startup, rig.Control.State);
    }

    /// <summary>Section 5.4.1: a pause has drained the queue as well.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void ProbeRtt_AfterAPause_IsNotNeeded(bool pauses)
    {
        BbrRig rig = new BbrRig().ToCruise();
        rig.Advance(TimeSpan.FromSeconds(6));
        if (pauses)
            rig.Control.OnFirstSent(rig.Now);
        rig.Ack(inFlight: Bdp);
        Assert.Equal(pauses ? BbrState.Refill : BbrState.ProbeRtt, rig.Control.State);
    }

    [Fact]
    public void ProbeRtt_OverInAPause_IsLeftBeforeAnythingIsSent()
    {
        BbrRig rig = new BbrRig().ToProbeRtt();
        rig.Ack(inFlight: 0);
        Assert.Equal(BbrState.ProbeRtt, rig.Control.State);
        rig.Advance(TimeSpan.FromSeconds(1));
        rig.Control.OnFirstSent(rig.Now);
        Assert.Equal(BbrState.Cruise, rig.Control.State);
    }

    [Fact]
    public void Restart_InProbeBw_PacesAtTheRate()
    {
        BbrRig rig = new BbrRig().ToUp();
        rig.Advance(TimeSpan.FromSeconds(1));
        long cwnd = rig.Control.Cwnd;
        rig.Control.OnIdle(TimeSpan.FromSeconds(1), TimeSpan.FromMilliseconds(300), rig.Now);
        rig.Control.OnFirstSent(rig.Now);
        Assert.Equal((cwnd, Paced(1)), (rig.Control.Cwnd, rig.Control.PacingRate(BbrRig.Rtt)));
    }

    // ---- recovery

    [Fact]
    public void Recovery_LeavesTheWindow()
    {
        BbrRig rig = new BbrRig().ToCruise();
        Assert.True(rig.Control.SetsWindowInRecovery);
        long cwnd = rig.Control.Cwnd;
        rig.Lose(1);
        rig.Control.OnCongestion(rig.Now);
        Assert.Equal(cwnd, rig.Control.Cwnd);
    }

    [Fact]
    public void Rto_StartsAtOneSegment_AndReturnsToTheWindow()
    {
        BbrRig rig = new BbrRig().ToCruise();
        long cwnd = rig.Control.Cwnd;
        rig.Control.OnRto(rig.Now);
        Assert.Equal(Mss, rig.Control.Cwnd);
        rig.Ack(acked: Mss, inFlight: 0, appLimited: true);
        Assert.Equal(4 * Mss, rig.Control.Cwnd);
        rig.Ack(acked: 2 * Mss, inFlight: 0, appLimited: true);
        Assert.Equal(6 * Mss, rig.Control.Cwnd);
        rig.Control.OnRecoveryExit(rig.Now);
        Assert.Equal(cwnd, rig.Control.Cwnd);
        rig.Control.OnRto(rig.Now);
        rig.Control.Undo();
        Assert.Equal(cwnd, rig.Control.Cwnd);
    }

    [Fact]
    public void Undo_OfARecovery_RestoresWindowAndShortTerm()
    {
        BbrRig rig = new BbrRig().ToCruise();
        long cwnd = rig.Control.Cwnd;
        rig.Lose(3);
        rig.Control.OnCongestion(rig.Now);
        rig.Ack(Rate / 2, acked: Bdp / 2, inFlight: Bdp / 2, recovering: true);
        rig.Ack(Rate / 2, acked: Bdp / 2, inFlight: Bdp / 2, recovering: true);
        Assert.True(rig.Control.Cwnd < cwnd);
        Assert.NotEqual(BbrModel.Unlimited, rig.Control.Model.BandwidthShortterm);
        rig.Control.Undo();
        Assert.Equal(cwnd, rig.Control.Cwnd);
        Assert.Equal(BbrModel.Unlimited, rig.Control.Model.BandwidthShortterm);
        Assert.Equal(BbrModel.Unlimited, rig.Control.Model.InflightShortterm);
        rig.Control.SetCwnd(Mss);
        rig.Control.Undo();
        Assert.Equal(Mss, rig.Control.Cwnd);
    }

    /// <summary>Section 5.5.11.2: losses that were none have ended a search: it goes on.</summary>
    [Fact]
    public void Undo_OfASearchThatEnded_SearchesAgain()
    {
        BbrRig rig = new BbrRig().ToUp();
        rig.Lose(5);
        rig.Control.OnCongestion(rig.Now);
        Assert.Equal(BbrState.Down, rig.Control.State);
        rig.Control.Undo();
        Assert.Equal((BbrState.Refill, BbrModel.Unlimited), (rig.Control.State, rig.Control.Model.InflightLongterm));
    }

    [Fact]
    public void Undo_OfAStartupThatEnded_StartsAgain()
    {
        var rig = new BbrRig();
        rig.Ack();
        rig.Lose(6);
        rig.Control.OnCongestion(rig.Now);
        rig.Ack(2 * Rate, lost: 6 * Mss, recovering: true);
        rig.Ack(4 * Rate, inFlight: 9 * Bdp, atSend: 2 * Bdp, lost: 6 * Mss, recovering: true);
        Assert.Equal(BbrState.Drain, rig.Control.State);
        rig.Control.Undo();
        Assert.Equal((BbrState.Startup, false), (rig.Control.State, rig.Control.HasFilledPipe));
        Assert.Equal(BbrModel.Unlimited, rig.Control.Model.InflightLongterm);
    }

    [Fact]
    public void Undo_AfterAPause_IsNone()
    {
        BbrRig rig = new BbrRig().ToCruise();
        rig.Control.OnRto(rig.Now);
        rig.Control.OnIdle(TimeSpan.FromSeconds(1), TimeSpan.FromMilliseconds(300), rig.Now);
        rig.Control.Undo();
        Assert.Equal(Mss, rig.Control.Cwnd);
    }

    // ---- bounds

    /// <summary>
    /// Section 5.6.4.3: with less than a segment on the path, four keep delayed ACKs from stalling it.
    /// </summary>
    [Fact]
    public void Cwnd_TinyProduct_IsWhatTheHostsNeed()
    {
        var rig = new BbrRig();
        for (int i = 0; i < 5; i++)
            rig.Ack(5000, acked: Mss, inFlight: Mss);
        Assert.Equal(BbrState.Cruise, rig.Control.State);
        Assert.Equal(Paced(1, 5000), rig.Control.PacingRate(BbrRig.Rtt));
        // Three quanta of two segments, and no less.
        Assert.Equal(6 * Mss, rig.Control.Cwnd);
    }

    [Fact]
    public void OnMssChanged_IsAtLeastOneSegment()
    {
        var rig = new BbrRig();
        rig.Control.SetCwnd(0);
        Assert.Equal(Mss, rig.Control.Cwnd);
        rig.Control.OnMssChanged(9000);
        Assert.Equal(9000, rig.Control.Cwnd);
    }

    [Fact]
    public void OnAck_AllocatesNothing()
    {
        BbrRig rig = new BbrRig().ToUp();
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++)
        {
            rig.Lose(1);
            rig.Ack(inFlight: i % 200 * Mss, recovering: i % 7 == 0);
        }
        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
    }
}

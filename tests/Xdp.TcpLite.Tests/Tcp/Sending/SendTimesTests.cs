namespace Xdp.TcpLite.Tests;

public class SendTimesTests
{
    private const int Mss = SenderRig.Mss;

    private static readonly Instant s_start = new(TimeSpan.TicksPerHour);

    private static Instant At(double milliseconds) => s_start + TimeSpan.FromMilliseconds(milliseconds);

    private static TimeSpan Span(double milliseconds) => TimeSpan.FromMilliseconds(milliseconds);

    [Fact]
    public void Clock_LimitsChange_EachGetsItsShare()
    {
        SendTimes times = default;
        SendClock clock = default;
        clock.Start(At(0));
        clock.OnStopped(SendLimit.PeerWindow, ref times, At(10));
        clock.OnStopped(SendLimit.PeerWindow, ref times, At(25));
        clock.OnStopped(SendLimit.SendBuffer, ref times, At(30));
        clock.OnStopped(SendLimit.None, ref times, At(37));
        clock.OnStopped(SendLimit.PeerWindow, ref times, At(50));
        clock.Stop(ref times, At(53));
        clock.Stop(ref times, At(1000));
        Assert.Equal((Span(53), Span(23), Span(7)), (times.Busy, times.PeerWindow, times.SendBuffer));
    }

    [Fact]
    public void Clock_StartedTwice_CountsFromTheFirst()
    {
        SendTimes times = default;
        SendClock clock = default;
        clock.Start(At(0));
        clock.Start(At(10));
        clock.Stop(ref times, At(20));
        clock.Start(At(100));
        clock.Stop(ref times, At(101));
        Assert.Equal(Span(21), times.Busy);
    }

    /// <summary>Flights of less than a millisecond: together they come to what they took.</summary>
    [Fact]
    public void Clock_ManyShortFlights_AddUp()
    {
        SendTimes times = default;
        for (int i = 0; i < 1000; i++)
        {
            SendClock clock = default;
            clock.Start(At(i * 1.37));
            clock.Stop(ref times, At(i * 1.37 + 0.25));
        }
        Assert.InRange(times.Busy, Span(230), Span(270));
    }

    /// <summary>A probe that is not answered keeps the flight, but there is nothing to wait for any more.</summary>
    [Fact]
    public void TimesAt_AllIsAcknowledgedAndAProbeIsOut_IsNotBusy()
    {
        var rig = new SenderRig();
        Instant start = rig.Now;
        rig.Write(3 * Mss);
        rig.SendAll();
        rig.TakeDeadline();
        Assert.Equal([-Mss], rig.SendAll());
        rig.Ack(3 * Mss);
        TimeSpan busy = rig.Now - start;
        Assert.NotNull(rig.Sender.Flight);
        rig.Advance(TimeSpan.FromHours(1));
        Assert.Equal(busy, rig.Sender.TimesAt(rig.Now).Busy);
        rig.Write(Mss);
        rig.SendAll();
        rig.Advance(Span(5));
        Assert.Equal(busy + Span(5), rig.Sender.TimesAt(rig.Now).Busy);
    }

    [Fact]
    public void TimesAt_TheConnectionEnds_KeepsWhatThereWas()
    {
        var rig = new SenderRig(window: 1000);
        rig.Write(3 * Mss);
        rig.SendAll();
        rig.Advance(Span(40));
        rig.Sender.ReturnFlight(rig.Environment);
        rig.Advance(Span(40));
        SendTimes times = rig.Sender.TimesAt(rig.Now);
        Assert.Equal((Span(40), Span(40)), (times.Busy, times.PeerWindow));
    }

    /// <summary>The congestion window, Nagle and cork are none of these limits.</summary>
    [Theory]
    [InlineData(true, false, 20_000)]
    [InlineData(false, false, 1500)]
    [InlineData(true, true, 500)]
    public void TimesAt_OtherLimits_AreBusyOnly(bool noDelay, bool cork, int bytes)
    {
        var rig = new SenderRig();
        rig.Sender.NoDelay = noDelay;
        rig.Sender.Cork = cork;
        rig.Write(bytes);
        rig.SendAll();
        Assert.NotEqual(0, rig.Sender.UnsentBytes);
        rig.Advance(Span(30));
        SendTimes times = rig.Sender.TimesAt(rig.Now);
        Assert.Equal((Span(30), Span(0), Span(0)), (times.Busy, times.PeerWindow, times.SendBuffer));
    }
}

namespace Xdp.TcpLite.Tests;

public class DeliveryRateTests
{
    private const int Mss = 1000;

    private static readonly TimeSpan s_rtt = TimeSpan.FromMilliseconds(100);

    private DeliveryRate _rate;

    private SentSegment Send(Instant now, bool first = false)
    {
        var segment = new SentSegment { Length = Mss, SentAt = now };
        _rate.OnSent(ref segment, first, inFlight: Mss, lost: 0);
        return segment;
    }

    private void Deliver(Instant now, params ReadOnlySpan<SentSegment> segments)
    {
        foreach (ref readonly SentSegment segment in segments)
            _rate.OnDelivered(segment, Mss, now);
        _rate.OnAckEnd(s_rtt, lost: 0, out _);
    }

    /// <summary>
    /// Ten segments in 10 ms, and their ACKs 10 ms apart: the slower of both is what the path delivers.
    /// </summary>
    [Theory]
    [InlineData(TimeSpan.TicksPerHour)]
    [InlineData(0xffff_ffffL - TimeSpan.TicksPerMillisecond)] // the lower half wraps
    public void BytesPerSecond_Steady_IsTheBottleneck(long startTicks)
    {
        var start = new Instant(startTicks);
        TimeSpan gap = TimeSpan.FromMilliseconds(10);
        var segments = new Queue<SentSegment>();
        for (int i = 0; i < 10; i++)
            segments.Enqueue(Send(start + i * gap / 10, first: i == 0));
        Instant now = start + s_rtt;
        for (int i = 0; i < 50; i++, now += gap)
        {
            Deliver(now, segments.Dequeue());
            segments.Enqueue(Send(now));
        }
        Assert.Equal(100_000, _rate.BytesPerSecond, 1000.0);
        Assert.False(_rate.IsAppLimited);
    }

    /// <summary>ACKs that a middlebox held back come in a burst, which is no faster path.</summary>
    [Fact]
    public void BytesPerSecond_BurstOfAcks_IsNoFaster()
    {
        var start = new Instant(TimeSpan.TicksPerHour);
        SentSegment a = Send(start, first: true), b = Send(start + s_rtt / 2), c = Send(start + s_rtt);
        Instant now = start + 2 * s_rtt;
        Deliver(now, a);
        Deliver(now + TimeSpan.FromTicks(10), b);
        Deliver(now + TimeSpan.FromTicks(20), c);
        Assert.InRange(_rate.BytesPerSecond, 14_000, 15_000);
    }

    [Fact]
    public void OnAckEnd_SpanShorterThanARoundTrip_IsNoMeasure()
    {
        var start = new Instant(TimeSpan.TicksPerHour);
        SentSegment segment = Send(start, first: true);
        Deliver(start + s_rtt / 2, segment);
        Assert.Equal(0, _rate.BytesPerSecond);
        _rate.OnAckEnd(default, lost: 0, out _);
        Assert.Equal(0, _rate.BytesPerSecond);
    }

    /// <summary>
    /// What was sent while the application had no more is marked, until all that was in flight is delivered.
    /// </summary>
    [Fact]
    public void IsAppLimited_UntilWhatWasInFlightIsDelivered()
    {
        var start = new Instant(TimeSpan.TicksPerHour);
        SentSegment a = Send(start, first: true);
        _rate.OnAppLimited(inFlight: Mss);
        SentSegment b = Send(start + s_rtt / 2);
        Deliver(start + s_rtt, a);
        Assert.False(_rate.IsAppLimited);
        Deliver(start + 1.5 * s_rtt, b);
        Assert.True(_rate.IsAppLimited);
        SentSegment c = Send(start + 2 * s_rtt);
        Assert.False(c.Has(SentFlags.AppLimited));
        Deliver(start + 3 * s_rtt, c);
        Assert.False(_rate.IsAppLimited);
    }
}

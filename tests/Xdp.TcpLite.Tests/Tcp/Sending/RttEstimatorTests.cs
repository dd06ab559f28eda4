namespace Xdp.TcpLite.Tests;

public class RttEstimatorTests
{
    private static readonly TcpStackOptions s_options = new();

    private static TimeSpan Ms(double ms) => TimeSpan.FromMilliseconds(ms);

    [Fact]
    public void Rto_WithoutSample_IsTheInitialOneDoubled()
    {
        var rtt = new RttEstimator();
        Assert.False(rtt.HasSample);
        Assert.Equal(Ms(1000), rtt.Rto(s_options, 0));
        Assert.Equal(Ms(4000), rtt.Rto(s_options, 2));
        Assert.Equal(s_options.MaxRto, rtt.Rto(s_options, 7));
        Assert.Equal(s_options.MaxRto, rtt.Rto(s_options, 1000));
    }

    [Fact]
    public void Sample_First_SetsBoth()
    {
        var rtt = new RttEstimator();
        rtt.Sample(Ms(100), default);
        Assert.True(rtt.HasSample);
        Assert.Equal(Ms(100), rtt.Srtt);
        Assert.Equal(Ms(50), rtt.RttVar);
        Assert.Equal(Ms(100), rtt.MinRtt);
        Assert.Equal(Ms(300), rtt.Rto(s_options, 0));
        Assert.Equal(Ms(600), rtt.Rto(s_options, 1));
    }

    [Fact]
    public void Sample_Random_FollowsRfc6298()
    {
        var random = new Random(4);
        var rtt = new RttEstimator();
        double srtt = 80, rttVar = 40;
        rtt.Sample(Ms(80), default);
        for (int i = 1; i < 1000; i++)
        {
            double sample = 20 + random.NextDouble() * 300;
            rtt.Sample(Ms(sample), new Instant(i * TimeSpan.TicksPerSecond));
            rttVar = 0.75 * rttVar + 0.25 * Math.Abs(srtt - sample);
            srtt = 0.875 * srtt + 0.125 * sample;
            Assert.Equal(srtt, rtt.Srtt.TotalMilliseconds, 0.05);
            Assert.Equal(rttVar, rtt.RttVar.TotalMilliseconds, 0.05);
            Assert.Equal(srtt + Math.Max(200, 4 * rttVar), rtt.Rto(s_options, 0).TotalMilliseconds, 0.3);
        }
    }

    /// <summary>
    /// RFC 7323, appendix G: RTTVAR follows a change at the same pace, however many ACKs come in a round trip.
    /// </summary>
    [Theory]
    [InlineData(1)]
    [InlineData(10)]
    [InlineData(500)]
    public void RttVar_ManySamplesARoundTrip_ForgetsNoFaster(int perRoundTrip)
    {
        var rtt = new RttEstimator();
        rtt.Sample(Ms(800), default);
        for (int i = 0; i < 3 * perRoundTrip; i++)
            rtt.Sample(rtt.Srtt, new Instant(i), perRoundTrip);
        Assert.InRange(rtt.RttVar.TotalMilliseconds, 400 * 0.42, 400 * 0.48);
    }

    [Fact]
    public void Rto_SteadyPath_KeepsTheMinimumOnTopOfTheRoundTrip()
    {
        var rtt = new RttEstimator();
        for (int i = 0; i < 200; i++)
            rtt.Sample(Ms(30), new Instant(i));
        Assert.Equal(230, rtt.Rto(s_options, 0).TotalMilliseconds, 0.1);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-5)]
    public void Sample_NotPositive_CountsAsAMicrosecond(double ms)
    {
        var rtt = new RttEstimator();
        rtt.Sample(Ms(ms), default);
        Assert.True(rtt.HasSample);
        Assert.Equal(TimeSpan.FromMicroseconds(1), rtt.Srtt);
        Assert.True(rtt.Rto(s_options, 0) >= s_options.MinRto);
    }

    [Fact]
    public void MinRtt_Random_LiesBetweenTheWindowsMinimumAndTheLastSample()
    {
        var random = new Random(6);
        var rtt = new RttEstimator();
        var samples = new List<(Instant At, TimeSpan Rtt)>();
        Instant now = default;
        for (int i = 0; i < 1000; i++)
        {
            now += TimeSpan.FromSeconds(random.NextDouble() * 10);
            TimeSpan sample = Ms(10 + random.NextDouble() * 100);
            samples.Add((now, sample));
            rtt.Sample(sample, now);
            TimeSpan all = samples.Where(s => now - s.At <= TimeSpan.FromMinutes(5)).Min(s => s.Rtt);
            Assert.InRange(rtt.MinRtt, all, sample);
        }
    }

    [Fact]
    public void MinRtt_PathGetsLonger_IsSeenAfterFiveMinutes()
    {
        var rtt = new RttEstimator();
        rtt.Sample(Ms(10), default);
        Instant now = default;
        for (int s = 1; s <= 299; s++)
            rtt.Sample(Ms(50), now = new Instant(s * TimeSpan.TicksPerSecond));
        Assert.Equal(Ms(10), rtt.MinRtt);
        rtt.Sample(Ms(51), now + TimeSpan.FromSeconds(3));
        Assert.Equal(Ms(50), rtt.MinRtt);
    }
}

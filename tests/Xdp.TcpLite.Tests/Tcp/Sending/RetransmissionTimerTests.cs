namespace Xdp.TcpLite.Tests;

public class RetransmissionTimerTests
{
    private static readonly TimeSpan s_rto = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan s_userTimeout = TimeSpan.FromMinutes(15);
    private static readonly Instant s_start = new(TimeSpan.TicksPerHour);

    /// <summary>RFC 6298, section 5.2 and 5.3: what is sent later does not put the timer off; an ACK does.</summary>
    [Fact]
    public void Arm_CountsFromTheLastRestart()
    {
        var timer = new RetransmissionTimer();
        Assert.Equal(Instant.Never, timer.Deadline);
        timer.OnFirstSent(s_start);
        timer.Restart(s_start);
        timer.Arm(s_rto, s_userTimeout, s_start);
        timer.Arm(s_rto, s_userTimeout, s_start + s_rto / 2);
        Assert.Equal(s_start + s_rto, timer.Deadline);
        timer.OnProgress(s_start + s_rto / 2);
        timer.Restart(s_start + s_rto / 2);
        timer.Arm(s_rto, s_userTimeout, s_start + s_rto / 2);
        Assert.Equal(s_start + 1.5 * s_rto, timer.Deadline);
        timer.Disarm();
        Assert.Equal(Instant.Never, timer.Deadline);
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(16, 16)]
    [InlineData(1000, 16)]
    public void OnTimeout_Repeated_BacksOffUpToABoundUntilProgress(int timeouts, int backoff)
    {
        var timer = new RetransmissionTimer();
        timer.OnFirstSent(s_start);
        for (int i = 0; i < timeouts; i++)
            timer.OnTimeout(s_start + i * s_rto);
        Assert.Equal((backoff, s_start), (timer.Backoff, timer.FirstUnackedAt));
        Instant now = s_start + timeouts * s_rto;
        timer.Arm(s_rto, s_userTimeout, now);
        Instant lastAt = s_start + (timeouts - 1) * s_rto;
        Assert.Equal(Instant.Max(now, Instant.Min(lastAt + s_rto, s_start + s_userTimeout)), timer.Deadline);
        timer.OnProgress(now);
        Assert.Equal((0, now), (timer.Backoff, timer.FirstUnackedAt));
    }

    /// <summary>
    /// RFC 9293, section 3.8.6.1: while a shut window is all that the peer has to say, patience begins with each probe
    /// that it has not answered yet.
    /// </summary>
    [Fact]
    public void OnShutWindow_PatienceBeginsWithTheNextProbe()
    {
        var timer = new RetransmissionTimer();
        timer.OnFirstSent(s_start);
        timer.OnTimeout(s_start);
        timer.OnShutWindow();
        timer.Arm(20 * s_userTimeout, s_userTimeout, s_start);
        Instant probe = s_start + 20 * s_userTimeout;
        Assert.Equal((Instant.Never, probe), (timer.FirstUnackedAt, timer.Deadline));
        timer.OnTimeout(probe);
        timer.Arm(20 * s_userTimeout, s_userTimeout, probe);
        Assert.Equal((probe, probe + s_userTimeout), (timer.FirstUnackedAt, timer.Deadline));
        timer.OnTimeout(timer.Deadline);
        Assert.Equal(probe, timer.FirstUnackedAt);
    }

    /// <summary>RFC 5482: no deadline lies behind the end of the user timeout, and none in the past.</summary>
    [Theory]
    [InlineData(10, 3, 0, 3)]
    [InlineData(10, 10, 0, 10)]
    [InlineData(10, 12, 0, 10)]
    [InlineData(10, 30, 9, 10)]
    [InlineData(10, 30, 20, 20)]
    public void Within_IsTheEarlierOfBothAndNotThePast(int userTimeout, int deadline, int now, int expected)
    {
        Instant actual = Patience.Within(
            TimeSpan.FromSeconds(userTimeout), s_start + TimeSpan.FromSeconds(deadline), s_start,
            s_start + TimeSpan.FromSeconds(now));
        Assert.Equal(TimeSpan.FromSeconds(expected), actual - s_start);
    }
}

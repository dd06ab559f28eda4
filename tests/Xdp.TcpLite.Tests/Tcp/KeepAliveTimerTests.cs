namespace Xdp.TcpLite.Tests;

public class KeepAliveTimerTests
{
    private static readonly TimeSpan s_idle = TimeSpan.FromMinutes(1);
    private static readonly TimeSpan s_interval = TimeSpan.FromSeconds(75);
    private static readonly TcpStackOptions s_options = new() { KeepAlive = s_idle };
    private static readonly Instant s_start = new(TimeSpan.TicksPerHour);

    private static KeepAliveTimer Create() => KeepAliveTimer.Restart(null, s_idle, s_start)!;

    /// <summary>RFC 9293, section 3.8.4: one probe that is not answered does not end a connection.</summary>
    [Fact]
    public void OnTimeout_NoAnswer_NineProbesThenDead()
    {
        KeepAliveTimer timer = Create();
        Assert.Equal(s_start + s_idle, timer.Deadline);
        for (int probe = 0; probe < 9; probe++)
        {
            Assert.Equal(s_start + s_idle + probe * s_interval, timer.Deadline);
            Assert.Equal(KeepAliveTimer.Verdict.Probe, timer.OnTimeout(s_options, timer.Deadline));
        }
        Assert.Equal(KeepAliveTimer.Verdict.Dead, timer.OnTimeout(s_options, timer.Deadline));
        Assert.Equal(Instant.Never, timer.Deadline);
    }

    [Fact]
    public void OnTimeout_IntervalAndCountAreTheOptions()
    {
        TcpStackOptions options = s_options with { KeepAliveInterval = TimeSpan.FromSeconds(5), KeepAliveCount = 2 };
        KeepAliveTimer timer = Create();
        for (int probe = 0; probe < 2; probe++)
        {
            Assert.Equal(s_start + s_idle + probe * TimeSpan.FromSeconds(5), timer.Deadline);
            Assert.Equal(KeepAliveTimer.Verdict.Probe, timer.OnTimeout(options, timer.Deadline));
        }
        Assert.Equal(KeepAliveTimer.Verdict.Dead, timer.OnTimeout(options, timer.Deadline));
    }

    [Fact]
    public void OnTimeout_HeardMeanwhile_WaitsForTheRestOfTheIdleTime()
    {
        KeepAliveTimer timer = Create();
        Instant heard = s_start + s_idle / 2;
        timer.Heard(heard);
        Assert.Equal(KeepAliveTimer.Verdict.Alive, timer.OnTimeout(s_options, timer.Deadline));
        Assert.Equal(heard + s_idle, timer.Deadline);
        Assert.Equal(KeepAliveTimer.Verdict.Probe, timer.OnTimeout(s_options, timer.Deadline));
    }

    [Fact]
    public void Heard_BetweenProbes_CountsThemAfresh()
    {
        KeepAliveTimer timer = Create();
        for (int i = 0; i < 8; i++)
            timer.OnTimeout(s_options, timer.Deadline);
        timer.Heard(timer.Deadline - TimeSpan.FromTicks(1));
        Assert.Equal(KeepAliveTimer.Verdict.Alive, timer.OnTimeout(s_options, timer.Deadline));
        for (int i = 0; i < 9; i++)
            Assert.Equal(KeepAliveTimer.Verdict.Probe, timer.OnTimeout(s_options, timer.Deadline));
    }

    [Fact]
    public void Restart_KeepsTheTimerAndWhatItHeard_OrDropsIt()
    {
        KeepAliveTimer timer = Create();
        Instant later = s_start + s_idle / 2;
        Assert.Same(timer, KeepAliveTimer.Restart(timer, 2 * s_idle, later));
        Assert.Equal(later + 2 * s_idle, timer.Deadline);
        TcpStackOptions longer = s_options with { KeepAlive = 2 * s_idle };
        Assert.Equal(KeepAliveTimer.Verdict.Probe, timer.OnTimeout(longer, timer.Deadline));
        Assert.Null(KeepAliveTimer.Restart(timer, null, later));
    }
}

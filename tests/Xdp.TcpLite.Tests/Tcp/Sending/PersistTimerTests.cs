namespace Xdp.TcpLite.Tests;

public class PersistTimerTests
{
    private static readonly TimeSpan s_wait = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan s_userTimeout = TimeSpan.FromSeconds(5);
    private static readonly Instant s_start = new(TimeSpan.TicksPerHour);

    /// <summary>The wait counts from each probe, the user timeout from the first.</summary>
    [Fact]
    public void Arm_Again_KeepsWhenItBegan()
    {
        var timer = new PersistTimer();
        Assert.Equal((false, Instant.Never), (timer.IsRunning, timer.Since));
        timer.Arm(s_wait, s_userTimeout, s_start);
        Assert.Equal((true, s_start + s_wait), (timer.IsRunning, timer.Deadline));
        timer.OnTimeout(windowIsShut: true);
        Assert.False(timer.IsRunning);
        timer.Arm(2 * s_wait, s_userTimeout, s_start + s_wait);
        Assert.Equal((s_start, s_start + 3 * s_wait), (timer.Since, timer.Deadline));
        timer.OnTimeout(windowIsShut: true);
        timer.Arm(4 * s_wait, s_userTimeout, s_start + 3 * s_wait);
        Assert.Equal(s_start + s_userTimeout, timer.Deadline);
        timer.Stop();
        Assert.Equal((false, Instant.Never), (timer.IsRunning, timer.Since));
        timer.Arm(s_wait, s_userTimeout, s_start + 60 * s_wait);
        Assert.Equal(s_start + 60 * s_wait, timer.Since);
    }

    /// <summary>
    /// RFC 9293, section 3.8.6.2.1, rule 4: the override time-out sends into a window that is a crumb.
    /// </summary>
    [Theory]
    [InlineData(true, false)]
    [InlineData(false, true)]
    public void OnTimeout_OpenWindow_IsTakenOnce(bool isShut, bool takes)
    {
        var timer = new PersistTimer();
        timer.Arm(s_wait, s_userTimeout, s_start);
        Assert.False(timer.TakesAnyWindow);
        timer.OnTimeout(isShut);
        Assert.Equal(takes, timer.TakesAnyWindow);
        timer.OnSent();
        Assert.False(timer.TakesAnyWindow);
    }
}

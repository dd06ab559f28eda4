namespace Xdp.TcpLite.Tests;

public class AnswerLimitTests
{
    private static readonly TimeSpan s_tick = TimeSpan.FromMilliseconds(1);

    [Fact]
    public void TryTake_FirstAtTheOriginOfTime_IsAllowed() => Assert.True(new AnswerLimit().TryTake(new Instant(0)));

    [Fact]
    public void TryTake_WithinTheInterval_IsRefusedAndDoesNotProlongIt()
    {
        var limit = new AnswerLimit();
        var start = new Instant(TimeSpan.TicksPerHour);
        Assert.True(limit.TryTake(start));
        Assert.False(limit.TryTake(start));
        Assert.False(limit.TryTake(start + AnswerLimit.Interval - s_tick));
        Assert.True(limit.TryTake(start + AnswerLimit.Interval));
        Assert.False(limit.TryTake(start + AnswerLimit.Interval + s_tick));
    }

    [Fact]
    public void Note_StartsTheIntervalAnew()
    {
        var limit = new AnswerLimit();
        var start = new Instant(TimeSpan.TicksPerHour);
        limit.Note(start);
        limit.Note(start + s_tick);
        Assert.False(limit.TryTake(start + AnswerLimit.Interval));
        Assert.True(limit.TryTake(start + AnswerLimit.Interval + s_tick));
    }

    [Fact]
    public void Interval_IsLinux() => Assert.Equal(TimeSpan.FromMilliseconds(500), AnswerLimit.Interval);
}

using Kestrel.Transport.Xdp.Internal.Interfaces;
using Kestrel.Transport.Xdp.Internal.Queues;
using Kestrel.Transport.Xdp.Tests.Support;

namespace Kestrel.Transport.Xdp.Tests.Interfaces;

public class StallWatchTests
{
    private static readonly TimeSpan Short = StallWatch.Threshold - TimeSpan.FromTicks(1), Long = StallWatch.Threshold;

    private readonly QueueCounters _counters = new();
    private readonly CollectingLogger _log = new();
    private readonly StallWatch _watch;

    public StallWatchTests() => _watch = new StallWatch("eth7", inline: false, _log);

    [Fact]
    public void ShortTurn_IsNoStall()
    {
        _watch.Check(3, Short, _counters, now: 0);
        Assert.Equal(0, _counters.StalledTurns);
        Assert.Empty(_log.AboveDebug);
    }

    [Fact]
    public void LongTurn_IsToldOnce()
    {
        _watch.Check(3, Long, _counters, now: 0);
        _watch.Check(3, Long * 2, _counters, now: 0);
        Assert.Equal(1, _counters.StalledTurns);
        string line = Assert.Single(_log.AboveDebug);
        Assert.Contains("queue 3: a turn has been running for 500 ms", line, StringComparison.Ordinal);
    }

    [Fact]
    public void NextLongTurn_IsToldAgain()
    {
        _watch.Check(3, Long, _counters, now: 0);
        _watch.Check(3, TimeSpan.Zero, _counters, now: 0);
        _watch.Check(3, Long, _counters, now: 0);
        Assert.Equal(2, _counters.StalledTurns);
    }

    [Fact]
    public void OtherQueues_AreWatchedForThemselves()
    {
        var other = new QueueCounters();
        _watch.Check(3, Long, _counters, now: 0);
        _watch.Check(4, Long, other, now: 0);
        _watch.Check(4, TimeSpan.Zero, other, now: 0);
        _watch.Check(3, Long, _counters, now: 0);
        Assert.Equal((1, 1), (_counters.StalledTurns, other.StalledTurns));
    }

    [Fact]
    public void QueueInPlaceOfAStalledOne_IsToldOf()
    {
        var next = new QueueCounters();
        _watch.Check(3, Long, _counters, now: 0);
        _watch.Forget(3);
        _watch.Check(3, Long, next, now: 0);
        Assert.Equal(1, next.StalledTurns);
    }

    [Theory]
    [InlineData(true, "UnsafePreferInlineScheduling is on")]
    [InlineData(false, "No handler runs there")]
    public void Cause_IsInlineSchedulingOnlyWhereItIsOn(bool inline, string cause)
    {
        var watch = new StallWatch("eth7", inline, _log);
        watch.Check(3, Long, _counters, now: 0);
        string line = Assert.Single(_log.AboveDebug);
        Assert.Contains(cause, line, StringComparison.Ordinal);
        Assert.Equal(inline, line.Contains("nline", StringComparison.Ordinal));
    }

    [Fact]
    public void StallAfterStall_IsCounted_AndToldWithPauses()
    {
        for (long now = 0; now < WarningPause.First; now += 1_000)
        {
            _watch.Check(3, Long, _counters, now);
            _watch.Check(3, TimeSpan.Zero, _counters, now);
        }
        Assert.Equal(WarningPause.First / 1_000, _counters.StalledTurns);
        Assert.Single(_log.AboveDebug);
        _watch.Check(3, Long, _counters, WarningPause.First);
        Assert.EndsWith(
            "It has happened 59 times since this was told last.", _log.AboveDebug[^1], StringComparison.Ordinal);
    }
}

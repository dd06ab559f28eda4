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

    public StallWatchTests() => _watch = new StallWatch("eth7", _log);

    [Fact]
    public void ShortTurn_IsNoStall()
    {
        _watch.Check(3, Short, _counters);
        Assert.Equal(0, _counters.StalledTurns);
        Assert.Empty(_log.AboveDebug);
    }

    [Fact]
    public void LongTurn_IsToldOnce()
    {
        _watch.Check(3, Long, _counters);
        _watch.Check(3, Long * 2, _counters);
        Assert.Equal(1, _counters.StalledTurns);
        string line = Assert.Single(_log.AboveDebug);
        Assert.Contains("queue 3: a turn has been running for 500 ms", line, StringComparison.Ordinal);
    }

    [Fact]
    public void NextLongTurn_IsToldAgain()
    {
        _watch.Check(3, Long, _counters);
        _watch.Check(3, TimeSpan.Zero, _counters);
        _watch.Check(3, Long, _counters);
        Assert.Equal(2, _counters.StalledTurns);
    }

    [Fact]
    public void OtherQueues_AreWatchedForThemselves()
    {
        var other = new QueueCounters();
        _watch.Check(3, Long, _counters);
        _watch.Check(4, Long, other);
        _watch.Check(4, TimeSpan.Zero, other);
        _watch.Check(3, Long, _counters);
        Assert.Equal((1, 1), (_counters.StalledTurns, other.StalledTurns));
    }

    [Fact]
    public void QueueInPlaceOfAStalledOne_IsToldOf()
    {
        var next = new QueueCounters();
        _watch.Check(3, Long, _counters);
        _watch.Forget(3);
        _watch.Check(3, Long, next);
        Assert.Equal(1, next.StalledTurns);
    }
}

using Kestrel.Transport.Xdp.Internal.Interfaces;

namespace Kestrel.Transport.Xdp.Tests.Interfaces;

public class WarningPauseTests
{
    private readonly WarningPause _pause = new();

    [Fact]
    public void Continuous_IsToldEverMoreRarely_UpToOnceAnHour()
    {
        var told = new List<long>();
        for (long now = 0; now < 24 * WarningPause.Longest; now += 1_000)
        {
            if (_pause.MayTell(now, out _))
                told.Add(now);
        }
        long[] pauses = [.. told.Zip(told.Skip(1), (earlier, later) => later - earlier)];
        Assert.Equal([60_000, 120_000, 240_000, 480_000, 960_000, 1_920_000], pauses[..6]);
        Assert.All(pauses[6..], pause => Assert.Equal(WarningPause.Longest, pause));
    }

    [Fact]
    public void JustAfterEachPause_IsNoWayRound()
    {
        int told = 0;
        for (long now = 0; now < 24 * WarningPause.Longest; now += 2 * WarningPause.First + 1)
            told += _pause.MayTell(now, out _) ? 1 : 0;
        Assert.InRange(told, 24, 32);
    }

    [Fact]
    public void QuietHour_BeginsAnew()
    {
        Assert.True(_pause.MayTell(0, out _));
        Assert.True(_pause.MayTell(WarningPause.First, out _));
        long later = WarningPause.First + WarningPause.Longest;
        Assert.True(_pause.MayTell(later, out _));
        Assert.True(_pause.MayTell(later + WarningPause.First, out _));
    }

    [Fact]
    public void Line_TellsHowManyItStandsFor()
    {
        Assert.True(_pause.MayTell(0, out string notTold));
        Assert.Empty(notTold);
        Assert.False(_pause.MayTell(1, out _));
        Assert.False(_pause.MayTell(2, out _));
        Assert.True(_pause.MayTell(WarningPause.First, out notTold));
        Assert.Equal(" It has happened 2 times since this was told last.", notTold);
        Assert.True(_pause.MayTell(3 * WarningPause.First, out notTold));
        Assert.Empty(notTold);
    }
}

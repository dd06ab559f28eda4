using Kestrel.Transport.Xdp.Internal.Interfaces;

namespace Kestrel.Transport.Xdp.Tests.Interfaces;

public class RedirectWatchTests
{
    private const long Tick = 250;

    private readonly RedirectWatch _watch = new();
    private ulong _redirected;
    private long _arrived, _now = 1_000_000;
    private int _asked;

    [Fact]
    public void PacketsThatVanish_AreFoundAfterAWhile_NotBefore()
    {
        Assert.False(Check());
        Vanish();
        Assert.False(Check());
        for (long waited = Tick; waited < RedirectWatch.Patience; waited += Tick)
        {
            Vanish();
            Assert.False(Check());
        }
        Vanish();
        Assert.True(Check());
    }

    [Fact]
    public void OneThatIsLost_IsNoSign()
    {
        Assert.False(Check());
        Vanish();
        for (int i = 0; i < 100; i++)
            Assert.False(Check());
    }

    [Fact]
    public void OneThatArrives_ClearsTheOthers()
    {
        Assert.False(Check());
        for (int i = 0; i < 100; i++)
        {
            Vanish();
            if (i % 3 == 0)
                Arrive();
            Assert.False(Check());
        }
    }

    [Fact]
    public void WhilePacketsArrive_TheProgramIsNotAsked()
    {
        for (int i = 0; i < 100; i++)
        {
            Arrive();
            Assert.False(Check());
        }
        Assert.Equal(0, _asked);
    }

    [Fact]
    public void QueueThatIsOpenedAnew_CountsFromZero()
    {
        for (int i = 0; i < 10; i++)
            Arrive();
        Assert.False(Check());
        _arrived = 0;
        Assert.False(Check());
        Assert.False(Check());
        Assert.False(Check());
    }

    private void Arrive()
    {
        _redirected++;
        _arrived++;
    }

    private void Vanish() => _redirected++;

    private bool Check()
    {
        _now += Tick;
        return _watch.Check(
            _arrived,
            () =>
            {
                _asked++;
                return _redirected;
            },
            _now);
    }
}

using Kestrel.Transport.Xdp.Internal.Interfaces;

namespace Kestrel.Transport.Xdp.Tests.Interfaces;

public class LingerTests
{
    private static readonly TimeSpan s_start = TimeSpan.FromHours(1);

    [Fact]
    public void GoesOn_NothingLeft_IsOver() =>
        Assert.False(Create().GoesOn(0, 0, s_start));

    [Fact]
    public void GoesOn_SilentPeers_EndsAfterTheSilence()
    {
        Linger linger = Create();
        Assert.True(linger.GoesOn(1, 1000, s_start));
        Assert.True(linger.GoesOn(1, 1000, s_start + TimeSpan.FromSeconds(4.9)));
        Assert.False(linger.GoesOn(1, 1000, s_start + TimeSpan.FromSeconds(5)));
    }

    [Fact]
    public void GoesOn_PeersThatAcknowledge_StartsAnew_UpToTheMost()
    {
        Linger linger = Create();
        int second = 0;
        while (linger.GoesOn(1, second * 1000, s_start + TimeSpan.FromSeconds(second)))
            second += 4;
        Assert.Equal(32, second);
    }

    [Fact]
    public void GoesOn_LongerSilenceThanTheMost_Wins()
    {
        var linger = new Linger(TimeSpan.FromSeconds(60), TimeSpan.FromSeconds(30), s_start);
        Assert.True(linger.GoesOn(1, 0, s_start + TimeSpan.FromSeconds(59)));
        Assert.False(linger.GoesOn(1, 0, s_start + TimeSpan.FromSeconds(60)));
    }

    private static Linger Create() => new(TimeSpan.FromSeconds(5), TimeSpan.FromSeconds(30), s_start);
}

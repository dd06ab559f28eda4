using Kestrel.Transport.Xdp.Internal.Interfaces;

namespace Kestrel.Transport.Xdp.Tests.Interfaces;

public class RetryPauseTests
{
    [Fact]
    public void Next_Doubles_UpToTheLongest_AndResetBeginsAnew()
    {
        var pause = new RetryPause();
        Assert.Equal(RetryPause.First, pause.Next());
        Assert.Equal(RetryPause.First * 2, pause.Next());
        for (int i = 0; i < 100; i++)
            pause.Next();
        Assert.Equal(RetryPause.Longest, pause.Next());
        pause.Reset();
        Assert.Equal(RetryPause.First, pause.Next());
    }
}

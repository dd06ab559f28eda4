namespace Xdp.TcpLite.Tests;

public class OrphanTests
{
    private static readonly Instant s_now = new(TimeSpan.TicksPerHour);

    private readonly Orphan _orphan = OrphanTableTests.NewOrphan();

    [Theory]
    [InlineData(0)]
    [InlineData(8)]
    public void MayTryAgain_IsCountedUntilThereIsProgress(int retries)
    {
        var options = new TcpStackOptions { OrphanRetries = retries };
        for (int round = 0; round < 3; round++)
        {
            for (int i = 0; i < retries; i++)
                Assert.True(_orphan.MayTryAgain(options));
            Assert.False(_orphan.MayTryAgain(options));
            _orphan.OnProgress(options, s_now);
        }
    }

    [Fact]
    public void NextDeadline_IsTheFirstOfBoth()
    {
        var options = new TcpStackOptions { FinWait2 = TimeSpan.FromSeconds(7) };
        Assert.Equal(Instant.Never, _orphan.NextDeadline);
        _orphan.OnFinAcknowledged(options, s_now);
        Assert.Equal(s_now + TimeSpan.FromSeconds(7), _orphan.NextDeadline);
        _orphan.Late.TryTake(options, s_now);
        _orphan.Late.OnUsedUp(options, s_now);
        Assert.Equal(s_now + options.AfterCloseSilence, _orphan.NextDeadline);
    }
}

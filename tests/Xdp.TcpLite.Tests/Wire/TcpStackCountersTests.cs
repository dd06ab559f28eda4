namespace Xdp.TcpLite.Tests;

public class TcpStackCountersTests
{
    [Fact]
    public void Drops_EveryReason_HasItsOwnCounter()
    {
        var counters = new TcpStackCounters();
        foreach (DropReason reason in Enum.GetValues<DropReason>())
            counters[reason] += 1 + (int)reason;
        foreach (DropReason reason in Enum.GetValues<DropReason>())
            Assert.Equal(1 + (int)reason, counters[reason]);
    }
}

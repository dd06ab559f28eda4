using Kestrel.Transport.Xdp.Internal.Interfaces;
using Kestrel.Transport.Xdp.Internal.Queues;
using Microsoft.Extensions.Logging.Abstractions;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Tests.Interfaces;

/// <summary>Queues that cannot be opened. Those that can are the system tests'.</summary>
public class QueueSetTests
{
    private readonly FakeInterface _maps = new();
    private readonly FrameBudget _frames = new();

    [Fact]
    public void QueueThatTheDeviceHasNot_IsRefused()
    {
        QueueSet queues = Set(new XdpTransportOptions { Queues = [0, 4], MemoryBudget = 1 });
        Assert.Equal("queue 4: eth7 has 2 receive queues, numbered from 0", Open(queues));
        Assert.Empty(queues.Open);
        Assert.False(queues.IsIncomplete);
    }

    [Fact]
    public void BudgetThatIsUsedUp_RefusesQueues()
    {
        _frames.Take(1024, queues: 1, budget: 1024 * QueueSettings.FrameSize);
        QueueSet queues = Set(new XdpTransportOptions { MemoryBudget = 2 << 20 });
        Assert.Equal("queue 1: MemoryBudget (2 MiB, 2 in use) leaves no frames for it", Open(queues));
    }

    [Fact]
    public void QueueThatIsRefused_GivesItsFramesBack()
    {
        // A ring that no kernel makes: refused before a socket is bound, whatever the rights of the process.
        QueueSet queues = Set(new XdpTransportOptions { TransmitRingSize = 3, FramesPerQueue = 256 });
        Assert.StartsWith("queue 1: ", Open(queues), StringComparison.Ordinal);
        Assert.Equal(0, _frames.Used);
    }

    [Fact]
    public void NoQueues_IsSaid() => Assert.Equal("it has no queues", Open(Set(new XdpTransportOptions()), queues: 0));

    private QueueSet Set(XdpTransportOptions options) => new(
        "eth7", FakeInterface.Settings(options),
        new QueueResources(_frames, new BlockPool(), new byte[32], new(c => c.Flow)),
        new PathResolver(), failed: () => { }, NullLogger.Instance);

    private string? Open(QueueSet set, int queues = 2) =>
        set.OpenMissing(FakeInterface.Device(queues: queues), _maps, []);
}

using System.Net;
using Kestrel.Transport.Xdp.Internal.Interfaces;
using Kestrel.Transport.Xdp.Internal.Queues;
using Kestrel.Transport.Xdp.Tests.Support;
using Xdp.Sockets;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Tests.Interfaces;

/// <summary>Queues that cannot be opened. Those that can are the system tests'.</summary>
public class QueueSetTests
{
    private readonly FakeInterface _maps = new();
    private readonly FrameBudget _frames = new();
    private readonly CollectingLogger _log = new();

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

    [Fact]
    public void GenericMode_WithoutMultiBuffer_NeedsOffloadsOff()
    {
        QueueSet queues = Set(new XdpTransportOptions { AttachMode = AttachMode.Generic }, multiBuffer: false);
        // It is tried again from time to time, and said once.
        Assert.NotNull(Prepare(queues));
        Assert.NotNull(Prepare(queues));
        Assert.Equal(
            "eth7: generic mode needs GRO and TSO off, as this kernel (older than 6.6) gives AF_XDP no packet that "
            + "takes several frames. What is larger than 1770 bytes is dropped, and uploads stall: ethtool -K eth7 gro "
            + "off, and tso off gso off on the other end of a veth.",
            Assert.Single(_log.AboveDebug));
    }

    [Fact]
    public void LargeMtu_WithoutMultiBuffer_TellsWhatPeersMaySend()
    {
        QueueSet queues = Set(new XdpTransportOptions(), multiBuffer: false);
        Assert.NotNull(Prepare(queues, mtu: 9000));
        Assert.NotNull(Prepare(queues, mtu: 9000));
        Assert.Equal(
            "eth7 has an MTU of 9000, and this kernel (older than 6.6) gives AF_XDP no packet that takes several "
            + "frames: peers are told that packets may have 1770 bytes.",
            Assert.Single(_log.AboveDebug));
    }

    [Theory]
    [InlineData(AttachMode.Auto, 1770, false)]
    [InlineData(AttachMode.Auto, 9000, true)]
    [InlineData(AttachMode.Generic, 1500, true)]
    public void PacketsThatFit_OrAKernelThatHasMultiBuffer_AreNotToldOf(AttachMode mode, int mtu, bool multiBuffer)
    {
        Assert.NotNull(Prepare(Set(new XdpTransportOptions { AttachMode = mode }, multiBuffer), mtu));
        Assert.Empty(_log.AboveDebug);
    }

    [Fact]
    public void QueueSettings_WithMultiBuffer_AnnounceTheMtu_AndSendWhatFitsAFrame()
    {
        var settings = new QueueSettings
        {
            Interface = FakeInterface.Settings(),
            InterfaceName = "eth7",
            InterfaceIndex = 7,
            QueueId = 0,
            Mtu = 9000,
            MultiBuffer = true,
            AcceptPartialChecksum = false,
            FrameCount = 256,
            Secret = new byte[32],
        };
        Assert.True(settings.ToXskOptions().MultiBuffer);
        TcpStackOptions stack = settings.ToStackOptions();
        Assert.Equal((1770, 9000), (stack.Mtu, stack.ReceiveMtu));
        stack = (settings with { MultiBuffer = false }).ToStackOptions();
        Assert.Equal((1770, null), (stack.Mtu, stack.ReceiveMtu));
    }

    private QueueSet Set(XdpTransportOptions options, bool multiBuffer = true) => new(
        "eth7", FakeInterface.Settings(options),
        new QueueResources(_frames, new BlockPool(), new byte[32], new(c => c.Flow))
        {
            KernelHasMultiBuffer = () => multiBuffer,
        },
        new RouteResolver("eth7", () => null, () => [], () => { }, _log),
        new KernelHandOver(static _ => new Dictionary<IPNetwork, bool>(), () => { }), failed: () => { }, _log);

    // No queue: there is no memory for one.
    private string? Prepare(QueueSet set, int mtu = 1500)
    {
        _frames.Take(1 << 20, queues: 1, budget: long.MaxValue);
        return set.PrepareMissing(FakeInterface.Device(mtu: mtu));
    }

    private string? Open(QueueSet set, int queues = 2) =>
        set.OpenMissing(FakeInterface.Device(queues: queues), _maps, []);
}

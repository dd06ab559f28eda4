using System.Net;
using Kestrel.Transport.Xdp.Internal.Interfaces;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Tests.Interfaces;

/// <summary>What tells the program. Whether packets get to the kernel is for the system tests.</summary>
public sealed class KernelHandOverTests : IDisposable
{
    private static readonly IPNetwork s_wide = IPNetwork.Parse("10.0.0.0/8"), s_narrow = IPNetwork.Parse("10.1.0.0/16");

    private readonly FakeInterface _maps = new();
    private readonly BlockPool _blocks = new();
    private readonly KernelHandOver _handOver;
    private int _wakes, _prepared;

    public KernelHandOverTests() => _handOver = new KernelHandOver(() => _wakes++);

    public void Dispose()
    {
        _handOver.Dispose();
        Assert.Equal(0, _blocks.InUse);
    }

    private void Add(params (IPNetwork Peers, bool Elsewhere)[] peers)
    {
        BlockQueue packet = default;
        packet.Enqueue(_blocks.TryTake()!);
        _handOver.Add(0, packet, peers.ToDictionary(entry => entry.Peers, entry => entry.Elsewhere));
    }

    // There is no such device: the packet counts as lost.
    private void Apply() => _handOver.Apply(_maps, FakeInterface.Device(), () => _prepared++);

    [Fact]
    public void Packet_ProgramIsToldOfThePeersAlike_BeforeTheKernelHasIt()
    {
        Add((s_wide, true), (s_narrow, false));
        Assert.Equal((1, true, false), (_wakes, _handOver.IsDue, _handOver.IsActive));
        Apply();
        Assert.Equal((false, true, 1), (_handOver.IsDue, _handOver.IsActive, _prepared));
        Assert.Equal((true, false), (_maps.PeersElsewhere[s_wide], _maps.PeersElsewhere[s_narrow]));
    }

    [Fact]
    public void PeersWithinOthers_StayElsewhere_OnceTheyAre()
    {
        Add((s_narrow, true));
        Add((s_wide, true), (s_narrow, false));
        Apply();
        Assert.True(_maps.PeersElsewhere[s_narrow]);
    }

    [Fact]
    public void RoutesChange_NothingHoldsAnyMore()
    {
        Add((s_wide, true));
        Apply();
        _handOver.Forget();
        Apply();
        Assert.Empty(_maps.PeersElsewhere);
        Assert.False(_handOver.IsActive);
    }

    [Fact]
    public void MorePacketsThanWait_CountAsLost()
    {
        for (int i = 0; i < 5000; i++)
            Add((s_wide, true));
        Assert.InRange(_blocks.InUse, 1, 256);
    }

    [Fact]
    public void NoProgram_PacketsAreReturned()
    {
        Add((s_wide, true));
        _handOver.Apply(null, null, () => _prepared++);
        Assert.Equal((0, 0, false), (_prepared, _blocks.InUse, _handOver.IsActive));
    }
}

using System.Net;
using Kestrel.Transport.Xdp.Internal.Interfaces;
using Kestrel.Transport.Xdp.Internal.Steering;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Tests.Interfaces;

/// <summary>What tells the program. Whether packets get to the kernel is for the system tests.</summary>
public sealed class KernelHandOverTests : IDisposable
{
    private const ushort Port = 80;

    private static readonly IPAddress s_local = IPAddress.Parse("10.0.0.1");
    private static readonly IpAddr s_peer = IpAddr.From(IPAddress.Parse("10.9.9.9"));
    private static readonly IpAddr s_narrowPeer = IpAddr.From(IPAddress.Parse("10.1.2.3"));
    private static readonly IPNetwork s_wide = IPNetwork.Parse("10.0.0.0/8"), s_narrow = IPNetwork.Parse("10.1.0.0/16");

    private readonly FakeInterface _maps = new();
    private readonly BlockPool _blocks = new();
    private readonly KernelHandOver _handOver;
    private int _wakes, _prepared;
    private bool _wasActive;

    public KernelHandOverTests() => _handOver = new KernelHandOver(RoutedAs, () => _wakes++);

    private static Dictionary<IPNetwork, bool> RoutedAs(IpAddr peer) => peer == s_narrowPeer
        ? new() { [s_narrow] = true }
        : new() { [s_wide] = true, [s_narrow] = false };

    public void Dispose()
    {
        _handOver.Dispose();
        Assert.Equal(0, _blocks.InUse);
    }

    private static EndpointPeers At(IPNetwork peers) => new(s_local, Port, peers);

    private void Add(IpAddr peer)
    {
        BlockQueue packet = default;
        packet.Enqueue(_blocks.TryTake()!);
        _handOver.Add(0, packet, new FlowKey(IpAddr.From(s_local), peer, Port, 40000));
    }

    // There is no such device: the packet counts as lost.
    private void Apply() => _handOver.Apply(_maps, FakeInterface.Device(), () =>
    {
        _prepared++;
        _maps.Changes.Add("prepared");
        _wasActive = _handOver.IsActive;
    });

    [Fact]
    public void Packet_ProgramIsToldOfThePeersAlike_BeforeTheKernelHasIt()
    {
        Add(s_peer);
        Assert.Equal((1, true, false), (_wakes, _handOver.IsDue, _handOver.IsActive));
        Apply();
        Assert.Equal((false, true, 1), (_handOver.IsDue, _handOver.IsActive, _prepared));
        // Endpoints are mixed before the program lets anything pass.
        Assert.Equal(["prepared", "peers elsewhere"], _maps.Changes);
        Assert.True(_wasActive);
        Assert.Equal((true, false), (_maps.PeersElsewhere[At(s_wide)], _maps.PeersElsewhere[At(s_narrow)]));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void PeersWithinOthers_StayElsewhere_OnceTheyAre(bool widerFirst)
    {
        Add(widerFirst ? s_peer : s_narrowPeer);
        Add(widerFirst ? s_narrowPeer : s_peer);
        Apply();
        Assert.True(_maps.PeersElsewhere[At(s_narrow)]);
    }

    [Fact]
    public void RoutesChange_NothingHoldsAnyMore()
    {
        Add(s_peer);
        Apply();
        _handOver.Forget();
        Apply();
        Assert.Empty(_maps.PeersElsewhere);
        Assert.False(_handOver.IsActive);
    }

    /// <summary>What was handed over before went by the routes before.</summary>
    [Fact]
    public void RoutesChange_WhatWasHandedOverBefore_TellsOfNobody()
    {
        Add(s_peer);
        _handOver.Forget();
        Apply();
        Assert.False(_handOver.IsActive);
        Assert.Equal(0, _blocks.InUse);
        Add(s_peer);
        Apply();
        Assert.True(_handOver.IsActive);
    }

    [Fact]
    public void RoutesChange_NobodyIsElsewhere_NothingIsDue()
    {
        _handOver.Forget();
        Assert.False(_handOver.IsDue);
    }

    [Fact]
    public void MorePacketsThanWait_CountAsLost()
    {
        for (int i = 0; i < 5000; i++)
            Add(s_peer);
        Assert.InRange(_blocks.InUse, 1, 256);
    }

    [Fact]
    public void PacketAfterTheEnd_IsReturned()
    {
        _handOver.Dispose();
        Add(s_peer);
        Assert.Equal(0, _blocks.InUse);
    }

    [Fact]
    public void NoProgram_PacketsAreReturned()
    {
        Add(s_peer);
        _handOver.Apply(null, null, () => _prepared++);
        Assert.Equal((0, 0, false), (_prepared, _blocks.InUse, _handOver.IsActive));
    }
}

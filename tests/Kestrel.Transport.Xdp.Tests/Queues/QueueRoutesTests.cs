using System.Net;
using Kestrel.Transport.Xdp.Internal.Queues;
using Xdp.Sockets.Net;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Tests.Queues;

public class QueueRoutesTests
{
    private static readonly PeerClasses s_classes = Classes(dependsOnPorts: false);

    private readonly BlockPool _blocks = new();
    private readonly List<FlowKey> _asked = [];
    private readonly QueueRoutes _routes;
    private readonly HostRoute _route = new(new LinkPath(1, 2), RouteKind.Link, 7);

    public QueueRoutesTests()
    {
        _routes = new QueueRoutes(flow => _asked.Add(flow), new QueueCounters());
        _routes.Forget(s_classes);
    }

    private static PeerClasses Classes(bool dependsOnPorts) => new(new RouteDistinctions(
        [new RoutePrefix(IPAddress.Any, 0, false), new RoutePrefix(IPAddress.Parse("10.0.0.0"), 8, false)],
        dependsOnPorts));

    private static FlowKey Flow(string remote, ushort remotePort = 40000) => new(
        IpAddr.From(IPAddress.Parse("10.0.0.1")), IpAddr.From(IPAddress.Parse(remote)), 80, remotePort);

    private BlockQueue Packet()
    {
        BlockQueue packet = default;
        packet.Enqueue(_blocks.TryTake()!);
        return packet;
    }

    [Fact]
    public void Find_UnknownPeer_IsAskedForOnce()
    {
        Assert.Null(_routes.Find(Flow("10.0.0.2"), ask: false));
        Assert.Empty(_asked);
        Assert.Null(_routes.Find(Flow("10.0.0.2"), ask: true));
        Assert.Null(_routes.Find(Flow("10.0.0.2", 40001), ask: true));
        Assert.Single(_asked);
    }

    [Fact]
    public void AnswerForAClass_ServesAllItsPeers_AndNoOthers()
    {
        _routes.Find(Flow("8.8.8.8"), ask: true);
        _routes.Answer(Flow("8.8.8.8"), new RouteAnswer(_route, HoldsForClass: true));
        Assert.Same(_route, _routes.Find(Flow("9.9.9.9"), ask: true));
        Assert.Null(_routes.Find(Flow("10.0.0.2"), ask: true));
        Assert.Equal(2, _asked.Count);
    }

    [Fact]
    public void AnswerForOnePeer_ServesIt_WhateverItsPort()
    {
        _routes.Find(Flow("10.0.0.2"), ask: true);
        _routes.Answer(Flow("10.0.0.2"), new RouteAnswer(_route, HoldsForClass: false));
        Assert.Same(_route, _routes.Find(Flow("10.0.0.2", 1), ask: true));
        Assert.Null(_routes.Find(Flow("10.0.0.3"), ask: true));
    }

    [Fact]
    public void WhereRulesGoByPorts_EachFlowIsAskedFor()
    {
        _routes.Forget(Classes(dependsOnPorts: true));
        _routes.Find(Flow("8.8.8.8", 1), ask: true);
        _routes.Answer(Flow("8.8.8.8", 1), new RouteAnswer(_route, HoldsForClass: true));
        Assert.Same(_route, _routes.Find(Flow("9.9.9.9", 1), ask: true));
        Assert.Null(_routes.Find(Flow("8.8.8.8", 2), ask: true));
    }

    [Fact]
    public void Packets_WaitForTheAnswer_InTheirOrder_AndNoMoreThanABound()
    {
        _routes.Find(Flow("10.0.0.2"), ask: true);
        var kept = new List<BlockQueue>();
        while (true)
        {
            BlockQueue packet = Packet();
            if (!_routes.TryKeep(packet, visited: kept.Count, Flow("10.0.0.2")))
            {
                packet.ReturnAll();
                break;
            }
            kept.Add(packet);
        }
        Assert.InRange(kept.Count, 1, 1000);
        IReadOnlyList<QueueRoutes.WaitingPacket> waiting =
            _routes.Answer(Flow("10.0.0.2"), new RouteAnswer(_route, HoldsForClass: false));
        Assert.Equal(Enumerable.Range(0, kept.Count), waiting.Select(packet => packet.Visited));
        foreach (QueueRoutes.WaitingPacket packet in waiting)
            packet.Packet.ReturnAll();
        Assert.Empty(_routes.Answer(Flow("10.0.0.2"), default));
        Assert.Equal(0, _blocks.InUse);
    }

    [Fact]
    public void NobodyAsked_PacketIsNotKept()
    {
        BlockQueue packet = Packet();
        Assert.False(_routes.TryKeep(packet, visited: 1, Flow("10.0.0.2")));
        packet.ReturnAll();
    }

    [Fact]
    public void Flood_AsksABoundedNumberOfQuestions()
    {
        for (int i = 0; i < 5000; i++)
            _routes.Find(Flow($"10.1.{i / 250}.{i % 250}"), ask: true);
        Assert.InRange(_asked.Count, 1, 1024);
    }

    /// <summary>Addresses that nobody has do not keep out those that somebody has.</summary>
    [Fact]
    public void QuestionsThatWaitForNeighbours_GiveWay_AndTheirPacketsAreReturned()
    {
        FlowKey Nobody(int i) => Flow($"10.1.{i / 250}.{i % 250}");
        for (int i = 0; i < 1024; i++)
            _routes.Find(Nobody(i), ask: true);
        Assert.True(_routes.TryKeep(Packet(), visited: 1, Nobody(0)));
        Assert.True(_routes.IsBusy);
        int asked = _asked.Count;
        _routes.Find(Flow("10.2.0.1"), ask: true);
        Assert.Equal(asked, _asked.Count);
        for (int i = 0; i < 1024; i++)
            _routes.Postpone(Nobody(i));
        _routes.Find(Flow("10.2.0.1"), ask: true);
        Assert.Equal(asked + 1, _asked.Count);
        Assert.Equal(0, _blocks.InUse);
        Assert.Empty(_routes.Answer(Nobody(0), new RouteAnswer(_route, HoldsForClass: false)));
    }

    [Fact]
    public void NeighbourChanges_OnlyWaysThroughItAreForgotten()
    {
        IpAddr hop = IpAddr.From(IPAddress.Parse("10.0.0.254"));
        var through = new HostRoute(new LinkPath(1, 2), RouteKind.Link, 7, hop);
        _routes.Learn(Flow("8.8.8.8"), new RouteAnswer(through, HoldsForClass: true));
        _routes.Learn(Flow("10.0.0.2"), new RouteAnswer(_route, HoldsForClass: false));
        _routes.Forget(hop);
        Assert.Null(_routes.Known(Flow("8.8.8.8")));
        Assert.Same(_route, _routes.Known(Flow("10.0.0.2")));
    }

    [Fact]
    public void OtherLocalAddress_IsAnotherRoute()
    {
        _routes.Learn(Flow("8.8.8.8"), new RouteAnswer(_route, HoldsForClass: true));
        Assert.Null(_routes.Known(Flow("8.8.8.8") with { Local = IpAddr.From(IPAddress.Parse("10.0.0.9")) }));
    }

    /// <summary>At the start each flow counts as different; what was asked then is answered later.</summary>
    [Fact]
    public void ChangeWhileAQuestionIsOpen_LosesNoPacket()
    {
        _routes.Forget(PeerClasses.None);
        foreach (ushort port in (ushort[])[1, 2])
        {
            _routes.Find(Flow("10.0.0.2", port), ask: true);
            Assert.True(_routes.TryKeep(Packet(), visited: port, Flow("10.0.0.2", port)));
        }
        Assert.Equal(2, _asked.Count);
        _routes.Forget(s_classes);
        IReadOnlyList<QueueRoutes.WaitingPacket> waiting =
            _routes.Answer(Flow("10.0.0.2", 2), new RouteAnswer(_route, HoldsForClass: false));
        Assert.Equal([1, 2], waiting.Select(packet => packet.Visited).Order());
        foreach (QueueRoutes.WaitingPacket packet in waiting)
            packet.Packet.ReturnAll();
        Assert.Empty(_routes.Answer(Flow("10.0.0.2", 1), new RouteAnswer(_route, HoldsForClass: false)));
    }

    [Fact]
    public void QueueIsClosed_WaitingPacketsAreReturned()
    {
        _routes.Find(Flow("10.0.0.2"), ask: true);
        Assert.True(_routes.TryKeep(Packet(), visited: 1, Flow("10.0.0.2")));
        _routes.Clear();
        Assert.Equal(0, _blocks.InUse);
        Assert.Empty(_routes.Answer(Flow("10.0.0.2"), new RouteAnswer(_route, HoldsForClass: false)));
    }
}

namespace Xdp.TcpLite.Tests.Hostile;

/// <summary>The host knows the ways to peers: where answers go is not for the frames to say.</summary>
public class RouteTests
{
    private static readonly LinkPath s_gateway = Rig.Path with { RemoteMac = 0x02_00_00_00_00_07 };

    private readonly KnownRoutes _routes = new() { Route = new Route(s_gateway) };
    private readonly Rig _rig;
    private readonly Peer _peer;

    public RouteTests()
    {
        _rig = new Rig(routes: _routes);
        _peer = new Peer(_rig);
    }

    private sealed class KnownRoutes : IRoutes
    {
        internal Route? Route { get; set; }

        internal int Asked { get; private set; }

        public bool IsBusy { get; set; }

        public Route? Find(in FlowKey flow, bool ask)
        {
            if (ask)
                Asked++;
            return Route;
        }
    }

    [Fact]
    public void SegmentsGoByTheRoute_WhereverFramesComeFrom()
    {
        _peer.Connect();
        _peer.Data(0, 100);
        _rig.Deliver(new SegmentBuilder
        {
            Flow = _peer.Flow,
            Link = Rig.Path with { RemoteMac = 0x02_00_00_00_00_66 },
            Fields = _peer.Fields(TcpFlags.Ack) with { Seq = _peer.Iss + 101 },
            Payload = Peer.Pattern(100, 200),
        }.Build());
        _rig.Milliseconds(100);
        Seen ack = _peer.Take()[^1];
        Assert.Equal(_peer.Iss + 201, ack.Ack);
        Assert.Equal(s_gateway.RemoteMac, ack.Packet.Path.LocalMac);
    }

    [Fact]
    public void RouteIsNotKnown_SynWaitsWithTheHost_AndNothingIsSent()
    {
        _routes.Route = null;
        _peer.Send(_peer.Syn());
        Assert.Equal((ReceiveResult.RouteUnknown, 1), (_rig.Host.LastResult, _routes.Asked));
        Assert.Empty(_peer.Take());
        Assert.Equal(0, _rig.Stack.HalfOpenCount);
        _routes.Route = new Route(s_gateway);
        _peer.Connect();
    }

    [Fact]
    public void NoRoute_SynIsDropped_AndCounted()
    {
        _routes.Route = new Route(LinkPath.IpOnly, RouteKind.Refused);
        _peer.Send(_peer.Syn());
        _peer.Send(TcpFlags.Ack);
        Assert.Empty(_peer.Take());
        Assert.Equal((0, 1L), (_rig.Stack.HalfOpenCount, _rig.Counters[DropReason.NoRoute]));
    }

    [Fact]
    public void AnotherLinkCarriesIt_SynIsTheHosts()
    {
        _routes.Route = new Route(LinkPath.IpOnly, RouteKind.Elsewhere);
        _peer.Send(_peer.Syn());
        Assert.Equal(ReceiveResult.Elsewhere, _rig.Host.LastResult);
        Assert.Empty(_peer.Take());
    }

    [Fact]
    public void ConnectionMovesToAnotherLink_ItsPacketsBeginWithIp()
    {
        TcpConnection connection = _peer.Connect();
        connection.Route = new Route(LinkPath.IpOnly, RouteKind.Elsewhere);
        _peer.Write(1000);
        Seen sent = Assert.Single(_peer.Take());
        Assert.Equal((0, 1000), (sent.Packet.Path.HeaderLength, sent.Packet.PayloadLength));
        connection.Route = new Route(s_gateway);
        _peer.Write(1000);
        Assert.Equal(s_gateway.RemoteMac, Assert.Single(_peer.Take()).Packet.Path.LocalMac);
    }

    [Fact]
    public void SegmentOfNoConnection_IsAnsweredByTheRoute_OrNot()
    {
        _peer.Send(TcpFlags.Ack);
        Assert.Equal(s_gateway.RemoteMac, Assert.Single(_peer.Take()).Packet.Path.LocalMac);
        _routes.Route = null;
        _peer.Send(TcpFlags.Ack);
        Assert.Equal(ReceiveResult.RouteUnknown, _rig.Host.LastResult);
        _routes.Route = new Route(LinkPath.IpOnly, RouteKind.Refused);
        _peer.Send(TcpFlags.Ack);
        Assert.Empty(_peer.Take());
    }

    [Fact]
    public void Flood_AsksForNoRoutes_BeforeACookieComesBack()
    {
        var rig = new Rig(new TcpStackOptions { Backlog = 4 }, routes: _routes);
        _routes.Route = new Route(s_gateway);
        for (ushort port = 1; port <= 4; port++)
            new Peer(rig, port).Send(new Peer(rig, port).Syn());
        int before = _routes.Asked;
        _routes.Route = null;
        var peer = new Peer(rig, 5000);
        for (ushort port = 10; port < 100; port++)
            new Peer(rig, port).Send(new Peer(rig, port).Syn());
        peer.Send(peer.Syn());
        Assert.Equal(before, _routes.Asked);
        peer.Ack = Assert.Single(peer.Take()).Seq + 1;
        peer.Nxt = peer.Iss + 1;
        peer.Send(TcpFlags.Ack);
        Assert.Equal((ReceiveResult.RouteUnknown, before + 1), (rig.Host.LastResult, _routes.Asked));
        _routes.Route = new Route(s_gateway);
        peer.Send(TcpFlags.Ack);
        Assert.True(rig.Stack.TryAccept(out _));
    }

    [Fact]
    public void HostIsBusy_SynIsAnsweredWithACookie_AndAStrayNotAtAll()
    {
        (_routes.Route, _routes.IsBusy) = (null, true);
        _peer.Send(TcpFlags.Ack);
        Assert.Empty(_peer.Take());
        _peer.Send(_peer.Syn());
        Assert.Equal((0, 0, 1L), (_rig.Stack.HalfOpenCount, _routes.Asked, _rig.Counters.SynCookiesSent));
        _peer.Ack = Assert.Single(_peer.Take()).Seq + 1;
        _peer.Nxt = _peer.Iss + 1;
        (_routes.Route, _routes.IsBusy) = (new Route(s_gateway), false);
        _peer.Send(TcpFlags.Ack);
        Assert.True(_rig.Stack.TryAccept(out _));
    }

    [Fact]
    public void RouteChangesDuringTheHandshake_TheSynAckGoesByIt()
    {
        _peer.Send(_peer.Syn());
        Assert.Equal(s_gateway.RemoteMac, Assert.Single(_peer.Take()).Packet.Path.LocalMac);
        _routes.Route = new Route(Rig.Path);
        _rig.Milliseconds(1100);
        Assert.Equal(Rig.Path.RemoteMac, Assert.Single(_peer.Take()).Packet.Path.LocalMac);
    }

    [Theory]
    [InlineData(1200, null, 1160)]
    [InlineData(int.MaxValue, 1000, 1000)]
    [InlineData(1200, 1300, 1300)]
    [InlineData(int.MaxValue, null, 1460)]
    public void RoutesMtuAndAdvertisedMss_ShapeOurSyn(int mtu, int? advertised, int mss)
    {
        _routes.Route = new Route(s_gateway) { Mtu = mtu, AdvertisedMss = advertised };
        _peer.Send(_peer.Syn());
        Assert.Equal(mss, Assert.Single(_peer.Take()).Packet.Mss);
    }

    [Fact]
    public void RoutesMtu_BoundsWhatIsSent_AlsoWhenItChanges()
    {
        _routes.Route = new Route(s_gateway) { Mtu = 1200 };
        TcpConnection connection = _peer.Connect();
        Assert.Equal(1160, connection.EffectiveMss);
        connection.Route = new Route(s_gateway) { Mtu = 1000 };
        _peer.Write(3000);
        Assert.Equal([960, 960, 960, 120], _peer.Take().Select(seen => seen.Packet.PayloadLength));
    }
}

using System.Net;
using System.Net.NetworkInformation;
using Xdp.Sockets.Net;

namespace Xdp.Sockets.Tests.Net;

public class KernelRoutesTests
{
    private static readonly PhysicalAddress s_mac = PhysicalAddress.Parse("020000000042");
    private static readonly IPAddress s_own4 = IPAddress.Parse("10.0.0.1"), s_own6 = IPAddress.Parse("fd00::1");

    public KernelRoutesTests() => TestNetwork.Require();

    [SkippableFact]
    public void Find_OnLink_ViaGateway_AndNowhere()
    {
        using TestNetwork network = WithCable();
        network.Ip("route add 192.0.2.0/24 via 10.0.0.2 mtu lock 1300 advmss 1000");
        network.Ip("route add 2001:db8::/32 via fd00::2");
        network.Ip("route add 198.51.100.0/24 via inet6 fd00::2 dev v0");
        network.Ip("route add blackhole 203.0.113.0/24");
        network.Run(() =>
        {
            int v0 = NetworkInterfaceInfo.Get("v0")!.Index;
            using var routes = new KernelRoutes();
            KernelRoute? Find(string remote) => routes.Find(Flow(remote));
            var onLink = new KernelRoute(v0, IPAddress.Parse("10.0.0.2"));
            Assert.Equal(onLink, Find("10.0.0.2"));
            Assert.Equal(
                onLink with { Mtu = 1300, IsMtuLocked = true, AdvertisedMss = 1000 }, Find("192.0.2.7"));
            Assert.Equal(onLink with { NextHop = IPAddress.Parse("fd00::2") }, Find("198.51.100.9"));
            Assert.Equal(IPAddress.Parse("fd00::2"), Find("fd00::2")!.NextHop);
            Assert.Equal(IPAddress.Parse("fd00::2"), Find("2001:db8::5")!.NextHop);
            Assert.Null(Find("203.0.113.1"));
            Assert.Null(Find("10.0.0.255"));
            Assert.Null(Find("8.8.8.8"));
        });
    }

    [SkippableFact]
    public void Delivers_AsTheKernelChecks()
    {
        using TestNetwork network = WithCable();
        network.Ip("link add other type veth peer name end");
        network.Ip("link set other up");
        network.Ip("route add 192.0.2.0/24 dev other");
        network.Ip("addr add 10.0.0.9/32 dev v0");
        network.Run(() =>
        {
            int v0 = NetworkInterfaceInfo.Get("v0")!.Index;
            using var routes = new KernelRoutes();
            bool Delivers(string remote) => routes.Delivers(Flow(remote), v0);
            Assert.True(Delivers("10.0.0.2"));
            Assert.True(Delivers("fd00::2"));
            Assert.True(Delivers("192.0.2.7"));
            Assert.False(Delivers("10.0.0.9"));
            Assert.False(Delivers("127.0.0.1"));
            File.WriteAllText("/proc/sys/net/ipv4/conf/v0/rp_filter", "1");
            Assert.True(Delivers("10.0.0.2"));
            Assert.False(Delivers("192.0.2.7"));
            // Not this host's.
            Assert.False(routes.Delivers(Flow("10.0.0.2") with { Local = IPAddress.Parse("10.0.0.77") }, v0));
        });
    }

    [SkippableFact]
    public void ReadDistinctions_HasThePrefixesOfAllTables_AndOfRules()
    {
        using TestNetwork network = WithCable();
        network.Ip("route add 192.0.2.0/24 via 10.0.0.2 table 77");
        network.Ip("route add 198.51.100.0/24 nexthop via 10.0.0.2 nexthop via 10.0.0.3");
        network.Ip("rule add to 203.0.113.0/25 lookup 77");
        network.Run(() =>
        {
            using var routes = new KernelRoutes();
            RouteDistinctions found = routes.ReadDistinctions();
            Assert.False(found.DependsOnPorts);
            foreach (var (prefix, length, several) in ((string, int, bool)[])[
                ("10.0.0.0", 24, false), ("10.0.0.1", 32, false), ("10.0.0.255", 32, false), ("192.0.2.0", 24, false),
                ("198.51.100.0", 24, true), ("203.0.113.0", 25, false), ("fd00::", 64, false), ("fd00::1", 128, false)])
            {
                Assert.Contains(new RoutePrefix(IPAddress.Parse(prefix), length, several), found.Prefixes!);
            }
        });
        network.Ip("rule add sport 80 lookup 77");
        network.Run(() =>
        {
            using var routes = new KernelRoutes();
            Assert.True(routes.ReadDistinctions().DependsOnPorts);
        });
    }

    [SkippableFact]
    public void Probe_MakesTheKernelResolve_AndTheWatcherTells()
    {
        using TestNetwork network = WithCable();
        using var peer = new TestNetwork();
        network.Ip($"link set v1 netns {peer.Name}");
        peer.Ip("link set v1 address 02:00:00:00:00:42 up");
        peer.Ip("addr add 10.0.0.2/24 dev v1");
        network.Run(() =>
        {
            int v0 = NetworkInterfaceInfo.Get("v0")!.Index;
            var address = IPAddress.Parse("10.0.0.2");
            using var routes = new KernelRoutes();
            using var heard = new ManualResetEventSlim();
            using var watcher = new NetworkWatcher(
                change =>
                {
                    if (change.Neighbour is { Mac: not null } neighbour && neighbour.Address.Equals(address))
                        heard.Set();
                },
                routes: true);
            Assert.Null(routes.FindNeighbour(v0, address));
            routes.Probe(v0, address, create: false);
            Assert.Null(routes.FindNeighbour(v0, address));
            routes.Probe(v0, address, create: true);
            Assert.True(heard.Wait(TimeSpan.FromSeconds(5)));
            Assert.Equal(s_mac, routes.FindNeighbour(v0, address));
        });
    }

    [SkippableFact]
    public void RawIpSocket_SendsByTheKernelsRoutes()
    {
        using TestNetwork network = WithCable();
        network.Run(() =>
        {
            using var raw = new RawIpSocket();
            Assert.True(raw.TrySend(Packet("10.0.0.1", "10.0.0.2")));
            Assert.False(raw.TrySend(Packet("10.0.0.1", "192.0.2.1")));
            Assert.False(raw.TrySend([0x45]));
            raw.Dispose();
            Assert.False(raw.TrySend(Packet("10.0.0.1", "10.0.0.2")));
        });
    }

    private static byte[] Packet(string source, string destination)
    {
        byte[] packet = new byte[40];
        (packet[0], packet[3], packet[8], packet[9]) = (0x45, 40, 64, 6);
        IPAddress.Parse(source).GetAddressBytes().CopyTo(packet, 12);
        IPAddress.Parse(destination).GetAddressBytes().CopyTo(packet, 16);
        return packet;
    }

    private static RoutedFlow Flow(string remote)
    {
        var peer = IPAddress.Parse(remote);
        return new(peer.GetAddressBytes().Length == 4 ? s_own4 : s_own6, peer, 80, 40000);
    }

    private static TestNetwork WithCable()
    {
        var network = new TestNetwork();
        network.Ip("link add v0 type veth peer name v1");
        network.Ip("addr add 10.0.0.1/24 broadcast 10.0.0.255 dev v0");
        network.Ip("addr add fd00::1/64 dev v0 nodad");
        network.Ip("link set v0 up");
        network.Ip("link set v1 up");
        return network;
    }
}

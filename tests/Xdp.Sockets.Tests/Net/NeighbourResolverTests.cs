using System.Net;
using System.Net.NetworkInformation;
using Xdp.Sockets.Net;

namespace Xdp.Sockets.Tests.Net;

public class NeighbourResolverTests
{
    private static readonly PhysicalAddress s_mac = PhysicalAddress.Parse("020000000042");

    public NeighbourResolverTests() => TestNetwork.Require();

    [SkippableFact]
    public void Resolve_OnLink_ViaGateway_AndNowhere()
    {
        using TestNetwork network = WithCable();
        network.Ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:42 dev v0");
        network.Ip("neigh add fd00::2 lladdr 02:00:00:00:00:42 dev v0");
        network.Ip("route add 192.0.2.0/24 via 10.0.0.2");
        network.Ip("route add 2001:db8::/32 via fd00::2");
        network.Ip("route add 198.51.100.0/24 via inet6 fd00::2 dev v0");
        network.Ip("route add blackhole 203.0.113.0/24");
        network.Run(() =>
        {
            int v0 = NetworkInterfaceInfo.Get("v0")!.Index;
            using var resolver = new NeighbourResolver();
            var expected = new NextHop(v0, IPAddress.Parse("10.0.0.2"), s_mac, IPAddress.Parse("10.0.0.1"));
            Assert.Equal(expected, resolver.Resolve(IPAddress.Parse("10.0.0.2")));
            Assert.Equal(expected, resolver.Resolve(IPAddress.Parse("192.0.2.7")));
            Assert.Equal(expected, resolver.Resolve(IPAddress.Parse("::ffff:192.0.2.7"), v0));
            Assert.Equal(
                expected with { Address = IPAddress.Parse("fd00::2") },
                resolver.Resolve(IPAddress.Parse("198.51.100.9")));
            var expected6 = new NextHop(v0, IPAddress.Parse("fd00::2"), s_mac, IPAddress.Parse("fd00::1"));
            Assert.Equal(expected6, resolver.Resolve(IPAddress.Parse("fd00::2")));
            Assert.Equal(expected6, resolver.Resolve(IPAddress.Parse("2001:db8::5")));
            Assert.Null(resolver.Resolve(IPAddress.Parse("203.0.113.1")));
            Assert.Null(resolver.Resolve(IPAddress.Parse("8.8.8.8")));
        });
    }

    [SkippableFact]
    public void Probe_MakesTheKernelResolve()
    {
        using TestNetwork network = WithCable();
        using var peer = new TestNetwork();
        network.Ip($"link set v1 netns {peer.Name}");
        peer.Ip("link set v1 address 02:00:00:00:00:42 up");
        peer.Ip("addr add 10.0.0.2/24 dev v1");
        network.Run(() =>
        {
            using var resolver = new NeighbourResolver();
            NextHop hop = resolver.Resolve(IPAddress.Parse("10.0.0.2"))!;
            Assert.Null(hop.Mac);
            resolver.Probe(hop);
            Assert.True(
                SpinWait.SpinUntil(() => resolver.Resolve(hop.Address)!.Mac is not null, TimeSpan.FromSeconds(5)));
            Assert.Equal(s_mac, resolver.Resolve(hop.Address)!.Mac);
        });
    }

    private static TestNetwork WithCable()
    {
        var network = new TestNetwork();
        network.Ip("link add v0 type veth peer name v1");
        network.Ip("addr add 10.0.0.1/24 dev v0");
        network.Ip("addr add fd00::1/64 dev v0 nodad");
        network.Ip("link set v0 up");
        network.Ip("link set v1 up");
        return network;
    }
}

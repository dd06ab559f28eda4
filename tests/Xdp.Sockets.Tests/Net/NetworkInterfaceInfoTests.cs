using System.Net;
using System.Net.NetworkInformation;
using Xdp.Sockets.Net;

namespace Xdp.Sockets.Tests.Net;

public class NetworkInterfaceInfoTests
{
    public NetworkInterfaceInfoTests() => TestNetwork.Require();

    [SkippableFact]
    public void Get_Veth_TellsEverything()
    {
        using var network = new TestNetwork();
        network.Ip(
            "link add v0 numrxqueues 4 numtxqueues 2 mtu 1400 address 02:00:00:00:00:aa type veth "
            + "peer name v1 numrxqueues 2 numtxqueues 1");
        network.Ip("link add br0 type bridge");
        network.Ip("link set v1 master br0");
        network.Ip("addr add 10.0.0.1/24 dev v0");
        network.Ip("addr add fd00::1/64 dev v0 nodad");
        network.Ip("link set v0 up");
        network.Run(() =>
        {
            NetworkInterfaceInfo v0 = NetworkInterfaceInfo.Get("v0")!, bridge = NetworkInterfaceInfo.Get("br0")!,
                v1 = NetworkInterfaceInfo.Get("v1")!;
            Assert.Equal("veth", v0.Kind);
            Assert.Equal("veth", v0.Driver);
            Assert.Equal(1400, v0.Mtu);
            Assert.Equal(PhysicalAddress.Parse("0200000000AA"), v0.Mac);
            Assert.Equal((4, 2), (v0.RxQueues, v0.TxQueues));
            Assert.True(v0.IsUp);
            Assert.False(v0.IsRunning); // the peer is down
            Assert.False(v0.IsLoopback);
            Assert.Equal(0, v0.MasterIndex);
            Assert.Null(v0.Xdp);
            Assert.Contains(
                new InterfaceAddress(IPAddress.Parse("10.0.0.1"), 24, AddressScope.Global, false), v0.Addresses);
            Assert.Contains(
                new InterfaceAddress(IPAddress.Parse("fd00::1"), 64, AddressScope.Global, false), v0.Addresses);

            Assert.Equal("bridge", bridge.Kind);
            Assert.Equal(bridge.Index, v1.MasterIndex);
            Assert.Equal(v0, NetworkInterfaceInfo.Get(v0.Index)! with { Addresses = v0.Addresses });

            NetworkInterfaceInfo lo = NetworkInterfaceInfo.Get("lo")!;
            Assert.True(lo.IsLoopback);
            Assert.True(lo.IsRunning);
            Assert.Null(lo.Kind);
            Assert.Contains(lo.Addresses, a => a.Address.Equals(IPAddress.Loopback) && a.PrefixLength == 8
                && a.Scope == AddressScope.Host);
            Assert.Null(NetworkInterfaceInfo.Get("nothing"));
        });
        Assert.Contains("v0", network.Ip("-o link show"), StringComparison.Ordinal);
    }

    /// <summary>ethtool is the oracle.</summary>
    [SkippableFact]
    public void Get_TellsWhetherTagsAreTakenOut_AndWhatIsBelow()
    {
        TestNetwork.Require("ethtool");
        using var network = new TestNetwork();
        network.Ip("link add v0 type veth peer name v1");
        var seen = new HashSet<bool>();
        foreach (string state in (string[])["on", "off"])
        {
            network.Exec($"ethtool -K v0 rxvlan {state}");
            bool told = network.Exec("ethtool -k v0").Contains("rx-vlan-offload: on", StringComparison.Ordinal);
            network.Run(() => Assert.Equal(told, NetworkInterfaceInfo.Get("v0")!.StripsVlanTags));
            seen.Add(told);
        }
        Assert.Equal(2, seen.Count);
        network.Run(() =>
        {
            NetworkInterfaceInfo v0 = NetworkInterfaceInfo.Get("v0")!, v1 = NetworkInterfaceInfo.Get("v1")!;
            Assert.Equal((v1.Index, v0.Index), (v0.LowerIndex, v1.LowerIndex));
            Assert.Equal(0, NetworkInterfaceInfo.Get("lo")!.LowerIndex);
        });
    }

    [SkippableFact]
    public void ReadRxQueues_FollowsTheChannels()
    {
        TestNetwork.Require("ethtool");
        using var network = new TestNetwork();
        network.Ip("link add v0 numrxqueues 4 numtxqueues 2 type veth peer name v1");
        network.Ip("link add br0 type bridge");
        Assert.Equal(4, network.Run(() => NetworkInterfaceInfo.ReadRxQueues("v0")));
        network.Exec("ethtool -L v0 rx 3");
        Assert.Equal(3, network.Run(() => NetworkInterfaceInfo.ReadRxQueues("v0")));
        Assert.Equal(3, network.Run(() => NetworkInterfaceInfo.Get("v0")!.RxQueues));
        Assert.Null(network.Run(() => NetworkInterfaceInfo.ReadRxQueues("br0")));
        Assert.Null(network.Run(() => NetworkInterfaceInfo.ReadRxQueues("nothing")));
    }

    [SkippableFact]
    public void Get_ByAnotherName_FindsTheInterface()
    {
        const string Long = "a-name-of-an-interface-that-is-longer-than-fifteen-characters";
        using var network = new TestNetwork();
        network.Ip("link add v0 type veth peer name v1");
        network.Ip($"link property add dev v0 altname wan altname {Long}");
        network.Run(() =>
        {
            NetworkInterfaceInfo v0 = NetworkInterfaceInfo.Get("v0")!;
            Assert.Equal(["wan", Long], v0.AltNames);
            Assert.Equal(v0.Index, NetworkInterfaceInfo.Get("wan")?.Index);
            Assert.Equal(v0.Index, NetworkInterfaceInfo.Get(Long)?.Index);
            Assert.Empty(NetworkInterfaceInfo.Get("v1")!.AltNames);
        });
    }

    [SkippableFact]
    public void LinkLocalAddress_CarriesItsScope()
    {
        using var network = new TestNetwork();
        network.Ip("link add v0 type veth peer name v1");
        network.Ip("addr add fe80::77/64 dev v0");
        network.Run(() =>
        {
            NetworkInterfaceInfo v0 = NetworkInterfaceInfo.Get("v0")!;
            InterfaceAddress address = Assert.Single(v0.Addresses, a => a.Address.IsIPv6LinkLocal);
            Assert.Equal(v0.Index, address.Address.ScopeId);
            Assert.Equal(AddressScope.Link, address.Scope);
        });
    }

    [SkippableFact]
    public void Namespace_OfATest_IsNotTheHosts()
    {
        using var network = new TestNetwork();
        (ulong id, bool initial) = network.Run(() => (NetworkNamespace.CurrentId, NetworkNamespace.IsInitial));
        Assert.NotEqual(0ul, id);
        Assert.NotEqual(NetworkNamespace.CurrentId, id);
        Assert.False(initial);
    }
}

using System.Net;
using System.Net.NetworkInformation;
using Kestrel.Transport.Xdp.Internal.Interfaces;
using Xdp.Sockets.Net;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Tests.Interfaces;

public class EngineFactsTests
{
    // /proc/net/tcp, and a line as it is in tcp6.
    private static readonly string[] Table =
    [
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
        "   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0",
        "   1: 0100000A:1F90 0200000A:C001 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 20 4 30 9 -1",
        "   2: 0100000A:1F91 0200000A:C002 06 00000000:00000000 00:00000000 00000000     0        0 0 3 0 20 4 30 9 -1",
        "   3: 0100000A:1F92 0100000A:C003 01 00000000:00000000 00:00000000 00000000     0        0 4 1 0 20 4 30 9 -1",
        "   4: 0100007F:1F92 0100007F:C004 01 00000000:00000000 00:00000000 00000000     0        0 5 1 0 20 4 30 9 -1",
        "   5: 0100000A:0016 0200000A:C005 01 00000000:00000000 00:00000000 00000000     0        0 6 1 0 20 4 30 9 -1",
        "   6: 0000000000000000FFFF00000100000A:1F93 0000000000000000FFFF00000300000A:C006 01 00000000:00000000 "
            + "00:00000000 00000000     0        0 7 1 0",
    ];

    [Fact]
    public void KernelSockets_OnlyConnectionsFromOutside()
    {
        var found = new HashSet<(IpAddr, int)>();
        IpAddr own = IpAddr.From(IPAddress.Parse("10.0.0.1"));
        KernelSockets.Read(Table, new HashSet<int> { 8080, 8081, 8082, 8083 }, new HashSet<IpAddr> { own }, found);
        Assert.Equal([(own, 8080), (own, 8081), (own, 8083)], found.OrderBy(f => f.Item2));
    }

    [Fact]
    public void FrameBudget_IsSharedAndGivenBack()
    {
        var budget = new FrameBudget();
        const long Bytes = 4096 * 2048;
        Assert.Equal(2048, budget.Take(8192, 2, Bytes));
        Assert.Equal(2048, budget.Take(8192, 1, Bytes));
        Assert.Equal(0, budget.Take(8192, 1, Bytes));
        budget.Return(2048);
        Assert.Equal(1024, budget.Take(1024, 1, Bytes));
    }

    [Fact]
    public void FrameBudget_MemoryLockLimit_IsSharedInWholePages()
    {
        const long Plenty = 512 << 20;
        var budget = new FrameBudget(() => 8 << 20);
        int[] taken = [.. new[] { 3, 2, 1 }.Select(queues => budget.Take(16384, queues, Plenty))];
        Assert.Equal(4096, taken.Sum());
        int framesPerPage = Math.Max(1, Environment.SystemPageSize / 2048);
        Assert.All(taken, frames => Assert.Equal(0, frames % framesPerPage));
        Assert.InRange(taken.Min(), 4096 / 3 - framesPerPage, 4096 / 3);
        Assert.Equal(0, budget.Take(256, 1, Plenty));
        Assert.StartsWith(
            "the memory-lock limit (8192 KiB, 8192 in use) leaves no frames", budget.WhyNone(Plenty),
            StringComparison.Ordinal);
        Assert.StartsWith("MemoryBudget (1 MiB, 8 in use)", budget.WhyNone(1 << 20), StringComparison.Ordinal);
    }

    [Fact]
    public void Selector_Default_LeavesOutWhatIsNotOurs()
    {
        NetworkInterfaceInfo[] all =
        [
            Device("lo", "127.0.0.1") with { IsLoopback = true },
            Device("eth0", "10.0.0.1"),
            Device("docker0", "172.17.0.1") with { Kind = "bridge" },
            Device("eth1", "10.0.1.1") with { MasterIndex = 7 },
            Device("eth2", "10.0.2.1") with { IsUp = false },
            Device("wg0", "10.0.3.1") with { Kind = "wireguard", Mac = PhysicalAddress.None },
            Device("veth0", "10.0.4.1") with { Kind = "veth" },
            Device("eth3"),
        ];
        Assert.Equal(["eth0", "veth0"], InterfaceSelector.ByDefault(new IPEndPoint(IPAddress.Any, 80), all).Names);
        Assert.Equal(["eth0"], InterfaceSelector.ByDefault(new IPEndPoint(IPAddress.Parse("10.0.0.1"), 80), all).Names);
        InterfaceSelector.Selection none =
            InterfaceSelector.ByDefault(new IPEndPoint(IPAddress.Parse("172.17.0.1"), 80), all);
        Assert.Empty(none.Names);
        Assert.Contains("docker0 is a bridge", none.Reason, StringComparison.Ordinal);
    }

    [Fact]
    public void Selector_Named_FollowsTheAddress()
    {
        NetworkInterfaceInfo[] all = [Device("eth0", "10.0.0.1"), Device("eth1", "10.0.1.1")];
        var options = new XdpTransportOptions { Interfaces = { "eth1", "eth9" } };
        Assert.Equal(
            ["eth1", "eth9"], InterfaceSelector.Named(options, new IPEndPoint(IPAddress.IPv6Any, 80), all).Names);
        Assert.Equal(
            ["eth1"], InterfaceSelector.Named(options, new IPEndPoint(IPAddress.Parse("10.0.1.1"), 80), all).Names);
        InterfaceSelector.Selection none =
            InterfaceSelector.Named(options, new IPEndPoint(IPAddress.Parse("10.0.0.1"), 80), all);
        Assert.Empty(none.Names);
        Assert.Contains("belongs to eth0", none.Reason, StringComparison.Ordinal);
    }

    /// <summary>No packet arrives where they are kept, so the others serve them.</summary>
    [Theory]
    [InlineData("lo")]
    [InlineData("dummy0")]
    public void Selector_AddressOnLoopbackOrDummy_IsServedOnAnyInterface(string keeper)
    {
        NetworkInterfaceInfo[] all =
        [
            Device("eth0", "10.0.0.1"),
            Device(keeper, "10.0.9.9", "127.0.0.1", "::1", "2001:db8::9") with
            {
                IsLoopback = keeper == "lo",
                Kind = keeper == "lo" ? null : "dummy",
            },
            Device("eth1", "10.0.1.1", "fe80::1"),
        ];
        var options = new XdpTransportOptions { Interfaces = { "eth0", "eth1" } };
        IPEndPoint virtualAddress = IPEndPoint.Parse("10.0.9.9:80");
        Assert.Equal(["eth0", "eth1"], InterfaceSelector.Named(options, virtualAddress, all).Names);
        Assert.Equal(["eth0", "eth1"], InterfaceSelector.ByDefault(virtualAddress, all).Names);
        Assert.Equal(
            ["10.0.9.9", "2001:db8::9"],
            InterfaceSelector.Elsewhere(all[0], all, LocalAddresses.Interface).Select(a => $"{a.Address}"));
        Assert.Equal(
            ["10.0.9.9", "2001:db8::9", "10.0.1.1"],
            InterfaceSelector.Elsewhere(all[0], all, LocalAddresses.All).Select(a => $"{a.Address}"));
    }

    [Fact]
    public void Selector_AllAddresses_AnyInterfaceServesThem()
    {
        NetworkInterfaceInfo[] all = [Device("eth0", "10.0.0.1"), Device("eth1", "10.0.1.1")];
        var options = new XdpTransportOptions { Interfaces = { "eth1" }, LocalAddresses = LocalAddresses.All };
        IPEndPoint other = IPEndPoint.Parse("10.0.0.1:80");
        Assert.Equal(["eth1"], InterfaceSelector.Named(options, other, all).Names);
        Assert.Equal(["eth0", "eth1"], InterfaceSelector.ByDefault(other, all, LocalAddresses.All).Names);
    }

    [Fact]
    public void Selector_SameInterfaceTwice_IsOne()
    {
        NetworkInterfaceInfo[] all =
            [Device("eth0", "10.0.0.1") with { AltNames = ["enp1s0", "wan"] }, Device("eth1", "10.0.1.1")];
        var options = new XdpTransportOptions { Interfaces = { "eth0", "wan", "eth9", "enp1s0", "eth9", "eth0" } };
        Assert.Equal(["eth0", "eth9"], InterfaceSelector.Named(options, new IPEndPoint(IPAddress.Any, 80), all).Names);
        var byOtherName = new XdpTransportOptions { Interfaces = { "wan" } };
        Assert.Equal(
            ["eth0"], InterfaceSelector.Named(byOtherName, IPEndPoint.Parse("10.0.0.1:80"), all).Names);
    }

    [Fact]
    public void Selector_Default_NeedsAnAddressThatTheEndpointListensOn()
    {
        NetworkInterfaceInfo[] all = [Device("eth0", "2001:db8::1"), Device("eth1", "10.0.1.1"), Device("eth2")];
        Assert.Equal(["eth1"], InterfaceSelector.ByDefault(new IPEndPoint(IPAddress.Any, 80), all).Names);
        Assert.Equal(["eth0", "eth1"], InterfaceSelector.ByDefault(new IPEndPoint(IPAddress.IPv6Any, 80), all).Names);
    }

    private static NetworkInterfaceInfo Device(string name, params string[] addresses) => new()
    {
        Index = name.GetHashCode(StringComparison.Ordinal),
        Name = name,
        Mac = PhysicalAddress.Parse("02:00:00:00:00:01"),
        Mtu = 1500,
        IsUp = true,
        IsRunning = true,
        IsLoopback = false,
        Kind = null,
        Driver = null,
        RxQueues = 1,
        TxQueues = 1,
        MasterIndex = 0,
        Xdp = null,
        Addresses = [
            .. addresses.Select(a => new InterfaceAddress(IPAddress.Parse(a), 24, AddressScope.Global, false))],
    };
}

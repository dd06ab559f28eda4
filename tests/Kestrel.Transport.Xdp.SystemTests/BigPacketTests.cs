using System.Net;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>
/// Packets that do not fit a frame: what the client's TSO and GRO put together, which generic mode hands on whole, and
/// those of an MTU of 9000.
/// </summary>
[Collection(DirectCollection.Name)]
public sealed class BigPacketTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output)
{
    private const string ClientInterface = "cli0";

    internal static HelloWebSettings In(string attachMode) =>
        new() { Environment = { ["Kestrel__Xdp__AttachMode"] = attachMode } };

    [SkippableFact]
    public async Task GenericMode_WithTheClientsSuperPackets_Carries2MegabytesEachWay()
    {
        Lab.Require("curl", "ethtool");
        string offloads = (await lab.Client.RunAsync("ethtool", "-k", ClientInterface)).Succeeded();
        Assert.Contains("tcp-segmentation-offload: on", offloads, StringComparison.Ordinal);
        await OnXdpAsync(lab.Server, In("Generic"), async server =>
        {
            await TransferTests.EachWayAsync(lab, server, bytes: 2_000_000, seconds: 10);
            await AssertTookBigPacketsAsync(server);
        });
    }

    [SkippableTheory]
    [InlineData("Native")]
    [InlineData("Generic")]
    public async Task MtuOf9000_Carries100MegabytesEachWay(string attachMode)
    {
        Lab.Require("curl", "ip");
        try
        {
            await SetMtuAsync(9000);
            await OnXdpAsync(lab.Server, In(attachMode), async server =>
            {
                await TransferTests.EachWayAsync(lab, server, bytes: 100_000_000, seconds: 100);
                await AssertTookBigPacketsAsync(server);
            });
        }
        finally
        {
            await SetMtuAsync(1500);
        }
    }

    internal static async Task AssertTookBigPacketsAsync(HelloWebServer server)
    {
        Counters counters = await server.CountersAsync();
        Assert.True(counters.Sum("kestrel.xdp.packets.chained", "kestrel.xdp.result=taken") > 0);
        Assert.Equal(0, counters.Sum("kestrel.xdp.packets.chained", "kestrel.xdp.result=dropped"));
        Assert.Equal(0, counters.Sum("kestrel.xdp.socket.drops", "kestrel.xdp.reason=rx_dropped"));
    }

    /// <summary>
    /// A device that is no veth: what the kernel hands on there has partial checksums too, as what GRO has put together
    /// has on any device.
    /// </summary>
    [SkippableFact]
    public async Task GenericMode_OnAMacvlan_Carries2MegabytesEachWay()
    {
        Lab.Require("curl", "ip");
        const string Device = "mac0", OwnAddressesOnly = "net/ipv4/conf/all/arp_ignore";
        try
        {
            lab.Server.Set(OwnAddressesOnly, "1");
            await lab.Server.IpAsync($"link add {Device} link {Lab.Interface} type macvlan");
            await lab.Server.IpAsync($"addr add 10.77.200.1/24 dev {Device}");
            await lab.Server.IpAsync($"link set {Device} up");
            await lab.Client.IpAsync($"addr add 10.77.200.2/24 dev {ClientInterface}");
            await OnXdpAsync(lab.Server, In("Generic") with { Interfaces = [Device] }, async server =>
            {
                await TransferTests.EachWayAsync(
                    lab, server, bytes: 2_000_000, seconds: 10, IPAddress.Parse("10.77.200.1"), Device);
                await AssertTookBigPacketsAsync(server);
            });
        }
        finally
        {
            lab.Server.Set(OwnAddressesOnly, "0");
            await lab.Server.IpAsync($"link del {Device}");
            await lab.Client.IpAsync($"addr del 10.77.200.2/24 dev {ClientInterface}");
        }
    }

    private Task SetMtuAsync(int mtu) => SetMtuAsync(lab, mtu);

    internal static async Task SetMtuAsync(Lab lab, int mtu)
    {
        await lab.Server.IpAsync($"link set {Lab.Interface} mtu {mtu}");
        await lab.Client.IpAsync($"link set {ClientInterface} mtu {mtu}");
    }
}

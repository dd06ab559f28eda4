using System.Net;
using System.Net.Sockets;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>Addresses that are kept on the loopback, as the servers behind a balancer keep the balancer's.</summary>
[Collection(DirectCollection.Name)]
public sealed class VirtualAddressTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output), IAsyncLifetime
{
    private const int Port = 8080;

    private static readonly IPAddress s_ipv4 = IPAddress.Parse("10.77.5.5"), s_ipv6 = IPAddress.Parse("fd77:5::5");

    public async Task InitializeAsync()
    {
        if (Requirements.MissingForLab is not null)
            return;
        foreach ((IPAddress address, IPAddress gateway) in ((IPAddress, IPAddress)[])[
            (s_ipv4, Lab.ServerIp4), (s_ipv6, Lab.ServerIp6)])
        {
            await lab.Server.IpAsync($"addr replace {address} dev lo");
            await lab.Client.IpAsync($"route replace {address} via {gateway}");
        }
    }

    public async Task DisposeAsync()
    {
        if (Requirements.MissingForLab is not null)
            return;
        foreach (IPAddress address in (IPAddress[])[s_ipv4, s_ipv6])
        {
            await lab.Server.RunAsync("ip", "addr", "del", $"{address}", "dev", "lo");
            await lab.Client.RunAsync("ip", "route", "del", $"{address}");
        }
    }

    [SkippableTheory]
    [InlineData("10.77.5.5")]
    [InlineData("fd77:5::5")]
    public async Task EndpointThatNamesTheAddress_IsServed(string address)
    {
        Lab.Require();
        await using TransportHost host = Host(LocalAddresses.Interface);
        host.Bind(new IPEndPoint(IPAddress.Parse(address), Port));
        Assert.True(await IsOnXdpAsync(host, IPAddress.Parse(address)));
    }

    [SkippableTheory]
    [InlineData(LocalAddresses.Interface, false)]
    [InlineData(LocalAddresses.All, true)]
    public async Task WildcardEndpoint_IsServedThere_WhereAllAddressesAreMeant(LocalAddresses which, bool served)
    {
        Lab.Require();
        await using TransportHost host = Host(which);
        host.Bind(new IPEndPoint(IPAddress.IPv6Any, Port));
        foreach (IPAddress address in (IPAddress[])[s_ipv4, s_ipv6])
            Assert.Equal(served, await IsOnXdpAsync(host, address));
        Assert.True(await IsOnXdpAsync(host, Lab.ServerIp4));
    }

    /// <summary>A balancer that takes a server out, and back in.</summary>
    [SkippableFact]
    public async Task AddressThatComes_IsServedFromThenOn()
    {
        Lab.Require();
        await using TransportHost host = Host(LocalAddresses.All);
        await lab.Server.IpAsync($"addr del {s_ipv4} dev lo");
        host.Bind(new IPEndPoint(IPAddress.Any, Port));
        Assert.True(await IsOnXdpAsync(host, Lab.ServerIp4));
        await lab.Server.IpAsync($"addr add {s_ipv4} dev lo");
        await Eventually.TrueAsync(() => IsOnXdpAsync(host, s_ipv4), () => "Sockets serve the address.");
    }

    private TransportHost Host(LocalAddresses which) => new(lab.Server, options =>
    {
        options.Interfaces.Add(Lab.Interface);
        options.LocalAddresses = which;
    });

    private async Task<bool> IsOnXdpAsync(TransportHost host, IPAddress address)
    {
        using Socket client = await lab.Client.ConnectAsync(new IPEndPoint(address, Port));
        return await host.AcceptedOnXdpAsync();
    }
}

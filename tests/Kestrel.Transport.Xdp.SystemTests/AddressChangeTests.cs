using System.Net;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Shared;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>Addresses that come and go while the app runs.</summary>
[Collection(DirectCollection.Name)]
public sealed class AddressChangeTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output)
{
    /// <summary>
    /// As DHCP and VRRP do it: between two packets of a connection, its address has gone and come back.
    /// </summary>
    [SkippableTheory]
    [InlineData("xdp")]
    [InlineData("sockets")]
    public async Task AddressThatGoesAndComesBack_ConnectionsGoOn(string transport)
    {
        Lab.Require();
        const int Connections = 16, Rounds = 10, FlapsInARound = 50;
        string batch = Path.GetTempFileName();
        await File.WriteAllLinesAsync(batch, Enumerable.Repeat(
            $"addr del {Lab.ServerIp4}/24 dev {Lab.Interface}\naddr add {Lab.ServerIp4}/24 dev {Lab.Interface}",
            FlapsInARound));
        try
        {
            await WithServerAsync(lab.Server, HelloWebSettings.Over(transport), async server =>
            {
                await server.CountersAsync();
                long resets = lab.Server.KernelTcp().ResetsSent;
                using var end = new CancellationTokenSource();
                Task<int>[] clients = [.. Enumerable.Range(0, Connections).Select(async _ =>
                {
                    using RawHttp http = await RawHttp.ConnectAsync(lab.Client, server.EndPoint);
                    int requests = 0;
                    do
                    {
                        Assert.Equal(transport, (await http.FactsAsync()).Transport);
                        requests++;
                    }
                    while (!end.IsCancellationRequested);
                    return requests;
                })];
                for (int round = 0; round < Rounds; round++)
                    (await lab.Server.RunAsync("ip", "-batch", batch)).Succeeded();
                await end.CancelAsync();
                int[] requests = await Task.WhenAll(clients).WaitAsync(Command.Limit);
                Output.WriteLine($"requests: {string.Join(' ', requests)}");
                Assert.Equal(resets, lab.Server.KernelTcp().ResetsSent);
                await server.StopAsync();
            });
        }
        finally
        {
            File.Delete(batch);
        }
    }

    [SkippableTheory]
    [InlineData("xdp")]
    [InlineData("sockets")]
    public async Task AThousandAddresses_AreServed_AndConnectionsGoOn(string transport)
    {
        Lab.Require();
        const int Addresses = 1000, InANetwork = 250;
        string[] addresses = [.. Enumerable.Range(0, Addresses)
            .Select(i => $"10.78.{i / InANetwork}.{i % InANetwork + 1}")];
        string add = Path.GetTempFileName(), remove = Path.GetTempFileName();
        await File.WriteAllLinesAsync(add, addresses.Select(a => $"addr add {a}/32 dev {Lab.Interface}"));
        await File.WriteAllLinesAsync(remove, addresses.Select(a => $"addr del {a}/32 dev {Lab.Interface}"));
        (await lab.Client.RunAsync("ip", "route", "add", "10.78.0.0/16", "via", $"{Lab.ServerIp4}")).Succeeded();
        try
        {
            await WithServerAsync(lab.Server, HelloWebSettings.Over(transport), async server =>
            {
                await server.CountersAsync();
                long resets = lab.Server.KernelTcp().ResetsSent;
                using RawHttp open = await RawHttp.ConnectAsync(lab.Client, server.EndPoint);
                Assert.Equal(transport, (await open.FactsAsync()).Transport);
                var kept = new List<RawHttp>();
                for (int time = 0; time < 2; time++)
                {
                    (await lab.Server.RunAsync("ip", "-batch", add)).Succeeded();
                    foreach (string address in (string[])[addresses[0], addresses[Addresses / 2], addresses[^1]])
                    {
                        var endpoint = new IPEndPoint(IPAddress.Parse(address), server.EndPoint.Port);
                        await Eventually.NullAsync(async () =>
                        {
                            RawHttp http = await RawHttp.ConnectAsync(lab.Client, endpoint);
                            ConnectionFacts facts = await http.FactsAsync();
                            if (facts.Transport == transport)
                                kept.Add(http);
                            else
                                http.Dispose();
                            return facts.Transport == transport ? null : $"{facts}";
                        });
                    }
                    foreach (RawHttp http in kept)
                        Assert.Equal(transport, (await http.FactsAsync()).Transport);
                    (await lab.Server.RunAsync("ip", "-batch", remove)).Succeeded();
                    Assert.Equal(transport, (await open.FactsAsync()).Transport);
                }
                kept.ForEach(http => http.Dispose());
                Assert.Equal(resets, lab.Server.KernelTcp().ResetsSent);
                await server.StopAsync();
            });
        }
        finally
        {
            (await lab.Client.RunAsync("ip", "route", "del", "10.78.0.0/16")).Succeeded();
            File.Delete(add);
            File.Delete(remove);
        }
    }
}

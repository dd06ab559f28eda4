using System.Net.Http;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Shared;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>The interface goes under load, and comes back.</summary>
public sealed class InterfaceLossTests(InterfaceLossTests.LossLab lab, ITestOutputHelper output)
    : SystemTest(output), IClassFixture<InterfaceLossTests.LossLab>
{
    /// <summary>Of its own, since what it is made of does not outlive the test.</summary>
    public sealed class LossLab() : Lab("direct", queues: 3);

    [SkippableFact]
    public async Task InterfaceGone_UnderLoad_SocketsServe_UntilItIsBack()
    {
        Lab.Require("wrk");
        await WithServerAsync(lab.Server, new HelloWebSettings(), async server =>
        {
            using var endLoad = new CancellationTokenSource();
            Task<CommandResult> load = Command.RunAsync(
                lab.Client.Inside("wrk", "-t1", "-c64", "-d60", $"{server.Url("/bytes/100000")}"), kill: endLoad.Token);
            await Eventually.NullAsync(async () =>
            {
                double packets = (await server.CountersAsync()).PacketsIn;
                return packets > 1_000 ? null : $"Only {packets} packets came.";
            });
            (await lab.Server.RunAsync("ip", "link", "del", Lab.Interface)).Succeeded();
            using (HttpClient local = lab.Server.HttpClient())
                (await FactsAsync(local, server.Url("/connection", System.Net.IPAddress.Loopback))).AssertOnCompanion();
            await endLoad.CancelAsync();
            await load;

            (await lab.Server.RunAsync(
                "ip", "link", "add", Lab.Interface, "type", "veth", "peer", "name", "cli0", "netns", lab.Client.Name))
                .Succeeded();
            (await lab.Server.RunAsync("ip", "addr", "add", $"{Lab.ServerIp4}/24", "dev", Lab.Interface)).Succeeded();
            (await lab.Client.RunAsync("ip", "addr", "add", "10.77.0.2/24", "dev", "cli0")).Succeeded();
            (await lab.Client.RunAsync("ip", "link", "set", "cli0", "up")).Succeeded();
            (await lab.Server.RunAsync("ip", "link", "set", Lab.Interface, "up")).Succeeded();
            await Eventually.TrueAsync(
                () => Task.FromResult(
                    server.Lines.Any(line => line.Contains("is now served over AF_XDP", StringComparison.Ordinal))),
                () => server.Log);
            using (HttpClient remote = lab.Client.HttpClient())
                (await FactsAsync(remote, server.Url("/connection", Lab.ServerIp4))).AssertOnXdp();
            await server.StopAsync();
            Assert.DoesNotContain(server.Lines, line => line.StartsWith("fail:", StringComparison.Ordinal)
                || line.Contains("ended abnormally", StringComparison.Ordinal));
        });
    }
}

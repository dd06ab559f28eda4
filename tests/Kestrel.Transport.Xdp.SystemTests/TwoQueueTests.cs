using Kestrel.Transport.Xdp.SystemTests.Support;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>Connections spread over the NIC's queues, each with a stack of its own.</summary>
[Collection(TwoQueueCollection.Name)]
public sealed class TwoQueueTests(TwoQueueLab lab, ITestOutputHelper output) : SystemTest(output)
{
    [SkippableFact]
    public async Task Connections_SpreadOverBothQueues_AndStayOnTheirs()
    {
        Lab.Require();
        const int Connections = 64, Requests = 20;
        await OnXdpAsync(lab, async server =>
        {
            int[] queues = await Task.WhenAll(Enumerable.Range(0, Connections).Select(async _ =>
            {
                using RawHttp http = await RawHttp.ConnectAsync(lab.Client, server.EndPoint);
                int? queue = null;
                for (int i = 0; i < Requests; i++)
                {
                    ConnectionFacts facts = await http.FactsAsync();
                    facts.AssertOnXdp();
                    queue ??= facts.Queue;
                    Assert.Equal(queue, facts.Queue);
                }
                return queue!.Value;
            }));
            Assert.Equal([0, 1], queues.Distinct().Order());
        });
    }

    [SkippableFact]
    public async Task Wrk_HasNoSocketErrors()
    {
        Lab.Require("wrk");
        await OnXdpAsync(lab, async server =>
        {
            string report = (await lab.Client.RunAsync("wrk", "-t2", "-c64", "-d3", $"{server.Url("/plaintext")}"))
                .Succeeded();
            Output.WriteLine(report);
            WrkReport.AssertNoErrors(report);
        });
    }

    [SkippableFact]
    public async Task Transfers_OnBothQueuesAtOnce_ArriveUnchanged()
    {
        Lab.Require();
        const int Connections = 8, Bytes = 5_000_000;
        await OnXdpAsync(lab, server => Task.WhenAll(Enumerable.Range(0, Connections).Select(async _ =>
        {
            using RawHttp http = await RawHttp.ConnectAsync(lab.Client, server.EndPoint);
            (await http.FactsAsync()).AssertOnXdp();
            await http.WriteAsync(RawHttp.Get($"/bytes/{Bytes}"));
            Assert.Equal(Bytes, await http.ReadHeadAsync());
            await http.ReadPatternAsync(0, Bytes);
        })));
    }
}

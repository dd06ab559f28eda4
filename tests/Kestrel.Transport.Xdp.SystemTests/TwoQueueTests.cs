using System.Security.Cryptography;
using System.Text;
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

    /// <summary>
    /// Packets of several frames that come to the other queue than their connection's, as when RSS is changed.
    /// </summary>
    [SkippableFact]
    public async Task BigPackets_ThatMoveToTheOtherQueue_ArriveUnchanged()
    {
        Lab.Require();
        const int Bytes = 2_000_000;
        byte[] body = new byte[Bytes];
        Pattern.Fill(body, seed: 1);
        try
        {
            await BigPacketTests.SetMtuAsync(lab, 9000);
            await OnXdpAsync(lab, async server =>
            {
                await SendByAsync(queue: 0);
                using RawHttp http = await RawHttp.ConnectAsync(lab.Client, server.EndPoint);
                Assert.Equal(0, (await http.FactsAsync()).Queue);

                await SendByAsync(queue: 1);
                await http.WriteAsync($"POST /upload HTTP/1.1\r\nHost: lab\r\nContent-Length: {Bytes}\r\n\r\n");
                await http.WriteAsync(body);
                await http.ReadHeadAsync();
                string answer = Encoding.UTF8.GetString(await http.ReadChunkedAsync());
                Assert.Equal(Convert.ToHexStringLower(SHA256.HashData(body)), TransferTests.Sha256(answer));

                Counters counters = await server.CountersAsync();
                Assert.True(counters.Sum("kestrel.xdp.segments.moved", "kestrel.xdp.result=passed_on") > 0);
                await BigPacketTests.AssertTookBigPacketsAsync(server);
            });
        }
        finally
        {
            await SendByAsync(queue: null);
            await BigPacketTests.SetMtuAsync(lab, 1500);
        }
    }

    // The client's transmit queue is the server's receive queue. Null: as by default.
    private async Task SendByAsync(int? queue)
    {
        string all = $"{(1 << Environment.ProcessorCount) - 1:x}";
        string AllOrNone(int number) => queue == number ? all : "0";
        string script = $"cd /sys/class/net/cli0/queues; echo {AllOrNone(0)} > tx-0/xps_cpus; "
            + $"echo {AllOrNone(1)} > tx-1/xps_cpus";
        (await lab.Client.RunAsync("sh", "-ec", script)).Succeeded();
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

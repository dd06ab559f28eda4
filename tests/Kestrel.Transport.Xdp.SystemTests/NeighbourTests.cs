using Kestrel.Transport.Xdp.SystemTests.Support;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>
/// Fast connections beside requests that keep the thread pool waiting or busy. A queue's turn is an item of that pool:
/// it must neither wait for slow handlers, nor be lost behind busy ones.
/// </summary>
[Collection(DirectCollection.Name)]
public sealed class NeighbourTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output)
{
    private const int Neighbours = 10;

    /// <summary>
    /// A handler that awaits holds no thread, so the pool comes to the turn in time. Were the turn to wait for such
    /// handlers' answers, it would be late for nearly every request.
    /// </summary>
    [SkippableFact]
    public async Task FourFastConnections_BesideSlowAwaits_PoolKeepsUp()
    {
        Lab.Require("wrk");
        await OnXdpAsync(lab, async server =>
        {
            double before = await OverdueAsync(server);
            int answered = await BesideAsync(server, http => http.GetStringAsync(server.Url("/delay/100")));
            double overdue = await OverdueAsync(server) - before;
            Output.WriteLine($"{answered} answers, {overdue} turns overdue");
            Assert.True(overdue < answered / 10.0, $"{overdue} turns were overdue for {answered} answers.");
        });
    }

    [SkippableFact]
    public async Task FourFastConnections_BesideBusyHandlers_AreServed()
    {
        Lab.Require("wrk");
        await OnXdpAsync(lab, server => BesideAsync(server, http => http.GetStringAsync(server.Url("/spin/10"))));
    }

    [SkippableFact]
    public async Task FourFastConnections_BesideAThousandQueuedTasks_AreServed()
    {
        Lab.Require("wrk");
        await OnXdpAsync(lab, server => BesideAsync(server, async http =>
        {
            using HttpResponseMessage response = await http.PostAsync(server.Url("/pool/1000"), null);
            response.EnsureSuccessStatusCode();
            await Task.Delay(TimeSpan.FromSeconds(1));
        }, neighbours: 1));
    }

    /// <summary>The process is told to end while the pool is full of work, the queue's turn among it.</summary>
    [SkippableFact]
    public async Task Stop_WithThePoolFull_EndsInOrder()
    {
        Lab.Require();
        await WithServerAsync(lab.Server, new HelloWebSettings(), async server =>
        {
            using var http = new HttpClient(lab.Client.HttpHandler());
            for (int i = 0; i < 20; i++)
                Assert.Equal("Hello, World!", await http.GetStringAsync(server.Url("/plaintext")));
            using (HttpResponseMessage response = await http.PostAsync(server.Url("/pool/2000"), null))
                response.EnsureSuccessStatusCode();
            await server.StopAsync();
        });
    }

    /// <summary>Runs wrk with four connections, and requests beside it. Returns wrk's answers.</summary>
    private async Task<int> BesideAsync(
        HelloWebServer server, Func<HttpClient, Task> neighbour, int neighbours = Neighbours)
    {
        using var end = new CancellationTokenSource();
        using var http = new HttpClient(lab.Client.HttpHandler());
        Task[] beside = [.. Enumerable.Range(0, neighbours).Select(_ => LoopAsync())];
        string report =
            (await lab.Client.RunAsync("wrk", "-t1", "-c4", "-d3", $"{server.Url("/plaintext")}")).Succeeded();
        await end.CancelAsync();
        await Task.WhenAll(beside);
        Output.WriteLine(report);
        int answers = WrkReport.AssertNoErrors(report);
        Assert.True(answers > 4);
        return answers;

        async Task LoopAsync()
        {
            while (!end.IsCancellationRequested)
                await neighbour(http);
        }
    }

    private static async Task<double> OverdueAsync(HelloWebServer server) =>
        (await server.CountersAsync()).Sum("kestrel.xdp.turns.overdue");
}

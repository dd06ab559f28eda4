using System.Diagnostics;
using System.Globalization;
using System.Security.Cryptography;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>
/// Through a router that loses 2 % of the segments and holds back 2 %, in each direction; no segmentation offloads.
/// </summary>
[Collection(RouterCollection.Name)]
public sealed class RouterTests(RouterLab lab, ITestOutputHelper output) : SystemTest(output)
{
    private const int Bytes = 20_000_000;
    private const int KernelPort = 8090;

    // Medians are compared. Where a pair of medians is off, because something else had the processor, more rounds are
    // run.
    private const int Rounds = 3, MoreRounds = 12;
    private const double SlowestRatio = 2.0;

    // The algorithm that the transport has. The kernel of a host may use another (BBR takes no notice of losses like
    // these), and it is not algorithms that are compared.
    private const string Algorithm = "cubic";

    private static readonly string[] LossAndReorder = ["--loss", "20", "--reorder", "20"];

    [SkippableFact]
    public async Task LossAndReorder_20MegabytesEachWay_AtMostTwiceTheKernelsTime()
    {
        Lab.Require("tc", "bpftool", "clang");
        await using Impairment impairment = await lab.ImpairAsync(LossAndReorder);
        await using HelloWebServer kernel = await HelloWebServer.StartAsync(
            lab.Server, HelloWebSettings.Sockets with { Port = KernelPort, CongestionControl = Algorithm });
        // One connection for all, opened before the proof of path begins to count what the kernel accepts.
        using HttpClient toKernel = lab.Client.HttpClient();
        Assert.Equal("sockets", (await FactsAsync(toKernel, kernel.Url("/connection"))).Transport);
        await OnXdpAsync(lab.Server, HelloWebSettings.Cubic, async xdp =>
        {
            string expected = TransferTests.Sha256(await xdp.ControlAsync($"/bytes/{Bytes}/sha256"));
            using HttpClient toXdp = lab.Client.HttpClient();
            Counters before = await xdp.CountersAsync();
            KernelTcp clientBefore = lab.Client.KernelTcp();

            List<TimeSpan> xdpDown = [], xdpUp = [], kernelDown = [], kernelUp = [];
            byte[] body = [];
            for (int round = 0; round < Rounds + MoreRounds; round++)
            {
                if (round >= Rounds && Ratio(xdpDown, kernelDown) <= SlowestRatio
                    && Ratio(xdpUp, kernelUp) <= SlowestRatio)
                    break;
                (body, TimeSpan time) = await DownAsync(toXdp, xdp, expected);
                xdpDown.Add(time);
                kernelDown.Add((await DownAsync(toKernel, kernel, expected)).Time);
                xdpUp.Add(await UpAsync(toXdp, xdp, body, expected));
                kernelUp.Add(await UpAsync(toKernel, kernel, body, expected));
            }

            (await FactsAsync(toXdp, xdp.Url("/connection"))).AssertOnXdp();

            Counters after = await xdp.CountersAsync();
            double retransmits = after.Retransmits - before.Retransmits;
            long clientRetransmits = lab.Client.KernelTcp().Retransmitted - clientBefore.Retransmitted;
            IReadOnlyDictionary<string, long> counts = await impairment.CountsAsync();
            Report("down", xdpDown, kernelDown);
            Report("up", xdpUp, kernelUp);
            Output.WriteLine($"retransmitted: {retransmits} by the server, {clientRetransmits} by the client");
            Output.WriteLine(string.Join(' ', counts.Select(count => $"{count.Key}={count.Value}")));
            foreach (string count in (string[])[
                "FROM_CLIENT_LOST", "FROM_CLIENT_REORDERED", "FROM_SERVER_LOST", "FROM_SERVER_REORDERED"])
                Assert.True(counts[count] > 0, $"The router reports {count}=0.");
            Assert.True(retransmits > 0, "The server retransmitted nothing.");
            Assert.True(clientRetransmits > 0, "The client retransmitted nothing.");
            Assert.True(
                Ratio(xdpDown, kernelDown) <= SlowestRatio,
                $"Downloads take {Ratio(xdpDown, kernelDown):0.00} times as long as from kernel to kernel.");
            Assert.True(
                Ratio(xdpUp, kernelUp) <= SlowestRatio,
                $"Uploads take {Ratio(xdpUp, kernelUp):0.00} times as long as from kernel to kernel.");
        });
    }

    /// <summary>With checksums that are put in, flipped bits must be found and made good.</summary>
    [SkippableFact]
    public async Task Corruption_5MegabytesEachWay_ArriveUnchanged()
    {
        Lab.Require("tc", "bpftool", "clang");
        await lab.Client.RunAsync("ethtool", "-K", "cli0", "tx", "off");
        try
        {
            await OnXdpAsync(lab.Server, new HelloWebSettings(), async server =>
            {
                await using Impairment impairment = await lab.ImpairAsync("--at", "client", "--corrupt", "20");
                const int Length = 5_000_000;
                string expected = TransferTests.Sha256(await server.ControlAsync($"/bytes/{Length}/sha256"));
                using HttpClient client = lab.Client.HttpClient();
                byte[] body = await client.GetByteArrayAsync(server.Url($"/bytes/{Length}"));
                await UpAsync(client, server, body, expected);
                (await FactsAsync(client, server.Url("/connection"))).AssertOnXdp();
                Assert.True((await impairment.CountsAsync())["FROM_CLIENT_CORRUPTED"] > 0);
            });
        }
        finally
        {
            await lab.Client.RunAsync("ethtool", "-K", "cli0", "tx", "on");
        }
    }

    private static async Task<(byte[] Body, TimeSpan Time)> DownAsync(
        HttpClient client, HelloWebServer server, string expected)
    {
        var watch = Stopwatch.StartNew();
        byte[] body = await client.GetByteArrayAsync(server.Url($"/bytes/{Bytes}"));
        TimeSpan time = watch.Elapsed;
        Assert.Equal(expected, Convert.ToHexStringLower(SHA256.HashData(body)));
        return (body, time);
    }

    private static async Task<TimeSpan> UpAsync(HttpClient client, HelloWebServer server, byte[] body, string expected)
    {
        var watch = Stopwatch.StartNew();
        using HttpResponseMessage response = await client.PostAsync(server.Url("/upload"), new ByteArrayContent(body));
        string answer = await response.EnsureSuccessStatusCode().Content.ReadAsStringAsync();
        TimeSpan time = watch.Elapsed;
        Assert.Equal(expected, TransferTests.Sha256(answer));
        return time;
    }

    private static double Ratio(List<TimeSpan> xdp, List<TimeSpan> kernel) => Median(xdp) / Median(kernel);

    private static TimeSpan Median(List<TimeSpan> times) => times.Order().ElementAt(times.Count / 2);

    private void Report(string direction, List<TimeSpan> xdp, List<TimeSpan> kernel) => Output.WriteLine(string.Create(
        CultureInfo.InvariantCulture,
        $"{direction}: xdp {Describe(xdp)}, kernel {Describe(kernel)}, ratio {Ratio(xdp, kernel):0.00}"));

    private static string Describe(List<TimeSpan> times) =>
        $"{Milliseconds(Median(times))} ms ({string.Join(' ', times.Select(Milliseconds))})";

    private static string Milliseconds(TimeSpan time) =>
        time.TotalMilliseconds.ToString("0", CultureInfo.InvariantCulture);
}

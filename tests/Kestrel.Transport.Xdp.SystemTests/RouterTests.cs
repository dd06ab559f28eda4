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

    private const int Rounds = 3;

    // Segments sent again for each that was lost, ours ÷ the kernel's, at most. Where the peer sends, our ACKs have to
    // wait for a processor that has other work, and it takes some segments for lost.
    private const double MostAgain = 1.5, MostAgainByPeer = 3;

    // The algorithm that the transport has. The kernel of a host may use another (BBR takes no notice of losses like
    // these), and it is not algorithms that are compared.
    private const string Algorithm = "cubic";

    private static readonly string[] LossAndReorder = ["--loss", "20", "--reorder", "20"];

    /// <summary>
    /// As much is sent again as from kernel to kernel, for each segment that was lost, and hardly anything waits for a
    /// time-out.
    /// </summary>
    [SkippableFact]
    public async Task LossAndReorder_20MegabytesEachWay_RepairedAsTheKernelDoes()
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
            Repairs xdpDown = new(), xdpUp = new(), kernelDown = new(), kernelUp = new();
            double timeouts = (await xdp.CountersAsync()).Timeouts;
            for (int round = 0; round < Rounds; round++)
            {
                byte[] body = [];
                await CountAsync(xdpDown, Xdp, "SERVER", async () => body = await DownAsync(toXdp, xdp, expected));
                await CountAsync(kernelDown, Server, "SERVER", () => DownAsync(toKernel, kernel, expected));
                await CountAsync(xdpUp, Client, "CLIENT", () => UpAsync(toXdp, xdp, body, expected));
                await CountAsync(kernelUp, Client, "CLIENT", () => UpAsync(toKernel, kernel, body, expected));
            }
            timeouts = (await xdp.CountersAsync()).Timeouts - timeouts;
            (await FactsAsync(toXdp, xdp.Url("/connection"))).AssertOnXdp();
            Output.WriteLine($"down: xdp {xdpDown}, kernel {kernelDown}; up: xdp {xdpUp}, kernel {kernelUp}");
            Output.WriteLine($"time-outs: {timeouts}");
            AssertAsTheKernel(xdpDown, kernelDown, MostAgain);
            AssertAsTheKernel(xdpUp, kernelUp, MostAgainByPeer);
            Assert.True(timeouts <= xdpDown.Lost / 20.0, $"{timeouts} time-outs for {xdpDown.Lost} losses.");

            async Task<double> Xdp() => (await xdp.CountersAsync()).Retransmits;
        });

        async Task CountAsync(Repairs repairs, Func<Task<double>> retransmitted, string sender, Func<Task> transfer)
        {
            (double again, var counts) = (await retransmitted(), await impairment.CountsAsync());
            await transfer();
            repairs.Retransmitted += await retransmitted() - again;
            IReadOnlyDictionary<string, long> after = await impairment.CountsAsync();
            repairs.Lost += after[$"FROM_{sender}_LOST"] - counts[$"FROM_{sender}_LOST"];
            repairs.Reordered += after[$"FROM_{sender}_REORDERED"] - counts[$"FROM_{sender}_REORDERED"];
        }
    }

    private Task<double> Client() => Task.FromResult((double)lab.Client.KernelTcp().Retransmitted);

    private Task<double> Server() => Task.FromResult((double)lab.Server.KernelTcp().Retransmitted);

    private static void AssertAsTheKernel(Repairs xdp, Repairs kernel, double most)
    {
        Assert.True(xdp is { Lost: > 0, Reordered: > 0 } && kernel.Lost > 0, "The router has let everything pass.");
        Assert.True(xdp.Retransmitted >= xdp.Lost / 2.0, $"Too little was sent again: {xdp}.");
        Assert.True(xdp.PerLoss <= most * kernel.PerLoss, $"{xdp}, and from kernel to kernel {kernel}.");
    }

    /// <summary>What was lost on the way, and what the sender sent again.</summary>
    private sealed class Repairs
    {
        internal long Lost { get; set; }
        internal long Reordered { get; set; }
        internal double Retransmitted { get; set; }
        internal double PerLoss => Retransmitted / Lost;

        public override string ToString() => string.Create(
            CultureInfo.InvariantCulture,
            $"{Retransmitted} sent again for {Lost} lost and {Reordered} reordered ({PerLoss:0.00})");
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

    private static async Task<byte[]> DownAsync(HttpClient client, HelloWebServer server, string expected)
    {
        byte[] body = await client.GetByteArrayAsync(server.Url($"/bytes/{Bytes}"));
        Assert.Equal(expected, Convert.ToHexStringLower(SHA256.HashData(body)));
        return body;
    }

    private static async Task UpAsync(HttpClient client, HelloWebServer server, byte[] body, string expected)
    {
        using HttpResponseMessage response = await client.PostAsync(server.Url("/upload"), new ByteArrayContent(body));
        string answer = await response.EnsureSuccessStatusCode().Content.ReadAsStringAsync();
        Assert.Equal(expected, TransferTests.Sha256(answer));
    }
}

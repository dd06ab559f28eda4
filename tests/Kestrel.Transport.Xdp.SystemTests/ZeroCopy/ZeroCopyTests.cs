using System.Globalization;
using System.Security.Cryptography;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Shared;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests.ZeroCopy;

/// <summary>
/// In zero copy the device reads a frame some time after it was handed over. A frame that is written to or used again
/// before its completion goes out wrong, and the client's kernel finds its checksum wrong. To make sure of that, frames
/// that are given back are overwritten.
/// </summary>
[Collection(GuestCollection.Name)]
public sealed class ZeroCopyTests(Guest guest, ITestOutputHelper output)
{
    private const int Bytes = 4_000_000;

    /// <summary>
    /// The server is started once for all of it, and once more: under emulation a start takes longer than the rest.
    /// </summary>
    [SkippableFact]
    public async Task TransfersAndLoad_FramesComeHome_KillLeavesNothing_StopIsInOrder()
    {
        guest.Require("curl", "wrk");
        GuestServer server = await GuestServer.StartAsync(guest);
        try
        {
            await TransferEachWayAsync();
            await LoadAsync();
            Counters counters = await server.CountersAsync();
            Output(counters);
            Assert.All([0, 1], queue =>
                Assert.True(GuestServer.HasPackets(counters, queue), $"Queue {queue} had no packets.\n{counters}"));
            await server.AssertQuietAsync();
            Assert.Equal(0, WrongChecksums());

            await KillUnderLoadAsync(server);
            server = await GuestServer.StartAsync(guest);
            await StopWithADownloadInFlightAsync(server);
            Assert.Equal(0, WrongChecksums());
        }
        catch
        {
            output.WriteLine($"The server wrote:\n{await server.LogAsync()}");
            throw;
        }
    }

    private async Task TransferEachWayAsync()
    {
        using HttpClient client = guest.Client.HttpClient();
        AssertZeroCopy(await client.GetStringAsync(GuestServer.Url("/connection")));

        byte[] down = await client.GetByteArrayAsync(GuestServer.Url($"/bytes/{Bytes}"));
        Assert.Equal(Bytes, down.Length);
        Pattern.AssertMatches(down, 0);
        string sha256 = Convert.ToHexStringLower(SHA256.HashData(down));
        Assert.Equal(
            TransferTests.Sha256(await client.GetStringAsync(GuestServer.Url($"/bytes/{Bytes}/sha256"))), sha256);

        using HttpResponseMessage answer =
            await client.PostAsync(GuestServer.Url("/upload"), new ByteArrayContent(down));
        Assert.Equal(sha256, TransferTests.Sha256(await answer.Content.ReadAsStringAsync()));
        AssertZeroCopy(await client.GetStringAsync(GuestServer.Url("/connection")));
    }

    private async Task LoadAsync()
    {
        const int Connections = 32;
        string report = (await guest.Client.RunAsync(
            "wrk", "-t1", $"-c{Connections}", "-d3", "--timeout", "20", $"{GuestServer.Url("/plaintext")}"))
                .Succeeded();
        output.WriteLine(report);
        Assert.True(WrkReport.AssertNoErrors(report) > Connections);
    }

    private async Task KillUnderLoadAsync(GuestServer server)
    {
        using var endLoad = new CancellationTokenSource();
        Task<CommandResult> load = Command.RunAsync(
            guest.Client.Inside("wrk", "-t1", "-c16", "-d60", $"{GuestServer.Url("/plaintext")}"), kill: endLoad.Token);
        try
        {
            double before = (await server.CountersAsync()).PacketsIn;
            await Eventually.TrueAsync(
                async () => (await server.CountersAsync()).PacketsIn > before + 100, () => "There is no load.");
            Assert.True(await server.IsAttachedAsync());
            await server.KillAsync();
            // The kernel releases the link a moment after the process.
            await Eventually.TrueAsync(
                async () => !await server.IsAttachedAsync(), () => "The killed process's program is still attached.");
        }
        finally
        {
            await endLoad.CancelAsync();
            await load;
        }
    }

    private async Task StopWithADownloadInFlightAsync(GuestServer server)
    {
        using HttpClient client = guest.Client.HttpClient();
        AssertZeroCopy(await client.GetStringAsync(GuestServer.Url("/connection")));
        using HttpResponseMessage response =
            await client.GetAsync(GuestServer.Url($"/bytes/{Bytes}"), HttpCompletionOption.ResponseHeadersRead);
        await server.SignalToStopAsync();
        Pattern.AssertMatches(await response.Content.ReadAsByteArrayAsync(), 0);
        await server.AssertCleanExitAsync();
        Assert.False(await server.IsAttachedAsync());
    }

    private static void AssertZeroCopy(string connection)
    {
        ConnectionFacts facts = ConnectionFacts.Parse(connection);
        facts.AssertOnXdp();
        Assert.Equal("zero-copy", facts.BindMode);
    }

    // TCP segments that the client's kernel dropped for their checksum.
    private long WrongChecksums() => guest.Client.Enter(static () =>
    {
        string[][] lines = [.. File.ReadLines("/proc/thread-self/net/snmp")
            .Where(line => line.StartsWith("Tcp:", StringComparison.Ordinal)).Select(line => line.Split(' '))];
        return long.Parse(lines[1][Array.IndexOf(lines[0], "InCsumErrors")], CultureInfo.InvariantCulture);
    });

    private void Output(Counters counters)
    {
        foreach (string line in counters.ToString().Split('\n')
            .Where(line => !line.EndsWith(" 0", StringComparison.Ordinal)))
            output.WriteLine(line);
    }
}

using System.Net.Sockets;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Shared;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>How a server ends.</summary>
[Collection(DirectCollection.Name)]
public sealed class LifetimeTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output)
{
    [SkippableFact]
    public async Task Kill_UnderLoad_LeavesNothingAttached_AndTheNextStartIsAtOnce()
    {
        Lab.Require("wrk");
        using var endLoad = new CancellationTokenSource();
        Task<CommandResult>? load = null;
        try
        {
            await WithServerAsync(lab.Server, new HelloWebSettings(), async server =>
            {
                load = Command.RunAsync(
                    lab.Client.Inside("wrk", "-t1", "-c64", "-d60", $"{server.Url("/plaintext")}"),
                    kill: endLoad.Token);
                Counters before = await server.CountersAsync();
                await Eventually.NullAsync(async () =>
                {
                    double packets = (await server.CountersAsync()).PacketsIn - before.PacketsIn;
                    return packets > 10_000 ? null : $"Only {packets} packets came.";
                });
                Assert.True(await AttachedAsync());
                server.Signal(SystemCalls.SIGKILL);
                await server.ExitAsync();
            });
            // The kernel releases the link a moment after the process.
            await Eventually.TrueAsync(
                async () => !await AttachedAsync(), () => "The killed process's program is still attached.");
            // The load goes on; Required: nothing short of XDP will do.
            await WithServerAsync(lab.Server, new HelloWebSettings { Required = true }, async server =>
            {
                using (HttpClient client = lab.Client.HttpClient())
                    (await FactsAsync(client, server.Url("/connection"))).AssertOnXdp();
                await endLoad.CancelAsync();
                await load!;
                await server.StopAsync();
            });
        }
        finally
        {
            await endLoad.CancelAsync();
            if (load is not null)
                await load;
        }
    }

    [SkippableFact]
    public async Task Kill_ThenStart_WithoutAPause_IsOnXdp()
    {
        Lab.Require();
        for (int i = 0; i < 3; i++)
        {
            await WithServerAsync(lab.Server, new HelloWebSettings(), async server =>
            {
                using HttpClient client = lab.Client.HttpClient();
                (await FactsAsync(client, server.Url("/connection"))).AssertOnXdp();
                server.Signal(SystemCalls.SIGKILL);
            });
        }
    }

    [SkippableFact]
    public async Task Stop_UnderLoad_RequestsInFlightFinish()
    {
        Lab.Require("wrk");
        const int Bytes = 2_000_000, Downloads = 16, Uploads = 4;
        using var endLoad = new CancellationTokenSource();
        Task<CommandResult>? load = null;
        var downloads = new List<RawHttp>();
        var uploads = new List<RawHttp>();
        try
        {
            await WithServerAsync(lab.Server, new HelloWebSettings(), async server =>
            {
                string expected = TransferTests.Sha256(await server.ControlAsync($"/bytes/{Bytes}/sha256"));
                load = Command.RunAsync(
                    lab.Client.Inside("wrk", "-t1", "-c64", "-d60", $"{server.Url("/plaintext")}"),
                    kill: endLoad.Token);
                byte[] body = new byte[Bytes];
                using (HttpClient client = lab.Client.HttpClient())
                    body = await client.GetByteArrayAsync(server.Url($"/bytes/{Bytes}"));
                for (int i = 0; i < Downloads; i++)
                {
                    RawHttp http = await RawHttp.ConnectAsync(
                        lab.Client, server.EndPoint, socket => socket.ReceiveBufferSize = 64 * 1024);
                    downloads.Add(http);
                    await http.WriteAsync(RawHttp.Get($"/bytes/{Bytes}"));
                    Assert.Equal(Bytes, await http.ReadHeadAsync());
                }
                for (int i = 0; i < Uploads; i++)
                {
                    RawHttp http = await RawHttp.ConnectAsync(lab.Client, server.EndPoint);
                    uploads.Add(http);
                    // A request that the server has begun to answer is in flight; one that it has not seen is not.
                    await http.WriteAsync(
                        "POST /upload HTTP/1.1\r\nHost: lab\r\nExpect: 100-continue\r\n"
                        + $"Content-Length: {Bytes}\r\n\r\n");
                    await http.ReadHeadAsync("100");
                    await http.WriteAsync(body.AsMemory(0, Bytes / 2));
                }

                server.Signal(SystemCalls.SIGTERM);
                await Eventually.TrueAsync(
                    () => server.RefusesAsync(lab.Client), () => $"The server still accepts.\n{server.Log}");
                Assert.False(server.HasExited);

                await Task.WhenAll(downloads.Select(http => http.ReadPatternAsync(0, Bytes)));
                foreach (RawHttp http in uploads)
                {
                    await http.WriteAsync(body.AsMemory(Bytes / 2));
                    await http.ReadHeadAsync();
                    string answer = System.Text.Encoding.UTF8.GetString(await http.ReadChunkedAsync());
                    Assert.Equal(expected, TransferTests.Sha256(answer));
                }
                await server.AssertCleanExitAsync();
            });
        }
        finally
        {
            await endLoad.CancelAsync();
            if (load is not null)
                await load;
            foreach (RawHttp http in downloads.Concat(uploads))
                http.Dispose();
        }
    }

    /// <summary>Clients in a loop, and no other load: none of them may ever see a response that is cut off.</summary>
    [SkippableFact]
    public async Task Stop_ClientsInALoop_NeverSeeATruncatedResponse()
    {
        Lab.Require();
        const int Clients = 32, Bytes = 20_000;
        await WithServerAsync(lab.Server, new HelloWebSettings(), async server =>
        {
            int served = 0;
            Task[] clients = [.. Enumerable.Range(0, Clients).Select(async _ =>
            {
                using RawHttp http = await RawHttp.ConnectAsync(lab.Client, server.EndPoint);
                while (true)
                {
                    ReadOnlyMemory<byte> first;
                    try
                    {
                        await http.WriteAsync(RawHttp.Get($"/bytes/{Bytes}"));
                        first = await http.PeekAsync();
                    }
                    catch (SocketException)
                    {
                        // The request crossed the server's FIN on its way.
                        return;
                    }
                    if (first.IsEmpty)
                        return;
                    Assert.Equal(Bytes, await http.ReadHeadAsync());
                    await http.ReadPatternAsync(0, Bytes);
                    Interlocked.Increment(ref served);
                }
            })];
            await Eventually.TrueAsync(
                () => Volatile.Read(ref served) > Clients * 10 || clients.Any(client => client.IsFaulted),
                () => $"{served} requests were served.");
            server.Signal(SystemCalls.SIGTERM);
            await Task.WhenAll(clients).WaitAsync(Command.Limit);
            await server.AssertCleanExitAsync();
        });
    }

    private async Task<bool> AttachedAsync() =>
        (await lab.Server.RunAsync("ip", "-d", "link", "show", "dev", Lab.Interface)).Succeeded()
            .Contains("prog/xdp", StringComparison.Ordinal);
}

/// <summary>
/// Ends of the process that the host does not see coming. The kernel would tell the peers of its sockets, and go on
/// delivering what was written to them.
/// </summary>
[Collection(DirectCollection.Name)]
public sealed class SuddenExitTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output)
{
    private static readonly HelloWebSettings s_settings = new() { AllowShutdown = true };

    [SkippableTheory]
    [InlineData("/exit-after/10", false)]
    [InlineData("/exit-after/10", true)]
    [InlineData("/crash", false)]
    [InlineData("/crash", true)]
    public async Task ProcessEnds_IdleClientsAreTold(string path, bool inline)
    {
        Lab.Require();
        await WithServerAsync(lab.Server, s_settings with { Inline = inline }, async server =>
        {
            RawHttp[] idle = await Task.WhenAll(
                Enumerable.Range(0, 20).Select(_ => RawHttp.ConnectAsync(lab.Client, server.EndPoint)));
            foreach (RawHttp http in idle)
                (await http.FactsAsync()).AssertOnXdp();
            await Post(server, path);
            foreach (RawHttp http in idle)
            {
                Assert.True(await EndsAsync(http).WaitAsync(Command.Limit));
                http.Dispose();
            }
            await server.ExitAsync();
        });
    }

    /// <summary>A response that is complete for the application arrives, however slowly the client reads.</summary>
    [SkippableFact]
    public async Task Exit_SlowClient_GetsTheResponseInFull()
    {
        Lab.Require();
        const int Bytes = 1_000_000, Bite = 20_000;
        await WithServerAsync(lab.Server, s_settings, async server =>
        {
            using RawHttp http =
                await RawHttp.ConnectAsync(lab.Client, server.EndPoint, socket => socket.ReceiveBufferSize = 4096);
            await http.WriteAsync($"POST /exit-after/{Bytes} HTTP/1.1\r\nHost: lab\r\nContent-Length: 0\r\n\r\n");
            Assert.Equal(Bytes, await http.ReadHeadAsync());
            for (int at = 0; at < Bytes;)
            {
                ReadOnlyMemory<byte> some = await http.ReadSomeAsync(Math.Min(Bite, Bytes - at));
                Assert.False(some.IsEmpty, $"The connection ended after {at} bytes.");
                Pattern.AssertMatches(some.Span, at);
                at += some.Length;
                // 200 KB/s.
                await Task.Delay(some.Length / 200);
            }
            Assert.True((await http.ReadSomeAsync()).IsEmpty);
            Assert.Equal(0, await server.ExitAsync());
        });
    }

    private async Task Post(HelloWebServer server, string path)
    {
        RawHttp http = await RawHttp.ConnectAsync(lab.Client, server.EndPoint);
        await http.WriteAsync($"POST {path} HTTP/1.1\r\nHost: lab\r\nContent-Length: 0\r\n\r\n");
        await EndsAsync(http).WaitAsync(Command.Limit);
        http.Dispose();
    }

    /// <summary>Reads to the connection's end, in order or not.</summary>
    private static async Task<bool> EndsAsync(RawHttp http)
    {
        try
        {
            while (!(await http.ReadSomeAsync()).IsEmpty)
            {
            }
        }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.ConnectionReset)
        {
            // An end as well.
        }
        return true;
    }
}

/// <summary>An exit that the transport must survive in place of the kernel.</summary>
[Collection(RouterCollection.Name)]
public sealed class ExitTests(RouterLab lab, ITestOutputHelper output) : SystemTest(output)
{
    /// <summary>
    /// The client reads a little at a time, over a path that loses segments. When the app is gone, most of a window is
    /// still to be sent.
    /// </summary>
    [SkippableFact]
    public async Task ShutdownAfterFlush_SlowLossyClient_GetsTheResponseInFull()
    {
        Lab.Require("tc", "bpftool", "clang");
        const int Bytes = 500_000, Rest = 24_000, Bite = 2_000;
        await using Impairment impairment = await lab.ImpairAsync("--loss", "50");
        await WithServerAsync(lab.Server, new HelloWebSettings { AllowShutdown = true }, async server =>
        {
            using RawHttp http =
                await RawHttp.ConnectAsync(lab.Client, server.EndPoint, socket => socket.ReceiveBufferSize = 4096);
            (await http.FactsAsync()).AssertOnXdp();
            await http.WriteAsync($"POST /shutdown-after/{Bytes} HTTP/1.1\r\nHost: lab\r\nContent-Length: 0\r\n\r\n");
            Assert.Equal(Bytes, await http.ReadHeadAsync());
            int at = 0;
            while (at < Bytes - Rest)
            {
                ReadOnlyMemory<byte> some = await http.ReadSomeAsync(Math.Min(Bite, Bytes - Rest - at));
                Assert.False(some.IsEmpty, $"The connection ended after {at} bytes.");
                Pattern.AssertMatches(some.Span, at);
                at += some.Length;
            }
            // The app stops while more is on its way than the client's kernel can have taken in by then.
            await Eventually.TrueAsync(
                () => server.RefusesAsync(lab.Client), () => $"The server does not stop.\n{server.Log}");
            await http.ReadPatternAsync(at, Bytes);
            Assert.True((await http.ReadSomeAsync()).IsEmpty);
            await server.AssertCleanExitAsync();
            Assert.DoesNotContain(server.Lines, line => line.Contains("ShutdownLinger", StringComparison.Ordinal));
            IReadOnlyDictionary<string, long> counts = await impairment.CountsAsync();
            Assert.True(counts["FROM_SERVER_LOST"] > 0, "Nothing was lost.");
        });
    }
}

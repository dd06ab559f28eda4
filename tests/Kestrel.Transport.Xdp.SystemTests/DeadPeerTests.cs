using System.Net.Sockets;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>
/// Peers that vanish, or do not go on. With the default options each of these connections would last for minutes.
/// </summary>
[Collection(RouterCollection.Name)]
public sealed class DeadPeerTests(RouterLab lab, ITestOutputHelper output) : SystemTest(output)
{
    private const string Second = "00:00:01";
    private const int Probes = 2, Download = 10_000_000;

    private static readonly HelloWebSettings s_keepAlive = new()
    {
        Environment =
        {
            ["Kestrel__Xdp__KeepAliveTime"] = Second,
            ["Kestrel__Xdp__KeepAliveInterval"] = Second,
            ["Kestrel__Xdp__KeepAliveCount"] = $"{Probes}",
        },
    };

    private static readonly HelloWebSettings s_userTimeout = new()
    {
        Environment = { ["Kestrel__Xdp__UserTimeout"] = Second },
    };

    /// <summary>The same connection, first with a peer that answers, then with one that is gone.</summary>
    [SkippableFact]
    public async Task KeepAlive_IdlePeerVanishes_ConnectionEnds_NotBefore()
    {
        Lab.Require("tc", "bpftool", "clang");
        await OnXdpAsync(lab.Server, s_keepAlive, async server =>
        {
            using RawHttp http = await RawHttp.ConnectAsync(lab.Client, server.EndPoint);
            (await http.FactsAsync()).AssertOnXdp();
            // More probes than a peer may leave unanswered. Nothing else is sent meanwhile.
            Counters before = await server.CountersAsync();
            await Eventually.TrueAsync(
                async () => (await server.CountersAsync()).PacketsOut - before.PacketsOut > Probes + 1,
                () => "The idle peer is not probed.");
            Assert.Equal(1, (await server.CountersAsync()).Connections);
            (await http.FactsAsync()).AssertOnXdp();
            await using (await lab.ImpairAsync("--loss", "1000"))
                await EndedAsync(server);
        });
    }

    /// <summary>The request still arrives. Nothing of the response does.</summary>
    [SkippableFact]
    public async Task UserTimeout_ResponseIsNotAcknowledged_ConnectionEnds()
    {
        Lab.Require("tc", "bpftool", "clang");
        await OnXdpAsync(lab.Server, s_userTimeout, async server =>
        {
            using RawHttp http = await RawHttp.ConnectAsync(lab.Client, server.EndPoint);
            (await http.FactsAsync()).AssertOnXdp();
            await using (await lab.ImpairAsync("--at", "server", "--loss", "1000"))
            {
                await http.WriteAsync(RawHttp.Get("/plaintext"));
                await EndedAsync(server);
            }
        });
    }

    /// <summary>
    /// The app waits to write more. It is told what sockets would tell it, which Kestrel logs as an error.
    /// </summary>
    [SkippableFact]
    public async Task UserTimeout_PeerDoesNotRead_ConnectionIsReset()
    {
        Lab.Require();
        await WithServerAsync(lab.Server, s_userTimeout, async server =>
        {
            ProofOfPath proof = await ProofOfPath.BeginAsync(server);
            // Far more than buffers hold, so that the server has to wait for the client.
            using RawHttp http = await RawHttp.ConnectAsync(
                lab.Client, server.EndPoint, socket => socket.ReceiveBufferSize = 64 * 1024);
            await http.WriteAsync(RawHttp.Get($"/bytes/{Download}"));
            Assert.Equal(Download, await http.ReadHeadAsync());
            await EndedAsync(server);
            var reset = await Assert.ThrowsAsync<SocketException>(() => http.ReadPatternAsync(0, Download));
            Assert.Equal(SocketError.ConnectionReset, reset.SocketErrorCode);
            await proof.AssertAsync();
            await proof.AssertQuietAsync();
            server.Signal(SystemCalls.SIGTERM);
            Assert.Equal(0, await server.ExitAsync());
            Assert.Contains(server.Lines, line => line.Contains("Connection timed out", StringComparison.Ordinal));
        });
    }

    private static Task EndedAsync(HelloWebServer server) => Eventually.NullAsync(async () =>
    {
        double left = (await server.CountersAsync()).Connections;
        return left == 0 ? null : $"{left} connections are left.";
    });
}

using System.Net;
using System.Net.Sockets;
using Kestrel.Transport.Xdp.SystemTests.Support;
using TcpTrials.Flood;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>
/// What the XDP program drops before it costs anything: packets of sources that may not come in, and more SYNs than a
/// queue under pressure answers.
/// </summary>
[Collection(DirectCollection.Name)]
public sealed class DefenceTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output)
{
    private static readonly TimeSpan Silence = TimeSpan.FromSeconds(1.5);

    [SkippableTheory]
    [InlineData("DeniedSources", "10.77.0.2/32")]
    [InlineData("AllowedSources", "fd77::/64")]
    public async Task Source_KeptOut_IsNotAnswered_OthersAre(string list, string prefix)
    {
        Lab.Require();
        var settings = new HelloWebSettings { Environment = { [$"Kestrel__Xdp__{list}__0"] = prefix } };
        await OnXdpAsync(lab.Server, settings, async server =>
        {
            using var patience = new CancellationTokenSource(Silence);
            await Assert.ThrowsAnyAsync<OperationCanceledException>(
                () => lab.Client.ConnectAsync(server.EndPoint, patience.Token));
            Assert.True((await server.CountersAsync()).Verdict("drop_source") > 0);
            using HttpClient welcome = lab.Client.HttpClient();
            (await FactsAsync(welcome, server.Url("/connection", Lab.ServerIp6))).AssertOnXdp();
        });
    }

    /// <summary>Whatever becomes of XDP: who is kept out by the program is kept out by the companion.</summary>
    [SkippableTheory]
    [InlineData("no interface")]
    [InlineData("Enabled")]
    [InlineData("KESTREL_XDP")]
    public async Task Source_KeptOut_IsRefusedBySockets_OthersAreServed(string without)
    {
        Lab.Require();
        var settings = new HelloWebSettings
        {
            Interfaces = [without == "no interface" ? "nosuch0" : Lab.Interface],
            Required = false,
            Environment = { ["Kestrel__Xdp__DeniedSources__0"] = "10.77.0.2" },
        };
        if (without == "Enabled")
            settings.Environment["Kestrel__Xdp__Enabled"] = "false";
        if (without == "KESTREL_XDP")
            settings.Environment["KESTREL_XDP"] = "off";
        await WithServerAsync(lab.Server, settings, async server =>
        {
            var error = await Assert.ThrowsAsync<SocketException>(async () =>
            {
                using Socket unwelcome = await lab.Client.ConnectAsync(server.EndPoint);
                await unwelcome.ReceiveAsync(new byte[1]);
            });
            Assert.Equal(SocketError.ConnectionReset, error.SocketErrorCode);
            using HttpClient welcome = lab.Client.HttpClient();
            (await FactsAsync(welcome, server.Url("/connection", Lab.ServerIp6))).AssertOnCompanion();
            Assert.Contains("DeniedSources (1) is in force, for sockets as well", server.Log, StringComparison.Ordinal);
            await server.StopAsync();
        });
    }

    [SkippableFact]
    public async Task Sources_ChangedInTheConfiguration_HoldAtOnce()
    {
        Lab.Require();
        await using var host = new TransportHost(lab.Server, options =>
        {
            options.Interfaces.Add(Lab.Interface);
            options.Required = true;
        });
        var endpoint = new IPEndPoint(Lab.ServerIp4, 8091);
        host.Bind(endpoint);
        using Socket before = await lab.Client.ConnectAsync(endpoint);
        Assert.True(await host.AcceptedOnXdpAsync());

        host.Change("DeniedSources", "10.77.0.2");
        using (var patience = new CancellationTokenSource(Silence))
            await Assert.ThrowsAnyAsync<OperationCanceledException>(
                () => lab.Client.ConnectAsync(endpoint, patience.Token));
        await host.LineAsync("DeniedSources (1) is in force");

        host.Change("DeniedSources", "10.77.0.3");
        using Socket after = await lab.Client.ConnectAsync(endpoint);
        Assert.True(await host.AcceptedOnXdpAsync());
    }

    [SkippableFact]
    public async Task SynFlood_IsLimitedInTheProgram_WhileAClientConnects_ThenNotAnyMore()
    {
        Lab.Require();
        var settings = new HelloWebSettings { Environment = { ["Kestrel__Xdp__Backlog"] = "16" } };
        // Without a way back to them, they would not be answered.
        await lab.Server.IpAsync("route replace default via 10.77.0.2");
        await WithServerAsync(lab.Server, settings, async server =>
        {
            using var end = new CancellationTokenSource();
            Task<long> flood = lab.Client.EnterAsync(() => Flood(server.EndPoint, end.Token));
            try
            {
                await Eventually.TrueAsync(
                    async () => (await server.CountersAsync()).Verdict("drop_syn_rate") > 0 || flood.IsCompleted,
                    () => $"No SYN was dropped for its rate.\n{server.Log}");
                Assert.Contains("is flooded with connection attempts", server.Log, StringComparison.Ordinal);
                using HttpClient client = lab.Client.HttpClient();
                (await FactsAsync(client, server.Url("/connection"))).AssertOnXdp();
            }
            finally
            {
                await end.CancelAsync();
                Output.WriteLine($"{await flood} SYNs were sent.");
            }
            // No cookie for two seconds, and SYNs are as free as before: more of them than a burst are all let through.
            double limited = 0;
            await Eventually.TrueAsync(
                async () =>
                {
                    double before = (await server.CountersAsync()).Verdict("drop_syn_rate");
                    lab.Client.Enter(() => Send(server.EndPoint, 2000));
                    limited = (await server.CountersAsync()).Verdict("drop_syn_rate") - before;
                    if (limited > 0)
                        await Task.Delay(TimeSpan.FromSeconds(3));
                    return limited == 0;
                },
                () => $"{limited} SYNs of 2000 are still dropped.");
            await server.StopAsync();
        });
        await lab.Server.IpAsync("route del default");
    }

    private static long Flood(IPEndPoint target, CancellationToken end)
    {
        long sent = 0;
        while (!end.IsCancellationRequested)
            sent += Send(target, 1000);
        return sent;
    }

    /// <summary>SYNs from addresses that nobody has, in the client's namespace.</summary>
    private static int Send(IPEndPoint target, int count)
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Raw, ProtocolType.Raw);
        byte[] packet = new byte[SynPacket.Length];
        for (int i = 0; i < count; i++)
        {
            SynPacket.Write(packet, target, Random.Shared);
            socket.SendTo(packet, new IPEndPoint(target.Address, 0));
        }
        return count;
    }
}

using System.Net;
using System.Net.Sockets;
using System.Text;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Shared;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>
/// Whom the source lists keep out stays out, whatever becomes of the XDP program. The others are served all the while.
/// </summary>
internal static class SourceLists
{
    internal const string Denied = "10.77.0.2";

    // A client whose SYNs are dropped hears nothing.
    private static readonly TimeSpan s_silence = TimeSpan.FromSeconds(1.5);

    internal static HelloWebSettings Settings { get; } = new()
    {
        Environment = { ["Kestrel__Xdp__DeniedSources__0"] = Denied },
    };

    /// <summary>The client gets no answer to a request: silence from the program, a RST from the companion.</summary>
    internal static async Task AssertKeptOutAsync(Namespace client, IPEndPoint server)
    {
        using var patience = new CancellationTokenSource(s_silence);
        try
        {
            using Socket socket = await client.ConnectAsync(server, patience.Token);
            await socket.SendAsync(Encoding.ASCII.GetBytes(RawHttp.Get("/plaintext")));
            int length = await socket.ReceiveAsync(new byte[1]).WaitAsync(Command.Limit);
            Assert.Fail($"The server has answered with {length} bytes.");
        }
        catch (OperationCanceledException)
        {
        }
        catch (SocketException e)
        {
            Assert.Equal(SocketError.ConnectionReset, e.SocketErrorCode);
        }
    }

    internal static async Task AssertResetAsync(Namespace client, IPEndPoint server)
    {
        var error = await Assert.ThrowsAsync<SocketException>(async () =>
        {
            using Socket socket = await client.ConnectAsync(server);
            await socket.ReceiveAsync(new byte[1]).WaitAsync(Command.Limit);
        });
        Assert.Equal(SocketError.ConnectionReset, error.SocketErrorCode);
    }
}

/// <summary>Where the program is not the only one, or not there any more.</summary>
[Collection(DirectCollection.Name)]
public sealed class SourceListTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output)
{
    private const int Port = 8095;

    [SkippableFact]
    public async Task ProgramIsDetachedFromOutside_SourceStaysOut()
    {
        Lab.Require("bpftool");
        await WithServerAsync(lab.Server, SourceLists.Settings, async server =>
        {
            await SourceLists.AssertKeptOutAsync(lab.Client, server.EndPoint);
            await AttachedProgram.DetachAsync(lab.Server);
            await SourceLists.AssertKeptOutAsync(lab.Client, server.EndPoint);
            using HttpClient welcome = lab.Client.HttpClient();
            await FactsAsync(welcome, server.Url("/connection", Lab.ServerIp6));
            await server.StopAsync();
        });
    }

    /// <summary>Another process has the interface, so sockets serve.</summary>
    [SkippableFact]
    public async Task InterfaceIsTaken_SourceStaysOut()
    {
        Lab.Require();
        await using var other = new TransportHost(lab.Server, static options =>
        {
            options.Interfaces.Add(Lab.Interface);
            options.Required = true;
        });
        other.Bind(new IPEndPoint(IPAddress.Any, Port));
        await WithServerAsync(lab.Server, SourceLists.Settings with { Required = false }, async server =>
        {
            await SourceLists.AssertResetAsync(lab.Client, server.EndPoint);
            using HttpClient welcome = lab.Client.HttpClient();
            (await FactsAsync(welcome, server.Url("/connection", Lab.ServerIp6))).AssertOnCompanion();
            await server.StopAsync();
        });
    }

    /// <summary>
    /// More extension headers than the program looks at: it leaves the packets to the kernel, which looks at all. Those
    /// of a source that the lists keep out it drops.
    /// </summary>
    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task HeadersThatTheProgramDoesNotRead_SourceStaysOut(bool denied)
    {
        const int Extensions = 9;
        const uint FirstSequence = 1000;
        var source = new IPEndPoint(IPAddress.Parse("fd77::66"), 50_000);
        Lab.Require();
        // Nobody has the source's address: no kernel answers for it.
        string mac = (await lab.Client.RunAsync("cat", "/sys/class/net/cli0/address")).Succeeded().Trim();
        string[] neighbour = [$"{source.Address}", "lladdr", mac, "dev", Lab.Interface];
        (await lab.Server.RunAsync(["ip", "-6", "neigh", "replace", .. neighbour])).Succeeded();
        try
        {
            await using var host = new TransportHost(lab.Server, options =>
            {
                options.Interfaces.Add(Lab.Interface);
                options.Required = true;
                if (denied)
                    options.DeniedSources.Add(new IPNetwork(source.Address, 128));
            });
            host.Bind(new IPEndPoint(IPAddress.IPv6Any, Port));
            using var capture = new Capture(lab.Client, Port);
            var raw = new RawTcp(lab.Client, source, new IPEndPoint(Lab.ServerIp6, Port), Extensions);
            raw.Send(Captured.Syn, FirstSequence, 0);
            if (!denied)
            {
                Captured synAck = await capture.NextAsync(Captured.Syn | Captured.Ack);
                raw.Send(Captured.Ack, FirstSequence + 1, synAck.Sequence + 1);
                Assert.False(await host.AcceptedOnXdpAsync());
            }
            // The next one that the application gets. Where the source is kept out, it is the first that is answered.
            using Socket welcome = await lab.Client.ConnectAsync(new IPEndPoint(Lab.ServerIp4, Port));
            Assert.True((await capture.NextAsync(Captured.Syn | Captured.Ack)).IsIPv4);
            Assert.True(await host.AcceptedOnXdpAsync());
        }
        finally
        {
            await lab.Server.RunAsync(["ip", "-6", "neigh", "del", .. neighbour]);
        }
    }
}

/// <summary>The program sees the packets of a queue for which there is no AF_XDP socket.</summary>
[Collection(TwoQueueCollection.Name)]
public sealed class SourceListQueueTests(TwoQueueLab lab, ITestOutputHelper output) : SystemTest(output)
{
    private const int Connections = 32;

    [SkippableFact]
    public async Task QueueWithoutASocket_SourceStaysOut()
    {
        Lab.Require();
        HelloWebSettings settings = SourceLists.Settings with
        {
            Environment = new(SourceLists.Settings.Environment) { ["Kestrel__Xdp__Queues"] = "0" },
        };
        await WithServerAsync(lab.Server, settings, async server =>
        {
            IEnumerable<int> all = Enumerable.Range(0, Connections);
            await Task.WhenAll(all.Select(_ => SourceLists.AssertKeptOutAsync(lab.Client, server.EndPoint)));
            string[] transports = await Task.WhenAll(all.Select(async _ =>
            {
                using RawHttp http = await RawHttp.ConnectAsync(lab.Client, server.EndPointFor(Lab.ServerIp6));
                return (await http.FactsAsync()).Transport;
            }));
            // Both queues have served, each in its way.
            Assert.Equal(["sockets", "xdp"], transports.Distinct().Order());
            await server.StopAsync();
        });
    }
}

/// <summary>The interface gets another name.</summary>
public sealed class SourceListRenameTests(SourceListRenameTests.RenameLab lab, ITestOutputHelper output)
    : SystemTest(output), IClassFixture<SourceListRenameTests.RenameLab>
{
    private const string NewName = "srv9";

    /// <summary>Of its own, since the interface does not get its name back.</summary>
    public sealed class RenameLab() : Lab("direct", queues: 4);

    [SkippableFact]
    public async Task InterfaceIsRenamed_SourceStaysOut()
    {
        Lab.Require();
        await WithServerAsync(lab.Server, SourceLists.Settings, async server =>
        {
            await SourceLists.AssertKeptOutAsync(lab.Client, server.EndPoint);
            foreach (string command in (string[])[
                $"link set {Lab.Interface} down", $"link set {Lab.Interface} name {NewName}",
                $"link set {NewName} up", $"addr replace {Lab.ServerIp6}/64 dev {NewName} nodad"])
                await lab.Server.IpAsync(command);
            using HttpClient welcome = lab.Client.HttpClient();
            await FactsAsync(welcome, server.Url("/connection", Lab.ServerIp6));
            await SourceLists.AssertKeptOutAsync(lab.Client, server.EndPoint);
            await server.StopAsync();
        });
    }
}

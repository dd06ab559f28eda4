using System.Net;
using System.Net.Sockets;
using System.Text;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Shared;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>What the kernel owns stays the kernel's.</summary>
[Collection(DirectCollection.Name)]
public sealed class CoexistenceTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output)
{
    private const int DrainedBytes = 8_000_000;

    [SkippableFact]
    public async Task KernelConnection_OpenedBeforeXdpStarts_KeepsWorking()
    {
        Lab.Require();
        var endPoint = new IPEndPoint(Lab.ServerIp4, new HelloWebSettings().Port);
        using Socket listener = lab.Server.NewSocket(AddressFamily.InterNetwork);
        listener.Bind(endPoint);
        listener.Listen();
        using Socket client = await lab.Client.ConnectAsync(endPoint);
        using Socket old = await listener.AcceptAsync();
        listener.Dispose();
        await EchoAsync(client, old, "before");
        await OnXdpAsync(lab, async server =>
        {
            await EchoAsync(client, old, "while XDP serves the port");
            using HttpClient http = lab.Client.HttpClient();
            (await FactsAsync(http, server.Url("/connection"))).AssertOnXdp();
            await EchoAsync(client, old, "and after it has served somebody");
        });
        await EchoAsync(client, old, "after XDP has gone");
    }

    private static async Task EchoAsync(Socket client, Socket server, string text)
    {
        byte[] sent = Encoding.ASCII.GetBytes(text), received = new byte[sent.Length];
        foreach (var (from, to) in ((Socket, Socket)[])[(client, server), (server, client)])
        {
            await from.SendAsync(sent);
            for (int at = 0; at < received.Length;)
            {
                int count = await to.ReceiveAsync(received.AsMemory(at)).AsTask().WaitAsync(Command.Limit);
                Assert.NotEqual(0, count);
                at += count;
            }
            Assert.Equal(sent, received);
            Array.Clear(received);
        }
    }

    /// <summary>Somebody else's program is on the interface when the app starts, and goes later.</summary>
    [SkippableFact]
    public async Task InterfaceTaken_ServedBySockets_ThenUpgradedInPlace()
    {
        Lab.Require("clang", "bpftool");
        string directory = Directory.CreateTempSubdirectory().FullName;
        string program = Path.Combine(directory, "lab_impair.bpf.o");
        (await Command.RunAsync(
            ["clang", "-O2", "-g", "-target", "bpf", "-mcpu=v3", $"-I/usr/include/{Machine()}-linux-gnu", "-c",
            Path.Combine(Repository.Root, "bpf", "lab_impair.bpf.c"), "-o", program])).Succeeded();
        try
        {
            (await lab.Server.RunAsync(
                "ip", "link", "set", "dev", Lab.Interface, "xdpdrv", "obj", program, "sec", "xdp")).Succeeded();
            await WithServerAsync(lab.Server, new HelloWebSettings { Required = false }, async server =>
            {
                using HttpClient early = lab.Client.HttpClient();
                (await FactsAsync(early, server.Url("/connection"))).AssertOnCompanion();
                (await lab.Server.RunAsync("ip", "link", "set", "dev", Lab.Interface, "xdpdrv", "off")).Succeeded();
                await Eventually.TrueAsync(async () =>
                {
                    using HttpClient late = lab.Client.HttpClient();
                    return (await FactsAsync(late, server.Url("/connection"))).Transport == "xdp";
                }, () => $"New connections still go to sockets.\n{server.Log}");
                // The same connection as before: the kernel's.
                (await FactsAsync(early, server.Url("/connection"))).AssertOnCompanion();
                early.Dispose();
                await server.StopAsync();
            });
        }
        finally
        {
            await lab.Server.RunAsync("ip", "link", "set", "dev", Lab.Interface, "xdpdrv", "off");
            Directory.Delete(directory, recursive: true);
        }
    }

    private static string Machine() => System.Runtime.InteropServices.RuntimeInformation.ProcessArchitecture switch
    {
        System.Runtime.InteropServices.Architecture.Arm64 => "aarch64",
        _ => "x86_64",
    };

    [SkippableFact]
    public async Task Drain_EstablishedConnectionsFinish_WhileNewOnesGoToTheKernel()
    {
        Lab.Require();
        await WithServerAsync(lab.Server, new HelloWebSettings(), async server =>
        {
            using RawHttp http = await DrainAsync(server);
            await WithServerAsync(lab.Server, HelloWebSettings.Sockets, async successor =>
            {
                using HttpClient client = lab.Client.HttpClient();
                Assert.Equal("sockets", (await FactsAsync(client, successor.Url("/connection"))).Transport);
                Assert.False(server.HasExited);
                await http.ReadPatternAsync(0, DrainedBytes);
                await server.AssertCleanExitAsync();
                Assert.Equal("sockets", (await FactsAsync(client, successor.Url("/connection"))).Transport);
                client.Dispose();
                await successor.StopAsync();
            });
        });
    }

    /// <summary>
    /// One app hands its port on to the next, which is on XDP as well and takes over as soon as the first has let go.
    /// </summary>
    [SkippableFact]
    public async Task Drain_SuccessorOnXdp_TakesOverInPlace()
    {
        Lab.Require();
        await WithServerAsync(lab.Server, new HelloWebSettings(), async server =>
        {
            using RawHttp http = await DrainAsync(server);
            await WithServerAsync(lab.Server, new HelloWebSettings { Required = false }, async successor =>
            {
                using (HttpClient client = lab.Client.HttpClient())
                    (await FactsAsync(client, successor.Url("/connection"))).AssertOnCompanion();
                await http.ReadPatternAsync(0, DrainedBytes);
                await server.AssertCleanExitAsync();
                await Eventually.TrueAsync(async () =>
                {
                    using HttpClient late = lab.Client.HttpClient();
                    return (await FactsAsync(late, successor.Url("/connection"))).Transport == "xdp";
                }, () => $"New connections still go to sockets.\n{successor.Log}");
                await successor.StopAsync();
            });
        });
    }

    /// <summary>Has the server stop in the middle of a response; ends once it takes no more connections.</summary>
    private async Task<RawHttp> DrainAsync(HelloWebServer server)
    {
        // A response that cannot be finished before its client reads on.
        RawHttp http =
            await RawHttp.ConnectAsync(lab.Client, server.EndPoint, socket => socket.ReceiveBufferSize = 64 * 1024);
        (await http.FactsAsync()).AssertOnXdp();
        await http.WriteAsync(RawHttp.Get($"/bytes/{DrainedBytes}"));
        Assert.Equal(DrainedBytes, await http.ReadHeadAsync());

        server.Signal(SystemCalls.SIGTERM);
        await Eventually.TrueAsync(
            () => server.RefusesAsync(lab.Client), () => $"The draining server still accepts.\n{server.Log}");
        return http;
    }
}

/// <summary>A host that forwards traffic to the port it serves over XDP itself.</summary>
[Collection(RouterCollection.Name)]
public sealed class ForwardingTests(RouterLab lab, ITestOutputHelper output) : SystemTest(output)
{
    [SkippableFact]
    public async Task Forwarding_TrafficToTheSamePort_PassesUntouched()
    {
        Lab.Require();
        const int Bytes = 5_000_000;
        await using HelloWebServer behind = await HelloWebServer.StartAsync(lab.Server, HelloWebSettings.Sockets);
        await OnXdpAsync(lab.Router, new HelloWebSettings { Interfaces = RouterLab.Interfaces }, async router =>
        {
            foreach (IPAddress address in (IPAddress[])[Lab.ServerIp4, Lab.ServerIp6])
            {
                using HttpClient through = lab.Client.HttpClient();
                ConnectionFacts facts = await FactsAsync(through, behind.Url("/connection", address));
                Assert.Equal("sockets", facts.Transport);
                Assert.False(facts.Companion);
                Pattern.AssertMatches(await through.GetByteArrayAsync(behind.Url($"/bytes/{Bytes}", address)), 0);
            }
            using HttpClient own = lab.Client.HttpClient();
            (await FactsAsync(own, router.Url("/connection", RouterLab.ClientSideIp4))).AssertOnXdp("rtc0");
            using HttpClient fromServer = lab.Server.HttpClient();
            (await FactsAsync(fromServer, router.Url("/connection", IPAddress.Parse("10.77.0.254"))))
                .AssertOnXdp("rts0");
        });
    }
}

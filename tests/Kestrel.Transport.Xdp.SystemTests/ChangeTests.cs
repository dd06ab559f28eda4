using System.Net.Sockets;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Shared;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>
/// What an administrator changes while the app runs. Where sockets go on serving, so does AF_XDP; what ends is said in
/// a line of the log.
/// </summary>
public sealed class ChangeTests(ChangeTests.ChangeLab lab, ITestOutputHelper output)
    : SystemTest(output), IClassFixture<ChangeTests.ChangeLab>
{
    private const string ClientInterface = "cli0";

    /// <summary>Of its own, since what it is made of is changed.</summary>
    public sealed class ChangeLab() : Lab("direct", queues: 2);

    [SkippableFact]
    public async Task ProgramDetachedByOthers_SocketsServe_AndALineSaysSo()
    {
        Lab.Require("bpftool");
        await WithServerAsync(lab.Server, new HelloWebSettings(), async server =>
        {
            using RawHttp open = await RawHttp.ConnectAsync(lab.Client, server.EndPoint);
            (await open.FactsAsync()).AssertOnXdp();

            await AttachedProgram.DetachAsync(lab.Server);
            await server.LineAsync(Lab.Interface, "is left to sockets: somebody else has detached its XDP program");
            SocketException end = await Assert.ThrowsAsync<SocketException>(() => open.ReadSomeAsync());
            Assert.Equal(SocketError.ConnectionReset, end.SocketErrorCode);
            using (HttpClient client = lab.Client.HttpClient())
                (await FactsAsync(client, server.Url("/connection"))).AssertOnCompanion();

            await lab.Server.IpAsync($"link set {Lab.Interface} down");
            await lab.Server.IpAsync($"link set {Lab.Interface} up");
            await server.LineAsync("is now served over AF_XDP");
            await lab.Server.IpAsync($"addr replace {Lab.ServerIp6}/64 dev {Lab.Interface} nodad");
            using (HttpClient client = lab.Client.HttpClient())
                (await FactsAsync(client, server.Url("/connection"))).AssertOnXdp();
            await server.StopAsync();
        });
    }

    [SkippableFact]
    public async Task RedirectedPacketsThatVanish_SocketsServe_AndALineSaysSo()
    {
        Lab.Require("bpftool");
        await WithServerAsync(lab.Server, new HelloWebSettings(), async server =>
        {
            using (RawHttp open = await RawHttp.ConnectAsync(lab.Client, server.EndPoint))
                (await open.FactsAsync()).AssertOnXdp();
            uint map = await AttachedProgram.MapAsync(lab.Server, "xsks_map");
            using IDisposable vanish = SystemCalls.MakeRedirectsVanish(map, queues: 2);
            using HttpClient client = lab.Client.HttpClient();
            (await FactsAsync(client, server.Url("/connection"))).AssertOnCompanion();
            await server.LineAsync(
                Lab.Interface, "is left to sockets: what its XDP program redirects does not arrive");
            Assert.Null(AttachedProgram.On(lab.Server));
            await server.StopAsync();
        });
    }

    [SkippableTheory]
    [InlineData("xdp")]
    [InlineData("sockets")]
    public async Task InterfaceRenamed_ConnectionsGoOn(string transport)
    {
        Lab.Require();
        const string NewName = "blue0";
        try
        {
            await WithServerAsync(lab.Server, HelloWebSettings.Over(transport), async server =>
            {
                using RawHttp open = await RawHttp.ConnectAsync(lab.Client, server.EndPoint);
                Assert.Equal(transport, (await open.FactsAsync()).Transport);
                await lab.Server.IpAsync($"link set {Lab.Interface} name {NewName}");
                if (transport == "xdp")
                    await server.LineAsync($"{Lab.Interface} is called {NewName} now");
                Assert.Equal(transport, (await open.FactsAsync()).Transport);
                using (HttpClient client = lab.Client.HttpClient())
                    Assert.Equal(transport, (await FactsAsync(client, server.Url("/connection"))).Transport);

                // Another interface takes the name that was the first one's.
                await lab.Server.IpAsync($"link add {Lab.Interface} type veth peer name other0");
                await lab.Server.IpAsync($"link del {Lab.Interface}");
                Assert.Equal(transport, (await open.FactsAsync()).Transport);
                await server.StopAsync();
            });
        }
        finally
        {
            await lab.Server.IpAsync($"link set {NewName} name {Lab.Interface}");
        }
    }

    [SkippableTheory]
    [InlineData("xdp")]
    [InlineData("sockets")]
    public async Task MtuLowered_TransfersGoOn(string transport)
    {
        Lab.Require("curl", "ethtool");
        const int Bytes = 500_000;
        string file = Path.GetTempFileName();
        try
        {
            // Each packet is one on the wire: the server's interface drops what is larger than its MTU.
            await OffloadsAsync("off");
            await File.WriteAllBytesAsync(file, new byte[Bytes]);
            await WithServerAsync(lab.Server, HelloWebSettings.Over(transport), async server =>
            {
                using RawHttp open = await RawHttp.ConnectAsync(lab.Client, server.EndPoint);
                Assert.Equal(transport, (await open.FactsAsync()).Transport);

                await lab.Server.IpAsync($"link set {Lab.Interface} mtu 1000");
                await Eventually.NullAsync(async () =>
                {
                    CommandResult upload = await lab.Client.RunAsync(
                        "curl", "-sS", "--max-time", "5", "-X", "POST", "-T", file, $"{server.Url("/upload")}");
                    return upload.ExitCode == 0 ? null : $"{upload.Error}\n{server.Log}";
                });

                await lab.Client.IpAsync($"link set {ClientInterface} mtu 1000");
                double retransmits = transport == "xdp" ? (await server.CountersAsync()).Retransmits : 0;
                await open.WriteAsync(RawHttp.Get($"/bytes/{Bytes}"));
                Assert.Equal(Bytes, await open.ReadHeadAsync());
                await open.ReadPatternAsync(0, Bytes);
                Assert.Equal(transport, (await open.FactsAsync()).Transport);
                if (transport == "xdp")
                    Assert.Equal(retransmits, (await server.CountersAsync()).Retransmits);
                await server.StopAsync();
            });
        }
        finally
        {
            File.Delete(file);
            await lab.Server.IpAsync($"link set {Lab.Interface} mtu 1500");
            await lab.Client.IpAsync($"link set {ClientInterface} mtu 1500");
            await OffloadsAsync("on");
        }
    }

    [SkippableTheory]
    [InlineData("xdp")]
    [InlineData("sockets")]
    public async Task MoreChannels_ConnectionsGoOn_AndTheNewQueueServes(string transport)
    {
        Lab.Require("ethtool");
        const int Connections = 32;
        try
        {
            await ChannelsAsync(lab.Client, ClientInterface, 1);
            await ChannelsAsync(lab.Server, Lab.Interface, 1);
            await WithServerAsync(lab.Server, HelloWebSettings.Over(transport), async server =>
            {
                await server.CountersAsync();
                long resets = lab.Server.KernelTcp().ResetsSent;
                RawHttp[] open = await Task.WhenAll(Enumerable.Range(0, Connections)
                    .Select(_ => RawHttp.ConnectAsync(lab.Client, server.EndPoint)));
                foreach (RawHttp http in open)
                    Assert.Equal(transport, (await http.FactsAsync()).Transport);

                await ChannelsAsync(lab.Server, Lab.Interface, 2);
                // Until then a veth does not run the program for the new queue.
                if (transport == "xdp")
                    await server.LineAsync($"{Lab.Interface} has 2 receive queues now");
                await ChannelsAsync(lab.Client, ClientInterface, 2);
                foreach (RawHttp http in open)
                    Assert.Equal(transport, (await http.FactsAsync().WaitAsync(Command.Limit)).Transport);
                if (transport == "xdp")
                {
                    await Eventually.NullAsync(async () =>
                    {
                        using RawHttp http = await RawHttp.ConnectAsync(lab.Client, server.EndPoint);
                        ConnectionFacts facts = await http.FactsAsync();
                        return facts is { Transport: "xdp", Queue: 1 } ? null : $"{facts}";
                    });
                }
                // Sockets of AF_XDP hold their queues: the kernel lets nobody take them away.
                await ChannelsAsync(lab.Client, ClientInterface, 1);
                CommandResult fewer = await lab.Server.RunAsync(
                    "ethtool", "-L", Lab.Interface, "rx", "1", "tx", "1");
                Assert.Equal(transport == "xdp", fewer.ExitCode != 0);
                foreach (RawHttp http in open)
                    Assert.Equal(transport, (await http.FactsAsync().WaitAsync(Command.Limit)).Transport);
                Array.ForEach(open, http => http.Dispose());
                Assert.Equal(resets, lab.Server.KernelTcp().ResetsSent);
                await server.StopAsync();
            });
        }
        finally
        {
            await ChannelsAsync(lab.Server, Lab.Interface, 2);
            await ChannelsAsync(lab.Client, ClientInterface, 2);
        }
    }

    /// <param name="unnoticed">The app does not run meanwhile: it finds the interface where it was.</param>
    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task InterfaceMovedToAnotherNamespace_AndBack_IsServedAgain(bool unnoticed)
    {
        Lab.Require();
        // An empty one, in which the interface keeps its index.
        var elsewhere = new Namespace($"{lab.Server.Name}-away");
        (await Command.RunAsync(["ip", "netns", "add", elsewhere.Name])).Succeeded();
        try
        {
            await WithServerAsync(lab.Server, new HelloWebSettings(), async server =>
            {
                using (RawHttp open = await RawHttp.ConnectAsync(lab.Client, server.EndPoint))
                    (await open.FactsAsync()).AssertOnXdp();
                int index = AttachedProgram.Device(lab.Server).Index;
                if (unnoticed)
                    server.Signal(SystemCalls.SIGSTOP);
                await lab.Server.IpAsync($"link set {Lab.Interface} netns {elsewhere.Name}");
                if (!unnoticed)
                {
                    await server.LineAsync(Lab.Interface, "is lost");
                    Assert.Null(AttachedProgram.On(elsewhere));
                }
                await elsewhere.IpAsync($"link set {Lab.Interface} netns {lab.Server.Name}");
                Assert.Equal(index, AttachedProgram.Device(lab.Server).Index);
                await lab.Server.IpAsync($"addr add {Lab.ServerIp4}/24 dev {Lab.Interface}");
                await lab.Server.IpAsync($"addr add {Lab.ServerIp6}/64 dev {Lab.Interface} nodad");
                await lab.Server.IpAsync($"link set {Lab.Interface} up");
                if (unnoticed)
                    server.Signal(SystemCalls.SIGCONT);
                await server.LineAsync(Lab.Interface, "is lost");
                await server.LineAsync("is now served over AF_XDP");
                using HttpClient client = lab.Client.HttpClient();
                (await FactsAsync(client, server.Url("/connection"))).AssertOnXdp();
                await server.StopAsync();
            });
        }
        finally
        {
            (await Command.RunAsync(["ip", "netns", "del", elsewhere.Name])).Succeeded();
        }
    }

    private async Task OffloadsAsync(string state) => (await lab.Client.RunAsync(
        "ethtool", "-K", ClientInterface, "tso", state, "gso", state)).Succeeded();

    private static async Task ChannelsAsync(Namespace at, string device, int count) =>
        (await at.RunAsync("ethtool", "-L", device, "rx", $"{count}", "tx", $"{count}")).Succeeded();
}

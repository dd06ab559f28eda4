using System.Net;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>
/// Each system call of the transport fails, at the start, while the app runs, and when it stops. The app serves, over
/// AF_XDP or over sockets, or it says why it does not start. Nothing stays attached, and SIGTERM is an end in order.
/// </summary>
[Collection(DirectCollection.Name)]
public sealed class SystemCallTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output)
{
    // Of calls that are made for many maps and addresses, so many fail, one after the other.
    private const int MostOfAKind = 5;

    private static readonly string[] s_atStart =
    [
        "socket(AF_XDP)", "socket(AF_NETLINK)", "eventfd", "XDP_UMEM_REG", "XDP_UMEM_FILL_RING",
        "XDP_UMEM_COMPLETION_RING", "XDP_RX_RING", "XDP_TX_RING", "XDP_MMAP_OFFSETS", "XDP_OPTIONS",
        "XDP_MAX_TX_SKB_BUDGET", "mmap(ring)", "bind(AF_XDP)", "bind(AF_NETLINK)", "send(netlink)", "recv(netlink)",
        "socket(AF_PACKET)", "PACKET_VNET_HDR", "bind(AF_PACKET)", "SIOCETHTOOL", "BPF_MAP_CREATE", "BPF_PROG_LOAD",
        "BPF_LINK_CREATE", "BPF_MAP_UPDATE_ELEM", "BPF_MAP_GET_NEXT_KEY", "BPF_OBJ_GET_INFO_BY_FD",
        "PR_SET_TIMERSLACK", "ppoll", "poll",
    ];

    // What a queue is opened with.
    private static readonly string[] s_ofAQueue =
        ["socket(AF_XDP)", "XDP_UMEM_REG", "XDP_TX_RING", "mmap(ring)", "bind(AF_XDP)", "BPF_MAP_UPDATE_ELEM"];

    private static readonly string[] s_running =
    [
        "ppoll", "poll", "socket(AF_NETLINK)", "bind(AF_NETLINK)", "send(netlink)", "recv(netlink)", "SIOCETHTOOL",
        "BPF_MAP_UPDATE_ELEM", "BPF_MAP_DELETE_ELEM", "BPF_MAP_LOOKUP_ELEM", "XDP_STATISTICS", "sendto(AF_XDP)",
    ];

    private const string All = "all of them";

    private int _stirred;

    public static TheoryData<string> AtStart => [.. s_atStart];

    public static TheoryData<string> OfAQueue => [.. s_ofAQueue];

    public static TheoryData<string> AtStop =>
    [
        All, "BPF_LINK_DETACH", "BPF_MAP_UPDATE_ELEM", "BPF_MAP_DELETE_ELEM", "sendto(AF_XDP)", "ppoll", "poll",
        "recv(netlink)", "socket(AF_NETLINK)",
    ];

    /// <summary>The first such call fails, in another start the second, and so on.</summary>
    [SkippableTheory]
    [MemberData(nameof(AtStart))]
    public async Task FailsAtStart_SocketsServe_OrAfXdp(string name)
    {
        Lab.Require();
        bool isMade = true;
        for (int which = 1; isMade && which <= MostOfAKind; which++)
        {
            var calls = new SystemCallFaults();
            calls.Fail(name, which);
            await WithServerAsync(lab.Server, With(calls), async server =>
            {
                await AssertServesOrSaysWhyAsync(server);
                isMade = calls.Hits > 0;
                Assert.True(isMade || which > 1, $"{name} is not called.");
                await StopAsync(server);
            });
        }
    }

    [SkippableTheory]
    [MemberData(nameof(AtStart))]
    public async Task FailsAtStart_AndRequired_StartsOnAfXdp_OrSaysWhyNot(string name)
    {
        Lab.Require();
        var calls = new SystemCallFaults();
        calls.Fail(name, once: false);
        await using HelloWebServer server =
            await HelloWebServer.StartOrEndAsync(lab.Server, With(calls) with { Required = true });
        Assert.True(calls.Hits > 0, $"{name} was not called.");
        if (server.HasExited)
        {
            Assert.Equal(1, await server.ExitAsync());
            string said =
                Assert.Single(server.Lines, line => line.StartsWith("HelloWeb: ", StringComparison.Ordinal));
            Output.WriteLine(said);
            Assert.Contains("cannot be served over AF_XDP, which is required", said, StringComparison.Ordinal);
            AssertNothingIsLeft(server);
        }
        else
        {
            await AssertServesOrSaysWhyAsync(server);
            await StopAsync(server);
        }
    }

    [SkippableFact]
    public async Task FailsWhileRunning_ServesOn_AndOverAfXdpAgain()
    {
        Lab.Require();
        var calls = new SystemCallFaults();
        await WithServerAsync(lab.Server, With(calls), async server =>
        {
            await AssertOnXdpAgainAsync(server);
            foreach (string name in s_running)
            {
                await FailOneAsync(calls, name, server);
                await AssertOnXdpAgainAsync(server);
            }
            await StopAsync(server);
        });
    }

    /// <summary>A queue fails, and then the call that would open it again.</summary>
    [SkippableTheory]
    [MemberData(nameof(OfAQueue))]
    public async Task FailsWhenAQueueIsOpenedAgain_ServesOn_AndOverAfXdpAgain(string name)
    {
        Lab.Require();
        var calls = new SystemCallFaults();
        await WithServerAsync(lab.Server, With(calls), async server =>
        {
            await AssertOnXdpAgainAsync(server);
            await FailOneAsync(calls, "sendto(AF_XDP)", server, then: name);
            await Eventually.TrueAsync(() => calls.Hits > 1, () => $"{name} is not called.\n{server.Log}");
            await AssertOnXdpAgainAsync(server);
            await StopAsync(server);
        });
    }

    [SkippableTheory]
    [MemberData(nameof(AtStop))]
    public async Task FailsAtStop_IsAnEndInOrder(string name)
    {
        Lab.Require();
        var calls = new SystemCallFaults();
        await WithServerAsync(lab.Server, With(calls), async server =>
        {
            // A connection that is open is there to be ended.
            using RawHttp http = await RawHttp.ConnectAsync(lab.Client, server.EndPoint);
            await http.WriteAsync(RawHttp.Get("/plaintext"));
            await http.ReadHeadAsync();
            if (name == All)
                calls.FailAll();
            else
                calls.Fail(name, once: false);
            await StopAsync(server);
        });
    }

    // With a source list, which a start without one has no calls for.
    private static HelloWebSettings With(SystemCallFaults calls) => new()
    {
        Required = false,
        Faults = calls,
        Environment = new() { ["Kestrel__Xdp__DeniedSources__0"] = "192.0.2.99/32" },
    };

    private async Task AssertServesOrSaysWhyAsync(HelloWebServer server)
    {
        using HttpClient client = lab.Client.HttpClient();
        ConnectionFacts facts = await FactsAsync(client, server.Url("/connection"));
        if (facts.Transport != "xdp")
        {
            Assert.Contains(server.Lines, line =>
                line.StartsWith("warn: Kestrel.Transport.Xdp", StringComparison.Ordinal)
                && (line.Contains("served by sockets", StringComparison.Ordinal)
                    || line.Contains("not served by AF_XDP", StringComparison.Ordinal)));
        }
    }

    // What carries connections while a call fails may be lost with them. New ones are served.
    private Task AssertOnXdpAgainAsync(HelloWebServer server) => Eventually.NullAsync(async () =>
    {
        using HttpClient client = lab.Client.HttpClient();
        try
        {
            ConnectionFacts facts = await FactsAsync(client, server.Url("/connection"));
            return facts.Transport == "xdp" ? null : $"Sockets serve.\n{server.Log}";
        }
        catch (HttpRequestException e)
        {
            return $"{e.Message}\n{server.Log}";
        }
    });

    // Until it has failed, all is done that brings it about.
    private Task FailOneAsync(SystemCallFaults calls, string name, HelloWebServer server, string? then = null)
    {
        calls.Fail(name, then: then);
        return Eventually.TrueAsync(
            async () =>
            {
                await StirAsync(server);
                return calls.Hits > 0;
            },
            () => $"{name} is not called.");
    }

    // Packets, an address that comes and goes, and a look at the counters. The address is another each time: one that
    // comes back soon is not taken from the maps.
    private async Task StirAsync(HelloWebServer server)
    {
        _stirred = (_stirred + 1) % 250;
        string address = $"10.77.9.{_stirred + 1}/32 dev {Lab.Interface}";
        await lab.Server.IpAsync($"addr add {address}");
        using (HttpClient client = lab.Client.HttpClient())
        {
            try
            {
                await client.GetStringAsync(server.Url("/plaintext"));
            }
            catch (HttpRequestException)
            {
                // It went with its queue.
            }
        }
        await server.CountersAsync();
        await lab.Server.IpAsync($"addr del {address}");
    }

    private async Task StopAsync(HelloWebServer server)
    {
        server.Signal(SystemCalls.SIGTERM);
        int code = await server.ExitAsync();
        Assert.True(code == 0, $"HelloWeb ended with {code}.\n{server.Log}");
        AssertNothingIsLeft(server);
    }

    private void AssertNothingIsLeft(HelloWebServer server)
    {
        Assert.DoesNotContain(server.Lines, line => line.StartsWith("crit:", StringComparison.Ordinal)
            || line.Contains("Unhandled exception", StringComparison.Ordinal));
        Assert.Null(AttachedProgram.On(lab.Server));
    }
}

using System.Net;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>What the companion socket is for: the port, local clients, and hosts where XDP is not to be had.</summary>
[Collection(DirectCollection.Name)]
public sealed class FallbackTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output)
{
    private const string Bare = "bare0";

    [SkippableFact]
    public async Task Companion_ClientsOfTheSameHost_AreServedBySockets()
    {
        Lab.Require();
        await WithServerAsync(lab.Server, new HelloWebSettings(), async server =>
        {
            using (HttpClient local = lab.Server.HttpClient())
            {
                foreach (IPAddress address in (IPAddress[])[
                    IPAddress.Loopback, IPAddress.IPv6Loopback, Lab.ServerIp4, Lab.ServerIp6])
                    (await FactsAsync(local, server.Url("/connection", address))).AssertOnCompanion();
            }
            using (HttpClient remote = lab.Client.HttpClient())
                (await FactsAsync(remote, server.Url("/connection"))).AssertOnXdp();
            await server.StopAsync();
        });
    }

    [SkippableTheory]
    [InlineData("xdp")]
    [InlineData("sockets")]
    public async Task SecondApp_SamePort_GetsAddressAlreadyInUse(string second)
    {
        Lab.Require();
        await OnXdpAsync(lab, async server =>
        {
            (int code, string log) = await HelloWebServer.RunToExitAsync(
                lab.Server, HelloWebSettings.Over(second));
            Assert.Equal(1, code);
            Assert.Contains("address already in use", log, StringComparison.Ordinal);
            using HttpClient client = lab.Client.HttpClient();
            (await FactsAsync(client, server.Url("/connection"))).AssertOnXdp();
        });
    }

    /// <summary>How XDP is made impossible, and what the log line must name.</summary>
    public static TheoryData<string, string> Obstacles => new()
    {
        { "no such interface", "nosuch0" },
        { "no capability", "CAP_" },
        { "AF_XDP is filtered, by systemd", "a seccomp filter forbids AF_XDP" },
        { "AF_XDP is filtered, by a container", "a seccomp filter forbids AF_XDP" },
        { "a user namespace", "user namespace" },
    };

    private static HelloWebSettings Without(string what, bool required) => what switch
    {
        "no such interface" => new() { Interfaces = ["nosuch0"], Required = required },
        "no capability" => new()
        {
            Through = ["setpriv", "--bounding-set", "-net_raw,-net_admin,-bpf,-sys_admin", "--inh-caps", "-all"],
            Required = required,
        },
        "a user namespace" => new() { Through = ["unshare", "--user", "--map-root-user"], Required = required },
        "AF_XDP is filtered, by systemd" => new() { AfXdpErrno = SystemCalls.EAFNOSUPPORT, Required = required },
        _ => new() { AfXdpErrno = SystemCalls.EPERM, Required = required },
    };

    [SkippableTheory]
    [MemberData(nameof(Obstacles))]
    public async Task XdpImpossible_IsServedBySockets_WithOneClearLogLine(string obstacle, string named)
    {
        Lab.Require("setpriv", "unshare");
        await WithServerAsync(lab.Server, Without(obstacle, required: false), async server =>
        {
            using (HttpClient client = lab.Client.HttpClient())
            {
                foreach (IPAddress address in (IPAddress[])[Lab.ServerIp4, Lab.ServerIp6])
                    (await FactsAsync(client, server.Url("/connection", address))).AssertOnCompanion();
            }
            await server.StopAsync();
            string[] lines =
                [.. server.Lines.Where(line => line.Contains("Kestrel.Transport.Xdp", StringComparison.Ordinal))];
            Output.WriteLine(string.Join('\n', lines));
            string only = Assert.Single(lines);
            Assert.StartsWith("warn:", only, StringComparison.Ordinal);
            Assert.Contains("served by sockets, not by AF_XDP", only, StringComparison.Ordinal);
            Assert.Contains(named, only, StringComparison.Ordinal);
            Assert.DoesNotContain("kernel has no", only, StringComparison.Ordinal);
        });
    }

    [SkippableTheory]
    [MemberData(nameof(Obstacles))]
    public async Task XdpImpossible_AndRequired_RefusesToStart(string obstacle, string named)
    {
        Lab.Require("setpriv", "unshare");
        (int code, string log) = await HelloWebServer.RunToExitAsync(lab.Server, Without(obstacle, required: true));
        Output.WriteLine(log);
        Assert.Equal(1, code);
        string refusal =
            Assert.Single(log.Split('\n'), line => line.StartsWith("HelloWeb: ", StringComparison.Ordinal));
        Assert.Contains("cannot be served over AF_XDP", refusal, StringComparison.Ordinal);
        Assert.Contains(named, refusal, StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task KillSwitch_IsServedBySockets_WithOneClearLogLine()
    {
        Lab.Require();
        var off = new HelloWebSettings { Required = false, Environment = { ["KESTREL_XDP"] = "off" } };
        await WithServerAsync(lab.Server, off, async server =>
        {
            using (HttpClient client = lab.Client.HttpClient())
                Assert.Equal("sockets", (await FactsAsync(client, server.Url("/connection"))).Transport);
            await server.StopAsync();
            Assert.Single(server.Lines, line => line.Contains("KESTREL_XDP=off", StringComparison.Ordinal));
        });
    }

    /// <summary>Nothing arrives at an interface without an address, so it serves nothing until it gets one.</summary>
    [SkippableFact]
    public async Task InterfaceWithoutAddress_IsNotServed_UntilItHasOne()
    {
        Lab.Require();
        await AddBareInterfaceAsync();
        try
        {
            var settings = new HelloWebSettings { Interfaces = [Bare], Required = false };
            await WithServerAsync(lab.Server, settings, async server =>
            {
                await LineAsync(server, 1, "not by AF_XDP: bare0 has no address");
                (await lab.Server.RunAsync("ip", "addr", "add", "10.99.0.1/24", "dev", Bare)).Succeeded();
                await LineAsync(server, 2, "is now served over AF_XDP on bare0");
                (await lab.Server.RunAsync("ip", "addr", "del", "10.99.0.1/24", "dev", Bare)).Succeeded();
                await LineAsync(server, 3, "is not served by AF_XDP on bare0: bare0 has no address");
                await server.StopAsync();
            });
            (int code, string log) = await HelloWebServer.RunToExitAsync(lab.Server, settings with { Required = true });
            Assert.Equal(1, code);
            Assert.Contains("bare0 has no address", log, StringComparison.Ordinal);
        }
        finally
        {
            await lab.Server.RunAsync("ip", "link", "del", Bare);
        }
    }

    /// <summary>One interface by two of its names.</summary>
    [SkippableFact]
    public async Task OtherNameOfAnInterface_IsTheInterface()
    {
        const string OtherName = "the-other-name-of-srv0";
        Lab.Require();
        (await lab.Server.RunAsync("ip", "link", "property", "add", "dev", Lab.Interface, "altname", OtherName))
            .Succeeded();
        try
        {
            var settings = new HelloWebSettings { Interfaces = [OtherName, Lab.Interface] };
            await OnXdpAsync(lab.Server, settings, async server =>
            {
                using HttpClient client = lab.Client.HttpClient();
                (await FactsAsync(client, server.Url("/connection"))).AssertOnXdp();
                Assert.Contains("AF_XDP on srv0", Assert.Single(TransportLines(server)), StringComparison.Ordinal);
            });
        }
        finally
        {
            await lab.Server.RunAsync("ip", "link", "property", "del", "dev", Lab.Interface, "altname", OtherName);
        }
    }

    // Up, in the server's namespace, and without so much as a link-local address.
    private async Task AddBareInterfaceAsync()
    {
        foreach (string command in (string[])[
            $"link add {Bare} type veth peer name bare1", $"link set {Bare} addrgenmode none", $"link set {Bare} up",
            "link set bare1 up"])
            await lab.Server.IpAsync(command);
    }

    private static string[] TransportLines(HelloWebServer server) =>
        [.. server.Lines.Where(line => line.Contains("Kestrel.Transport.Xdp", StringComparison.Ordinal))];

    private static async Task LineAsync(HelloWebServer server, int number, string text)
    {
        await Eventually.TrueAsync(() => TransportLines(server).Length >= number, () => server.Log);
        Assert.Contains(text, TransportLines(server)[number - 1], StringComparison.Ordinal);
    }

    /// <summary>The firewall is passed by: whoever relies on it is told.</summary>
    [SkippableFact]
    public async Task Start_OnXdp_WithInputRules_Warns()
    {
        Lab.Require("nft");
        const string rules = "add table inet guard; "
            + "add chain inet guard in { type filter hook input priority 0; }; "
            + "add rule inet guard in tcp dport 8080 ip saddr 192.0.2.1 drop; "
            + "add chain inet guard others { type filter hook input priority 1; }; "
            + "add rule inet guard others tcp dport 81 drop";
        await lab.Server.RunAsync("nft", rules);
        try
        {
            await WithServerAsync(lab.Server, new HelloWebSettings(), async server =>
            {
                // The host's rules are read beside the start, so that it does not wait for them.
                await LineAsync(server, 2, "firewall");
                await server.StopAsync();
                string only = Assert.Single(server.Lines, line => line.Contains("firewall", StringComparison.Ordinal));
                Assert.StartsWith("warn:", only, StringComparison.Ordinal);
                Assert.Contains("inet guard in (drop)", only, StringComparison.Ordinal);
                Assert.DoesNotContain("inet guard others", only, StringComparison.Ordinal);
            });
        }
        finally
        {
            await lab.Server.RunAsync("nft", "delete table inet guard");
        }
    }

    [SkippableFact]
    public async Task Start_OnXdp_LogsOneLineWithInterfaceAndModes()
    {
        Lab.Require();
        await OnXdpAsync(lab, async server =>
        {
            using HttpClient client = lab.Client.HttpClient();
            (await FactsAsync(client, server.Url("/connection"))).AssertOnXdp();
            string only =
                Assert.Single(server.Lines, line => line.Contains("Kestrel.Transport.Xdp", StringComparison.Ordinal));
            Assert.StartsWith("info:", only, StringComparison.Ordinal);
            Assert.Contains(Lab.Interface, only, StringComparison.Ordinal);
            Assert.Contains("native", only, StringComparison.OrdinalIgnoreCase);
            Assert.Contains("copy", only, StringComparison.OrdinalIgnoreCase);
        });
    }
}

using System.Net;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>What the companion socket is for: the port, local clients, and hosts where XDP is not to be had.</summary>
[Collection(DirectCollection.Name)]
public sealed class FallbackTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output)
{
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
                lab.Server, second == "xdp" ? new HelloWebSettings() : HelloWebSettings.Sockets);
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

    /// <summary>The firewall is passed by: whoever relies on it is told.</summary>
    [SkippableFact]
    public async Task Start_OnXdp_WithInputRules_Warns()
    {
        Lab.Require("nft");
        const string rules = "add table inet guard; "
            + "add chain inet guard in { type filter hook input priority 0; }; "
            + "add rule inet guard in tcp dport 81 drop";
        await lab.Server.RunAsync("nft", rules);
        try
        {
            await WithServerAsync(lab.Server, new HelloWebSettings(), async server =>
            {
                await server.StopAsync();
                string only = Assert.Single(server.Lines, line => line.Contains("firewall", StringComparison.Ordinal));
                Assert.StartsWith("warn:", only, StringComparison.Ordinal);
                Assert.Contains("inet guard in", only, StringComparison.Ordinal);
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

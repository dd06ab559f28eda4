using System.Diagnostics;
using System.Net;
using System.Text;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Shared;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>An ordinary user with what README names, and with less.</summary>
[Collection(DirectCollection.Name)]
public sealed class PrivilegeTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output)
{
    private const string User = "12345", UsualLimit = "8388608";

    private static readonly string[] s_documented = ["net_raw", "net_admin", "bpf"];

    // The command line that starts what follows it as a user with these capabilities and no other.
    private static string[] As(IEnumerable<string> capabilities, string memoryLock = UsualLimit)
    {
        string set = string.Join(',', capabilities.Select(name => $"+{name}").Prepend("-all"));
        return
        [
            "prlimit", $"--memlock={memoryLock}:{memoryLock}",
            "setpriv", "--reuid", User, "--regid", User, "--clear-groups",
            "--inh-caps", set, "--ambient-caps", set, "--bounding-set", set,
        ];
    }

    // Few enough frames for the usual memory-lock limit.
    private static HelloWebSettings With(IEnumerable<string> capabilities) => new()
    {
        Through = As(capabilities),
        Environment = { ["Kestrel__Xdp__FramesPerQueue"] = "1024" },
    };

    private static HelloWebSettings WithAll(string memoryLock) => new() { Through = As(s_documented, memoryLock) };

    [SkippableFact]
    public async Task DocumentedCapabilities_ServeOnXdp()
    {
        Lab.Require("setpriv", "prlimit");
        await OnXdpAsync(lab.Server, With(s_documented), async server =>
        {
            await AssertOnXdpAsync(server);
            Assert.StartsWith("info:", Assert.Single(LinesOf(server)), StringComparison.Ordinal);
        });
    }

    [SkippableTheory]
    [InlineData("net_raw")]
    [InlineData("net_admin")]
    [InlineData("bpf")]
    [InlineData("net_raw", "bpf")]
    [InlineData("net_raw", "net_admin", "bpf")]
    public async Task CapabilitiesMissing_AreNamedAtOnce(params string[] missing)
    {
        Lab.Require("setpriv", "prlimit");
        HelloWebSettings settings = With(s_documented.Except(missing));
        await WithServerAsync(lab.Server, settings with { Required = false }, async server =>
        {
            using HttpClient client = lab.Client.HttpClient();
            (await FactsAsync(client, server.Url("/connection"))).AssertOnCompanion();
            string only = Assert.Single(LinesOf(server));
            Output.WriteLine(only);
            Assert.StartsWith("warn:", only, StringComparison.Ordinal);
            AssertNames(missing, only);
            await server.StopAsync();
        });

        (int code, string log) = await HelloWebServer.RunToExitAsync(lab.Server, settings);
        Assert.Equal(1, code);
        AssertNames(missing, log);
    }

    /// <summary>The limit that most systems have, which the frames of one queue exceed.</summary>
    [SkippableFact]
    public async Task UsualMemoryLockLimit_ServesWithFewerFrames_AndSaysSo()
    {
        Lab.Require("setpriv", "prlimit");
        await OnXdpAsync(lab.Server, WithAll(UsualLimit), async server =>
        {
            await AssertOnXdpAsync(server);
            Assert.Equal(4096, (await server.CountersAsync()).Frames);
            string only =
                Assert.Single(LinesOf(server), line => line.StartsWith("warn:", StringComparison.Ordinal));
            Output.WriteLine(only);
            foreach (string said in (string[])["4096 frames", "16384", "8192 KiB", "32768 KiB", "CAP_IPC_LOCK"])
                Assert.Contains(said, only, StringComparison.Ordinal);
        });
    }

    /// <summary>
    /// Many drivers restart the interface when a program comes or goes. A limit that leaves no frames must not cost
    /// that. A veth whose program comes takes offloads from its peer, which is news there.
    /// </summary>
    [SkippableTheory]
    [InlineData("65536", false)]
    [InlineData(UsualLimit, true)]
    public async Task MemoryLockLimit_IsMetBeforeTheProgramIsAttached(string limit, bool attached)
    {
        Lab.Require("setpriv", "prlimit");
        using Process monitor = Command.Start(lab.Client.Inside("ip", "monitor", "link"));
        try
        {
            // It listens once it tells of a change.
            await ChangeUntilToldAsync(monitor, 60001);
            await WithServerAsync(lab.Server, WithAll(limit) with { Required = false }, async server =>
            {
                using HttpClient client = lab.Client.HttpClient();
                ConnectionFacts facts = await FactsAsync(client, server.Url("/connection"));
                if (attached)
                    facts.AssertOnXdp();
                else
                    facts.AssertOnCompanion();
                string told = await ChangeUntilToldAsync(monitor, 60002);
                Assert.Equal(attached, told.Contains("cli0", StringComparison.Ordinal));
                if (!attached)
                {
                    Assert.Contains(
                        "memory-lock limit (64 KiB", Assert.Single(LinesOf(server)), StringComparison.Ordinal);
                }
                await server.StopAsync();
            });
        }
        finally
        {
            monitor.Kill();
            await monitor.WaitForExitAsync();
        }
    }

    private async Task AssertOnXdpAsync(HelloWebServer server)
    {
        using HttpClient client = lab.Client.HttpClient();
        foreach (IPAddress address in (IPAddress[])[Lab.ServerIp4, Lab.ServerIp6])
            (await FactsAsync(client, server.Url("/connection", address))).AssertOnXdp();
    }

    // All that the monitor tells until a change is among it that is made here, of the loopback's MTU.
    private async Task<string> ChangeUntilToldAsync(Process monitor, int mtu)
    {
        using var deadline = new CancellationTokenSource(Command.Limit);
        var told = new StringBuilder();
        string wanted = $"mtu {mtu} ";
        Task<string?> next = monitor.StandardOutput.ReadLineAsync(deadline.Token).AsTask();
        while (true)
        {
            await SetLoopbackMtuAsync(mtu);
            await SetLoopbackMtuAsync(65536);
            while (next.IsCompleted)
            {
                string line = await next ?? throw new InvalidOperationException("ip monitor has ended.");
                told.AppendLine(line);
                if (line.Contains(wanted, StringComparison.Ordinal))
                    return told.ToString();
                next = monitor.StandardOutput.ReadLineAsync(deadline.Token).AsTask();
            }
        }
    }

    private async Task SetLoopbackMtuAsync(int mtu) =>
        (await lab.Client.RunAsync("ip", "link", "set", "dev", "lo", "mtu", $"{mtu}")).Succeeded();

    private static IEnumerable<string> LinesOf(HelloWebServer server) =>
        server.Lines.Where(line => line.Contains("Kestrel.Transport.Xdp", StringComparison.Ordinal));

    private static void AssertNames(string[] missing, string text)
    {
        foreach (string name in s_documented)
        {
            if (missing.Contains(name))
                Assert.Contains($"CAP_{name.ToUpperInvariant()}", text, StringComparison.Ordinal);
            else
                Assert.DoesNotContain($"CAP_{name.ToUpperInvariant()}", text, StringComparison.Ordinal);
        }
    }
}

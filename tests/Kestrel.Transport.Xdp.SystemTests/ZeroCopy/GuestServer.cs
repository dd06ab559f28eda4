using System.Globalization;
using System.Text.Json;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Shared;

namespace Kestrel.Transport.Xdp.SystemTests.ZeroCopy;

/// <summary>
/// HelloWeb in the guest. It is bound in the mode that is asked for or does not start, and it overwrites memory that is
/// given back.
/// </summary>
internal sealed class GuestServer
{
    private const int Port = 8080;
    private const string Log = "/run/server.log";

    // Profiling and recompiling what already runs: within a minute on an emulated processor, both cost more than they
    // bring.
    private const string Environment =
        "KESTREL_XDP_POISON=1 " +
        "DOTNET_TieredPGO=0 DOTNET_TC_CallCounting=0 DOTNET_gcServer=0 DOTNET_EnableDiagnostics=0 DOTNET_NOLOGO=1";

    private readonly Guest _guest;
    private readonly int _process;
    private double _asked;

    private GuestServer(Guest guest, int process) => (_guest, _process) = (guest, process);

    internal static Uri Url(string path) => new($"http://{Lab.ServerIp4}:{Port}{path}");

    /// <summary>Ready to serve.</summary>
    internal static async Task<GuestServer> StartAsync(Guest guest, string bindMode = "ZeroCopy")
    {
        var settings = new HelloWebSettings { Required = true, Port = Port };
        string arguments = string.Join(' ', settings.Arguments().Select(argument => $"'{argument}'"));
        string started = (await guest.RunAsync(
            $"Kestrel__Xdp__BindMode={bindMode} {Environment} " +
            $"dotnet {Repository.SampleAssembly("HelloWeb")} {arguments} > {Log} 2>&1 & echo $!\n" +
            $"until grep -q '^HelloWeb ready' {Log} || ! kill -0 $!; do sleep 0.1; done; " +
            $"grep -q '^HelloWeb ready' {Log} || cat {Log}")).Output;
        string[] lines = started.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.True(lines.Length == 1, $"HelloWeb did not start.\n{started}");
        return new GuestServer(guest, int.Parse(lines[0], CultureInfo.InvariantCulture));
    }

    internal async Task<string> LogAsync() => (await _guest.RunAsync($"cat {Log}")).Output;

    /// <summary>Asked within the guest, over its loopback.</summary>
    internal async Task<Counters> CountersAsync()
    {
        _asked++;
        string json = (await _guest.RunAsync($"curl -sS --max-time 60 http://127.0.0.1:{Port}/counters; echo"))
            .Succeeded();
        var counters = new Counters(JsonSerializer.Deserialize<Dictionary<string, double>>(json)!);
        Assert.True(
            counters.CompanionAccepts == _asked,
            $"Of {counters.CompanionAccepts} connections that the companion accepted, {_asked} were this test's own.");
        return counters;
    }

    internal static bool HasPackets(Counters counters, int queue) =>
        counters.ToString().Split('\n').Count(line =>
            line.StartsWith("kestrel.xdp.packets{", StringComparison.Ordinal)
            && line.Contains($"kestrel.xdp.queue={queue},", StringComparison.Ordinal)
            && !line.EndsWith(" 0", StringComparison.Ordinal)) == 2;

    /// <summary>
    /// Every frame of both queues is Free or Fill: what was sent has been completed as well, and no connection is left.
    /// </summary>
    internal Task AssertQuietAsync() => Eventually.NullAsync(async () =>
    {
        Counters now = await CountersAsync();
        return now.Connections == 0 && now.FramesAtHome == now.Frames && now.Frames > 0
            ? null
            : $"{now.Connections} connections are left, and {now.FramesAtHome} of {now.Frames} frames "
                + $"are at home.\n{now}";
    });

    internal async Task KillAsync() => await _guest.RunAsync($"kill -KILL {_process}; wait {_process}");

    internal async Task<bool> IsAttachedAsync() => (await _guest.RunAsync($"ip -d link show dev {Lab.Interface}"))
        .Succeeded().Contains("prog/xdp", StringComparison.Ordinal);

    internal async Task SignalToStopAsync() => (await _guest.RunAsync($"kill -TERM {_process}")).Succeeded();

    /// <summary>An end that is in order: exit code 0, and nothing logged at Error or above.</summary>
    internal async Task AssertCleanExitAsync()
    {
        CommandResult end = await _guest.RunAsync($"wait {_process}");
        string log = await LogAsync();
        Assert.True(end.ExitCode == 0, $"HelloWeb ended with {end.ExitCode}.\n{log}");
        Assert.DoesNotContain("fail:", log, StringComparison.Ordinal);
        Assert.DoesNotContain("crit:", log, StringComparison.Ordinal);
    }
}

using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using Shared;

namespace Kestrel.Transport.Xdp.SystemTests.Support;

/// <summary>How HelloWeb is started.</summary>
internal sealed record HelloWebSettings
{
    internal string Transport { get; init; } = "xdp";

    internal IReadOnlyList<string> Interfaces { get; init; } = [Lab.Interface];

    internal bool Required { get; init; } = true;

    internal int Port { get; init; } = 8080;

    internal int? HttpsPort { get; init; }

    internal int? H2cPort { get; init; }

    internal bool AllowShutdown { get; init; }

    internal bool Inline { get; init; }

    /// <summary>For the sockets transport: what the kernel sends by.</summary>
    internal string? CongestionControl { get; init; }

    internal Dictionary<string, string> Environment { get; init; } = [];

    /// <summary>A program and its arguments that starts what follows it, with fewer rights for instance.</summary>
    internal IReadOnlyList<string> Through { get; init; } = [];

    /// <summary>Unless 0: what <c>socket(AF_XDP, …)</c> fails with for the process, by a seccomp filter.</summary>
    internal int AfXdpErrno { get; init; }

    /// <summary>Through which its system calls are made to fail.</summary>
    internal SystemCallFaults? Faults { get; init; }

    /// <summary>More ports, each an endpoint of its own.</summary>
    internal IReadOnlyList<int> MorePorts { get; init; } = [];

    internal static HelloWebSettings Sockets { get; } = new()
    {
        Transport = "sockets",
        Interfaces = [],
        Required = false,
    };

    /// <summary>For comparisons: whatever the machine is set to.</summary>
    internal static HelloWebSettings Cubic { get; } = new()
    {
        Environment = { ["Kestrel__Xdp__CongestionControl"] = "Cubic" },
    };

    /// <summary>With a transport's usual settings.</summary>
    internal static HelloWebSettings Over(string transport) => transport == "xdp" ? new HelloWebSettings() : Sockets;

    internal IEnumerable<string> Arguments()
    {
        string urls = string.Join(';', MorePorts.Prepend(Port).Select(port => $"http://*:{port}"));
        foreach (string text in (string[])["--transport", Transport, "--urls", urls])
            yield return text;
        foreach (string name in Interfaces)
        {
            yield return "--interface";
            yield return name;
        }
        if (Required)
            yield return "--required";
        if (Inline)
            yield return "--inline";
        if (CongestionControl is { } algorithm)
        {
            yield return "--congestion-control";
            yield return algorithm;
        }
        if (AllowShutdown)
            yield return "--allow-shutdown";
        if (HttpsPort is { } https)
        {
            yield return "--https";
            yield return $"{https}";
        }
        if (H2cPort is { } h2c)
        {
            yield return "--h2c-port";
            yield return $"{h2c}";
        }
    }
}

/// <summary>
/// The sample app as a process in a namespace. Disposing kills what still runs; <see cref="StopAsync"/> asks nicely.
/// </summary>
internal sealed class HelloWebServer : IAsyncDisposable
{
    // What the app answers to SIGTERM within: the host's own shutdown time-out, and the transport's linger.
    private static readonly TimeSpan StopLimit = TimeSpan.FromSeconds(60);

    private readonly Process _process;
    private readonly ConcurrentQueue<string> _lines = new();
    private readonly TaskCompletionSource _ready = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Task _reading;
    private readonly HttpClient _control;
    private readonly HelloWebSettings _settings;

    private HelloWebServer(Namespace at, HelloWebSettings settings, Process process)
    {
        Namespace = at;
        _settings = settings;
        _process = process;
        _reading = Task.WhenAll(ReadAsync(process.StandardOutput), ReadAsync(process.StandardError));
        // One connection, kept: what it costs is paid before anything is measured.
        var handler = at.HttpHandler();
        handler.MaxConnectionsPerServer = 1;
        _control = new HttpClient(handler)
        {
            BaseAddress = new Uri($"http://127.0.0.1:{settings.Port}"),
            Timeout = Command.Limit,
        };
    }

    internal Namespace Namespace { get; }

    internal int ProcessId => _process.Id;

    internal bool HasExited => _process.HasExited;

    /// <summary>Everything the process has written, as it came.</summary>
    internal string Log => string.Join('\n', _lines);

    internal IEnumerable<string> Lines => _lines;

    internal IPEndPoint EndPoint => EndPointFor(Lab.ServerIp4);

    internal IPEndPoint EndPointFor(IPAddress address, int? port = null) => new(address, port ?? _settings.Port);

    internal Uri Url(string path = "", IPAddress? address = null, int? port = null, string scheme = "http") =>
        new($"{scheme}://{EndPointFor(address ?? Lab.ServerIp4, port)}{path}");

    /// <summary>Ready to serve.</summary>
    internal static async Task<HelloWebServer> StartAsync(Namespace at, HelloWebSettings? settings = null)
    {
        HelloWebServer server = await StartOrEndAsync(at, settings ?? new HelloWebSettings());
        try
        {
            if (!server._ready.Task.IsCompleted)
                Assert.Fail($"HelloWeb ended with {await server.ExitAsync()} before it was ready.\n{server.Log}");
            return server;
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }
    }

    /// <summary>Ready to serve, or ended.</summary>
    internal static async Task<HelloWebServer> StartOrEndAsync(Namespace at, HelloWebSettings settings)
    {
        HelloWebServer server = Launch(at, settings);
        try
        {
            await Task.WhenAny(server._ready.Task, server._reading).WaitAsync(Command.Limit);
            if (!server._ready.Task.IsCompleted)
                await server.ExitAsync();
            return server;
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }
    }

    /// <summary>For a start that is to fail.</summary>
    internal static async Task<(int ExitCode, string Log)> RunToExitAsync(Namespace at, HelloWebSettings settings)
    {
        await using HelloWebServer server = Launch(at, settings);
        await Task.WhenAny(server._ready.Task, server._reading).WaitAsync(Command.Limit);
        Assert.False(server._ready.Task.IsCompleted, $"HelloWeb has started.\n{server.Log}");
        await server._process.WaitForExitAsync().WaitAsync(Command.Limit);
        return (server._process.ExitCode, server.Log);
    }

    private static HelloWebServer Launch(Namespace at, HelloWebSettings settings)
    {
        string[] command =
            at.Inside([.. settings.Through, "dotnet", Repository.SampleAssembly("HelloWeb"), .. settings.Arguments()]);
        Process process = settings.Faults is { } faults ? faults.Start(Start)
            : settings.AfXdpErrno != 0 ? SystemCalls.WithoutAfXdp(settings.AfXdpErrno, Start)
            : Start();
        return new HelloWebServer(at, settings, process);

        Process Start() => Command.Start(command, settings.Environment);
    }

    private async Task ReadAsync(StreamReader reader)
    {
        while (await reader.ReadLineAsync() is { } line)
        {
            _lines.Enqueue(line);
            if (line.StartsWith("HelloWeb ready", StringComparison.Ordinal))
                _ready.TrySetResult();
        }
    }

    /// <summary>Asked over the namespace's loopback, which XDP does not steer.</summary>
    internal Task<string> ControlAsync(string path) => _control.GetStringAsync(path);

    internal async Task<Counters> CountersAsync() =>
        new(JsonSerializer.Deserialize<Dictionary<string, double>>(await ControlAsync("/counters"))!);

    /// <summary>Waits until a line has all of these texts.</summary>
    internal Task LineAsync(params string[] texts) => Eventually.TrueAsync(
        () => Lines.Any(line => texts.All(text => line.Contains(text, StringComparison.Ordinal))),
        () => $"No line has {string.Join(" and ", texts)}:\n{Log}");

    internal void Signal(int signal) => SystemCalls.Kill(_process.Id, signal);

    internal async Task<int> ExitAsync()
    {
        await _process.WaitForExitAsync().WaitAsync(StopLimit);
        await _reading.WaitAsync(StopLimit);
        return _process.ExitCode;
    }

    /// <summary>SIGTERM, and an end that is in order: exit code 0, and nothing logged at Error or above.</summary>
    internal async Task StopAsync()
    {
        _control.Dispose();
        Signal(SystemCalls.SIGTERM);
        await AssertCleanExitAsync();
    }

    internal async Task AssertCleanExitAsync()
    {
        int code = await ExitAsync();
        Assert.True(code == 0, $"HelloWeb ended with {code}.\n{Log}");
        string? bad = Lines.FirstOrDefault(line => line.StartsWith("fail:", StringComparison.Ordinal)
            || line.StartsWith("crit:", StringComparison.Ordinal));
        Assert.True(bad is null, $"HelloWeb has logged an error.\n{Log}");
    }

    /// <summary>True once nobody listens on the port any more.</summary>
    internal async Task<bool> RefusesAsync(Namespace from)
    {
        try
        {
            (await from.ConnectAsync(EndPoint)).Dispose();
            return false;
        }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.ConnectionRefused)
        {
            return true;
        }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.ConnectionReset)
        {
            return false;
        }
    }

    public async ValueTask DisposeAsync()
    {
        _control.Dispose();
        if (!_process.HasExited)
            _process.Kill(entireProcessTree: true);
        await _process.WaitForExitAsync();
        _process.Dispose();
    }
}

/// <summary>The transport's meter, as HelloWeb shows it: <c>instrument{tag=value,…}</c>.</summary>
internal sealed class Counters(IReadOnlyDictionary<string, double> values)
{
    /// <summary>Sum over all series of an instrument, or over those with a tag.</summary>
    internal double Sum(string instrument, string? tag = null) => values
        .Where(pair => pair.Key == instrument || pair.Key.StartsWith(instrument + "{", StringComparison.Ordinal))
        .Where(pair => tag is null || pair.Key.Split('{', '}', ',').Contains(tag))
        .Sum(pair => pair.Value);

    internal double PacketsIn => Sum("kestrel.xdp.packets", "network.io.direction=receive");

    internal double PacketsOut => Sum("kestrel.xdp.packets", "network.io.direction=transmit");

    internal double CompanionAccepts => Sum("kestrel.xdp.companion.accepted");

    internal double Frames => Sum("kestrel.xdp.frames");

    internal double FramesAtHome =>
        Sum("kestrel.xdp.frames", "kestrel.xdp.state=free") + Sum("kestrel.xdp.frames", "kestrel.xdp.state=fill");

    internal double HeapBlocks => Sum("kestrel.xdp.heap.blocks");

    internal double Connections =>
        Sum("kestrel.xdp.connections", "kestrel.xdp.state=open")
        + Sum("kestrel.xdp.connections", "kestrel.xdp.state=half_open");

    internal double Accepted => Sum("kestrel.xdp.connections.accepted");

    internal double Retransmits => Sum("kestrel.xdp.tcp.retransmits");

    internal double Timeouts => Sum("kestrel.xdp.tcp.recoveries", "kestrel.xdp.kind=timeout");

    internal double TimeWaitReuses => Sum("kestrel.xdp.tcp.time_wait_reuses");

    internal double Verdict(string name) => Sum("kestrel.xdp.steering", $"kestrel.xdp.verdict={name}");

    public override string ToString() => string.Join('\n', values.OrderBy(pair => pair.Key, StringComparer.Ordinal)
        .Select(pair => string.Create(CultureInfo.InvariantCulture, $"{pair.Key} {pair.Value}")));
}

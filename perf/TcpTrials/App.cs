using System.Text.Json;
using TransportComparison;

namespace TcpTrials;

/// <summary>HelloWeb on one transport, in the server's namespace.</summary>
internal sealed class App : IAsyncDisposable
{
    private const int Port = 8080;
    private static readonly TimeSpan s_startTime = TimeSpan.FromSeconds(60);

    private readonly Lab _lab;
    private readonly string _transport;

    private App(Lab lab, string transport, LabProcess process)
    {
        _lab = lab;
        _transport = transport;
        Process = process;
    }

    public LabProcess Process { get; }

    public string Url => $"http://{_lab.ServerAddress}:{Port}";

    /// <param name="lab">Where.</param>
    /// <param name="root">The repository.</param>
    /// <param name="transport"><c>xdp</c> or <c>sockets</c>.</param>
    /// <param name="settings">More configuration, as environment variables.</param>
    /// <param name="cancellation">Gives up.</param>
    public static Task<App> Start(
        Lab lab,
        string root,
        string transport,
        IReadOnlyDictionary<string, string>? settings,
        CancellationToken cancellation) =>
        StartFile(lab, Checkout.App(root), transport, "Cubic", settings, cancellation);

    /// <param name="lab">Where.</param>
    /// <param name="dll">HelloWeb.</param>
    /// <param name="transport"><c>xdp</c> or <c>sockets</c>.</param>
    /// <param name="congestionControl">Of AF_XDP, whatever the machine is set to.</param>
    /// <param name="settings">More configuration, as environment variables.</param>
    /// <param name="cancellation">Gives up.</param>
    public static async Task<App> StartFile(
        Lab lab,
        string dll,
        string transport,
        string congestionControl,
        IReadOnlyDictionary<string, string>? settings,
        CancellationToken cancellation)
    {
        string[] onXdp = transport == "xdp" ? ["--interface", lab.ServerInterface, "--required"] : [];
        var start = lab.Command(
            "server", ["dotnet", dll, "--transport", transport, "--urls", $"http://*:{Port}", .. onXdp]);
        if (Checkout.HasOption(dll, "CongestionControl"))
            start.Environment["Kestrel__Xdp__CongestionControl"] = congestionControl;
        foreach (var (name, value) in settings ?? new Dictionary<string, string>())
            start.Environment[name] = value;
        var process = LabProcess.Start(start);
        var app = new App(lab, transport, process);
        try
        {
            await process.Line("HelloWeb ready", s_startTime, cancellation);
            await app.AssertPath(cancellation);
            return app;
        }
        catch
        {
            await app.DisposeAsync();
            throw;
        }
    }

    /// <summary>Asks the server, from the client's side, what carries its connections.</summary>
    /// <exception cref="MeasurementException">It is not the transport the leg is about.</exception>
    public async Task AssertPath(CancellationToken cancellation)
    {
        using var answer = JsonDocument.Parse(await Get("client", $"{Url}/connection", cancellation));
        string? transport = answer.RootElement.GetProperty("transport").GetString();
        if (transport != _transport)
        {
            throw new MeasurementException(
                $"this leg is about {_transport}, but its connections are on {transport}: {answer.RootElement}");
        }
    }

    /// <summary>
    /// The transport's counters, summed over queues and interfaces. The key is the name with the value of its last
    /// other tag. Empty on sockets. Asked over the namespace's loopback, so that the question does not count.
    /// </summary>
    public async Task<Dictionary<string, double>> Counters(CancellationToken cancellation)
    {
        using var answer =
            JsonDocument.Parse(await Get("server", $"http://127.0.0.1:{Port}/counters", cancellation));
        var sums = new Dictionary<string, double>();
        foreach (var counter in answer.RootElement.EnumerateObject())
        {
            string name = counter.Name;
            if (name.IndexOf('{') is >= 0 and int brace)
            {
                string last = name[(brace + 1)..^1].Split(',')[^1];
                bool isPlace = last.StartsWith("kestrel.xdp.queue", StringComparison.Ordinal)
                    || last.StartsWith("network.interface", StringComparison.Ordinal);
                name = isPlace ? name[..brace] : $"{name[..brace]}/{last[(last.IndexOf('=') + 1)..]}";
            }

            sums[name] = sums.GetValueOrDefault(name) + counter.Value.GetDouble();
        }

        return sums;
    }

    public ValueTask DisposeAsync() => Process.DisposeAsync();

    private Task<string> Get(string role, string url, CancellationToken cancellation) =>
        _lab.Output(_lab.Command(role, "curl", "-sS", "--max-time", "30", url), cancellation);
}

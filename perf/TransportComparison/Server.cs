using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json;

namespace TransportComparison;

/// <summary>One HelloWeb process on one transport, on its core.</summary>
internal sealed class Server : IAsyncDisposable
{
    private static readonly TimeSpan s_startTime = TimeSpan.FromSeconds(30);

    private readonly Side _side;
    private readonly Client _client;
    private readonly Process _process;
    private readonly StringBuilder _log = new();
    private readonly TaskCompletionSource _ready = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private Server(Lab lab, Plan plan, Client client, Side side, Endpoint endpoint, string scheduling)
    {
        _side = side;
        _client = client;
        Endpoint = endpoint;
        List<string> command = ["dotnet", side.App, "--transport", side.Transport];
        command.AddRange(endpoint switch
        {
            Endpoint.Https => ["--urls", $"https://*:{side.Port}"],
            Endpoint.H2c => ["--urls", "", "--h2c-port", $"{side.Port}"],
            _ => ["--urls", $"http://*:{side.Port}"],
        });
        if (side.Transport == "xdp")
            command.AddRange(["--interface", side.Link.Interface, "--required"]);
        if (scheduling == "inline")
            command.Add("--inline");

        var start = plan.ServerCpu is { } cpu
            ? lab.Command("server", cpu, [.. command])
            : lab.Command("server", [.. command]);
        if (side.ChoosesCongestionControl)
            start.Environment["Kestrel__Xdp__CongestionControl"] = "Cubic";
        _process = new Process { StartInfo = start, EnableRaisingEvents = true };
        _process.OutputDataReceived += (_, e) => Log(e.Data);
        _process.ErrorDataReceived += (_, e) => Log(e.Data);
        _process.Exited += (_, _) =>
            _ready.TrySetException(new MeasurementException("the server ended before it was ready"));
    }

    public Endpoint Endpoint { get; }

    public static async Task<Server> Start(
        Lab lab,
        Plan plan,
        Client client,
        Side side,
        Endpoint endpoint,
        string scheduling,
        CancellationToken cancellation)
    {
        var server = new Server(lab, plan, client, side, endpoint, scheduling);
        try
        {
            server._process.Start();
            server._process.BeginOutputReadLine();
            server._process.BeginErrorReadLine();
            await server._ready.Task.WaitAsync(s_startTime, cancellation);
            return server;
        }
        catch (Exception e)
        {
            await server.DisposeAsync();
            if (e is OperationCanceledException)
                throw;
            throw new MeasurementException($"{e.Message}\n{server._log}");
        }
    }

    public string Url(string path)
    {
        string scheme = Endpoint == Endpoint.Https ? "https" : "http";
        return $"{scheme}://{_side.Link.Address}:{_side.Port}{path}";
    }

    /// <summary>Asks the server, from the client's side, what carries its connections.</summary>
    /// <exception cref="MeasurementException">It is not the transport or the interface this side is about.</exception>
    public async Task AssertPath(CancellationToken cancellation)
    {
        using var answer = JsonDocument.Parse(await _client.Get(this, "/connection", cancellation));
        string? transport = answer.RootElement.GetProperty("transport").GetString();
        string? device = answer.RootElement.GetProperty("interface").GetString();
        if (transport != _side.Transport || (transport == "xdp" && device != _side.Link.Interface))
        {
            string wanted = $"{_side.Transport}, {_side.Link.Interface}";
            throw new MeasurementException(
                $"the {_side.Name} is to be on {wanted}, but its connections are not: {answer.RootElement}\n{_log}");
        }
    }

    /// <summary>Processor time the server has used.</summary>
    public TimeSpan CpuTime()
    {
        _process.Refresh();
        return _process.TotalProcessorTime;
    }

    /// <summary>Bytes the server has allocated on its garbage-collected heap.</summary>
    public async Task<long> AllocatedBytes(CancellationToken cancellation) =>
        long.Parse(await _client.Get(this, "/allocated", cancellation), CultureInfo.InvariantCulture);

    /// <summary>Segments that the kernel's TCP has taken in, in the servers' namespace.</summary>
    public long KernelSegmentsIn()
    {
        // Two lines: the names, and the values.
        string[][] tcp =
        [
            .. File.ReadLines($"/proc/{_process.Id}/net/snmp")
                .Where(line => line.StartsWith("Tcp:", StringComparison.Ordinal))
                .Select(line => line.Split(' ')),
        ];
        return long.Parse(tcp[1][Array.IndexOf(tcp[0], "InSegs")], CultureInfo.InvariantCulture);
    }

    public async ValueTask DisposeAsync() => await Lab.End(_process);

    private void Log(string? line)
    {
        if (line is null)
            return;
        lock (_log)
            _log.AppendLine(line);
        if (line.StartsWith("HelloWeb ready", StringComparison.Ordinal))
            _ready.TrySetResult();
    }
}

using System.Diagnostics;
using System.Text;
using System.Text.Json;

namespace TransportComparison;

/// <summary>One HelloWeb process on one transport, pinned to its core.</summary>
internal sealed class Server : IAsyncDisposable
{
    private static readonly TimeSpan s_startTime = TimeSpan.FromSeconds(30);

    private readonly Lab _lab;
    private readonly Plan _plan;
    private readonly string _transport;
    private readonly int _port;
    private readonly Process _process;
    private readonly StringBuilder _log = new();
    private readonly TaskCompletionSource _ready = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private Server(Lab lab, Plan plan, Leg leg)
    {
        _lab = lab;
        _plan = plan;
        _transport = leg.Transport;
        _port = leg.Side == "candidate" ? 8080 : 8081;
        List<string> command =
        [
            "dotnet", Path.Combine(plan.Root, "samples/HelloWeb/bin/Release/net10.0/HelloWeb.dll"),
            "--transport", leg.Transport, "--urls", $"http://*:{_port}",
        ];
        if (leg.Transport == "xdp")
            command.AddRange(["--interface", lab.ServerInterface, "--required"]);
        if (leg.Scheduling == "inline")
            command.Add("--inline");

        _process = new Process { StartInfo = lab.Command("server", plan.ServerCpu, [.. command]), EnableRaisingEvents = true };
        _process.OutputDataReceived += (_, e) => Log(e.Data);
        _process.ErrorDataReceived += (_, e) => Log(e.Data);
        _process.Exited += (_, _) => _ready.TrySetException(new MeasurementException("the server ended before it was ready"));
    }

    public string Url => $"http://{_lab.ServerAddress}:{_port}{_plan.Path}";

    public static async Task<Server> Start(Lab lab, Plan plan, Leg leg, CancellationToken cancellation)
    {
        var server = new Server(lab, plan, leg);
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

    /// <summary>Asks the server, from the client's side, what carries its connections.</summary>
    /// <exception cref="MeasurementException">It is not the transport this leg is about.</exception>
    public async Task AssertPath(CancellationToken cancellation)
    {
        var curl = _lab.Command("client", _plan.ClientCpu, "curl", "-sS", "--max-time", "10", $"http://{_lab.ServerAddress}:{_port}/connection");
        using var answer = JsonDocument.Parse(await _lab.Output(curl, cancellation));
        string? transport = answer.RootElement.GetProperty("transport").GetString();
        if (transport != _transport)
            throw new MeasurementException($"this leg is about {_transport}, but its connections are on {transport}: {answer.RootElement}\n{_log}");
    }

    /// <summary>Processor time the server has used.</summary>
    public TimeSpan CpuTime()
    {
        _process.Refresh();
        return _process.TotalProcessorTime;
    }

    /// <summary>Segments that the kernel's TCP has taken in, in the server's namespace.</summary>
    public long KernelSegmentsIn()
    {
        string[][] tcp = [.. File.ReadLines($"/proc/{_process.Id}/net/snmp").Where(line => line.StartsWith("Tcp:", StringComparison.Ordinal)).Select(line => line.Split(' '))];
        return long.Parse(tcp[1][Array.IndexOf(tcp[0], "InSegs")]);
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

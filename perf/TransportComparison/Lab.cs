using System.Diagnostics;

namespace TransportComparison;

/// <summary>The namespaces made by the <c>lab</c> script, and processes in them.</summary>
internal sealed class Lab(string root) : IAsyncDisposable
{
    private readonly string _name = Environment.GetEnvironmentVariable("LAB_NAME") ?? "xdpperf";
    private Dictionary<string, string> _facts = [];

    public string ServerAddress => _facts["SERVER_IP4"];
    public string ServerInterface => _facts["SERVER_INTERFACE"];

    public async Task Up(CancellationToken cancellation)
    {
        await Output(Script("up", "direct"), cancellation);
        string facts = await Output(Script("env"), cancellation);
        _facts = facts.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => line.Split('=', 2)).ToDictionary(pair => pair[0], pair => pair[1]);
    }

    /// <summary>A command in the namespace of <paramref name="role"/>, on one core. The process started is the command's own.</summary>
    public ProcessStartInfo Command(string role, int cpu, params string[] command) =>
        Script(["exec", role, "--", "taskset", "-c", $"{cpu}", .. command]);

    public async Task<string> Output(ProcessStartInfo start, CancellationToken cancellation)
    {
        using var process = Process.Start(start)!;
        try
        {
            var error = process.StandardError.ReadToEndAsync(cancellation);
            string output = await process.StandardOutput.ReadToEndAsync(cancellation);
            await process.WaitForExitAsync(cancellation);
            if (process.ExitCode != 0)
                throw new MeasurementException($"{string.Join(' ', start.ArgumentList)}: exit code {process.ExitCode}\n{output}{await error}");
            return output;
        }
        catch (OperationCanceledException)
        {
            process.Kill();
            throw;
        }
    }

    public async ValueTask DisposeAsync() => await Output(Script("down"), CancellationToken.None);

    private ProcessStartInfo Script(params string[] arguments) => new(Path.Combine(root, "lab"), arguments)
    {
        RedirectStandardInput = true,
        RedirectStandardOutput = true,
        RedirectStandardError = true,
        WorkingDirectory = root,
        Environment = { ["LAB_NAME"] = _name },
    };
}

/// <summary>A measurement that cannot stand: something did not run, or not on the path it was meant to measure.</summary>
internal sealed class MeasurementException(string message) : Exception(message);

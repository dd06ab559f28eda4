using System.Diagnostics;

namespace TransportComparison;

/// <summary>The namespaces made by the <c>lab</c> script, and processes in them.</summary>
/// <param name="root">The repository.</param>
/// <param name="suffix">Tells labs of one run apart.</param>
internal sealed class Lab(string root, string suffix = "") : IAsyncDisposable
{
    private static readonly TimeSpan s_stopTime = TimeSpan.FromSeconds(15);

    private readonly string _name = (Environment.GetEnvironmentVariable("LAB_NAME") ?? "xdpperf") + suffix;
    private Dictionary<string, string> _facts = [];

    public string ServerAddress => _facts["SERVER_IP4"];
    public string ClientAddress => _facts["CLIENT_IP4"];
    public string ServerInterface => _facts["SERVER_INTERFACE"];

    /// <param name="shape">Arguments of <c>lab up</c>; without any it is one link between client and server.</param>
    public async Task Up(CancellationToken cancellation, params string[] shape)
    {
        await Output(Script(["up", .. shape]), cancellation);
        string facts = await Output(Script("env"), cancellation);
        _facts = facts.Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Select(line => line.Split('=', 2))
            .ToDictionary(pair => pair[0], pair => pair[1]);
    }

    /// <summary>The server's end of link <paramref name="number"/>, of those that <c>--links</c> asked for.</summary>
    public Link Link(int number) =>
        number == 0
            ? new(ServerInterface, ServerAddress)
            : new(_facts[$"LINK{number}_SERVER_INTERFACE"], _facts[$"LINK{number}_SERVER_IP4"]);

    /// <summary>
    /// The kernel's connections over the server's end of a link use CUBIC, whatever the machine is set to. By route,
    /// since the sysctl may be read-only.
    /// </summary>
    public Task UseCubic(Link link, CancellationToken cancellation) => Output(
        Command("server", "sh", "-c",
            "ip route replace $(ip route show dev $0 proto kernel) dev $0 congctl cubic", link.Interface),
        cancellation);

    /// <summary>
    /// A command in the namespace of <paramref name="role"/>, on one core. The process that starts becomes the command.
    /// </summary>
    public ProcessStartInfo Command(string role, int cpu, params string[] command) =>
        Command(role, ["taskset", "-c", $"{cpu}", .. command]);

    /// <summary>A command in the namespace of <paramref name="role"/>, on any core.</summary>
    public ProcessStartInfo Command(string role, params string[] command) => Script(["exec", role, "--", .. command]);

    /// <summary>A command of the script itself, such as <c>impair</c>.</summary>
    public ProcessStartInfo Script(params string[] arguments) => new(Path.Combine(root, "lab"), arguments)
    {
        RedirectStandardInput = true,
        RedirectStandardOutput = true,
        RedirectStandardError = true,
        WorkingDirectory = root,
        Environment = { ["LAB_NAME"] = _name },
    };

    public async Task<string> Output(ProcessStartInfo start, CancellationToken cancellation)
    {
        using var process = Process.Start(start)!;
        try
        {
            var error = process.StandardError.ReadToEndAsync(cancellation);
            string output = await process.StandardOutput.ReadToEndAsync(cancellation);
            await process.WaitForExitAsync(cancellation);
            if (process.ExitCode != 0)
            {
                string command = string.Join(' ', start.ArgumentList);
                throw new MeasurementException($"{command}: exit code {process.ExitCode}\n{output}{await error}");
            }

            return output;
        }
        catch (OperationCanceledException)
        {
            process.Kill();
            throw;
        }
    }

    /// <summary>Asks a process to stop, insists if it does not, and disposes it.</summary>
    public static async Task End(Process process)
    {
        try
        {
            if (!process.HasExited)
                _ = Process.Start("kill", ["-TERM", $"{process.Id}"]);
            using var patience = new CancellationTokenSource(s_stopTime);
            await process.WaitForExitAsync(patience.Token);
        }
        catch (OperationCanceledException)
        {
            process.Kill();
            await process.WaitForExitAsync();
        }
        finally
        {
            process.Dispose();
        }
    }

    public async ValueTask DisposeAsync() => await Output(Script("down"), CancellationToken.None);
}

/// <summary>The server's end of a link.</summary>
internal sealed record Link(string Interface, string Address);

/// <summary>A measurement is not valid: something did not run, or not on the path that it should measure.</summary>
internal sealed class MeasurementException(string message) : Exception(message);

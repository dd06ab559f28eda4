using System.Diagnostics;

namespace Kestrel.Transport.Xdp.SystemTests.Support;

internal sealed record CommandResult(string Command, int ExitCode, string Output, string Error)
{
    /// <summary>Standard output, once the exit code was 0.</summary>
    public string Succeeded()
    {
        Assert.True(ExitCode == 0, $"'{Command}' ended with {ExitCode}.\n{Output}\n{Error}");
        return Output;
    }
}

/// <summary>Programs that run to their end.</summary>
internal static class Command
{
    // A hang is an error, never a result: far above what anything here takes.
    internal static readonly TimeSpan Limit = TimeSpan.FromSeconds(120);

    internal static async Task<CommandResult> RunAsync(
        IReadOnlyList<string> command, IReadOnlyDictionary<string, string>? environment = null, CancellationToken kill = default)
    {
        using Process process = Start(command, environment);
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(kill);
        deadline.CancelAfter(Limit);
        Task<string> output = process.StandardOutput.ReadToEndAsync(CancellationToken.None);
        Task<string> error = process.StandardError.ReadToEndAsync(CancellationToken.None);
        try
        {
            await process.WaitForExitAsync(deadline.Token);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            await process.WaitForExitAsync(CancellationToken.None);
            if (!kill.IsCancellationRequested)
                Assert.Fail($"'{string.Join(' ', command)}' did not end within {Limit}.\n{await output}\n{await error}");
        }
        return new CommandResult(string.Join(' ', command), process.ExitCode, await output, await error);
    }

    internal static Process Start(IReadOnlyList<string> command, IReadOnlyDictionary<string, string>? environment = null)
    {
        var start = new ProcessStartInfo(command[0], command.Skip(1))
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (var (name, value) in environment ?? new Dictionary<string, string>())
            start.Environment[name] = value;
        Process process = Process.Start(start)!;
        process.StandardInput.Close();
        return process;
    }
}

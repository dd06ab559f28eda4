using System.Diagnostics;

namespace Shared;

/// <summary>How a program ended, and what it wrote.</summary>
internal sealed record CommandResult(string Command, int ExitCode, string Output, string Error)
{
    /// <summary>Standard output, once the exit code was 0.</summary>
    /// <exception cref="CommandException">It was another.</exception>
    internal string Succeeded() =>
        ExitCode == 0 ? Output : throw new CommandException($"'{Command}' ended with {ExitCode}.\n{Output}\n{Error}");
}

/// <summary>A program that failed, or did not end.</summary>
internal sealed class CommandException(string message) : Exception(message);

/// <summary>Programs that run to their end.</summary>
internal static class Command
{
    // A hang is an error, never a result: far above what anything here takes.
    internal static readonly TimeSpan Limit = TimeSpan.FromSeconds(120);

    /// <exception cref="CommandException">It did not end in time.</exception>
    internal static async Task<CommandResult> RunAsync(
        IReadOnlyList<string> command,
        IReadOnlyDictionary<string, string>? environment = null,
        CancellationToken kill = default)
    {
        string text = string.Join(' ', command);
        using Process process = Start(command, environment);
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(kill);
        deadline.CancelAfter(Limit);
        Task<string> output = process.StandardOutput.ReadToEndAsync(CancellationToken.None);
        Task<string> error = process.StandardError.ReadToEndAsync(CancellationToken.None);
        try
        {
            await process.WaitForExitAsync(deadline.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            await process.WaitForExitAsync(CancellationToken.None).ConfigureAwait(false);
            if (!kill.IsCancellationRequested)
            {
                string written = $"{await output.ConfigureAwait(false)}\n{await error.ConfigureAwait(false)}";
                throw new CommandException($"'{text}' did not end within {Limit}.\n{written}");
            }
        }
        return new CommandResult(
            text, process.ExitCode, await output.ConfigureAwait(false), await error.ConfigureAwait(false));
    }

    /// <summary>
    /// As <see cref="RunAsync"/>, for callers that are not asynchronous. Nothing in it needs to run on the caller's
    /// thread.
    /// </summary>
    internal static CommandResult Run(params IReadOnlyList<string> command) =>
        RunAsync(command).GetAwaiter().GetResult();

    internal static Process Start(
        IReadOnlyList<string> command, IReadOnlyDictionary<string, string>? environment = null)
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

using System.Diagnostics;
using System.Globalization;
using System.Text;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Shared;

namespace Kestrel.Transport.Xdp.SystemTests.ZeroCopy;

/// <summary>
/// One boot of the guest of <c>scripts/zero-copy-guest</c> for all tests of the collection. The guest has a kernel of
/// its own, on whose srv0 AF_XDP binds in zero-copy mode; the other end is in a namespace of this machine. Where none
/// can run, <see cref="Require"/> says why.
/// </summary>
public sealed class Guest : IAsyncLifetime
{
    private const string EndOfCommand = "--- the guest is done: ";

    // Booting takes seconds, and an emulated processor that shares a busy machine's takes its time; a hang is an error.
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(180);

    private static readonly string Script = Path.Combine(Repository.Root, "scripts", "zero-copy-guest");

    private readonly string? _kernel;
    private readonly string _name;
    private readonly SemaphoreSlim _shell = new(1);
    private readonly StringBuilder _errors = new();
    private string? _missing;
    private Process? _process;

    public Guest()
        : this(kernel: null)
    {
    }

    /// <param name="kernel">For instance 6.1; null for one with zero copy.</param>
    internal Guest(string? kernel)
    {
        _kernel = kernel;
        _name = $"zct{Environment.ProcessId}{kernel}";
    }

    /// <summary>The client's side, on this machine.</summary>
    internal Namespace Client => new(_name);

    internal void Require(params string[] tools)
    {
        // The script's own words for what it lacks. ./test counts the skip as a failure where XDP_TESTS_REQUIRED=1.
        Skip.If(_missing is not null, _missing);
        Lab.Require(tools);
    }

    public async Task InitializeAsync()
    {
        Dictionary<string, string> environment = _kernel is null ? [] : new() { ["GUEST_KERNEL"] = _kernel };
        CommandResult check = await Command.RunAsync([Script, "check"], environment);
        if (check.ExitCode != 0)
        {
            _missing = check.Error.Trim();
            return;
        }
        // The end of its input ends the guest, so it does not outlive this process.
        var start = new ProcessStartInfo(Script, ["run", _name])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (var (name, value) in environment)
            start.Environment[name] = value;
        _process = Process.Start(start)!;
        _process.ErrorDataReceived += (_, line) =>
        {
            lock (_errors)
                _errors.AppendLine(line.Data);
        };
        _process.BeginErrorReadLine();
        try
        {
            await RunAsync("true");
        }
        catch
        {
            if (!_process.HasExited)
                SystemCalls.Kill(_process.Id, SystemCalls.SIGTERM);
            throw;
        }
    }

    public async Task DisposeAsync()
    {
        if (_process is null)
            return;
        _process.StandardInput.Close();
        try
        {
            await _process.WaitForExitAsync().WaitAsync(Limit);
        }
        catch (TimeoutException)
        {
            SystemCalls.Kill(_process.Id, SystemCalls.SIGTERM);
            throw;
        }
        _process.Dispose();
    }

    /// <summary>Has the guest's shell run a command; its exit code, and what it wrote.</summary>
    internal async Task<CommandResult> RunAsync(string command)
    {
        await _shell.WaitAsync();
        try
        {
            await _process!.StandardInput.WriteAsync($"{command}\necho \"{EndOfCommand}$?\"\n");
            await _process.StandardInput.FlushAsync();
            var output = new StringBuilder();
            while (await _process.StandardOutput.ReadLineAsync().WaitAsync(Limit) is { } line)
            {
                if (line.StartsWith(EndOfCommand, StringComparison.Ordinal))
                    return new CommandResult(
                        command, int.Parse(line[EndOfCommand.Length..], CultureInfo.InvariantCulture),
                        output.ToString(), "");
                output.AppendLine(line);
            }
            await _process.WaitForExitAsync().WaitAsync(Limit);
            lock (_errors)
                throw new InvalidOperationException($"The guest has ended at '{command}'.\n{output}\n{_errors}");
        }
        finally
        {
            _shell.Release();
        }
    }
}

[CollectionDefinition(Name)]
public sealed class GuestCollection : ICollectionFixture<Guest>
{
    internal const string Name = "zero copy";
}

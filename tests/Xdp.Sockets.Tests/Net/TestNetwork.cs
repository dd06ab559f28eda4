using System.Diagnostics;
using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Xdp.Sockets.Tests.Net;

/// <summary>A network namespace of the test's own. It and what is in it go with this object.</summary>
internal sealed partial class TestNetwork : IDisposable
{
    private const int CLONE_NEWNET = 0x40000000;

    private static int s_count;

    internal TestNetwork()
    {
        Name = $"bpft{Environment.ProcessId}x{Interlocked.Increment(ref s_count)}";
        Shell($"ip netns add {Name}");
        Ip("link set lo up");
    }

    internal string Name { get; }

    /// <summary>Skips the test, visibly, where namespaces and BPF are not to be had; with XDP_TESTS_REQUIRED=1 it fails instead.</summary>
    internal static void Require(params string[] tools)
    {
        string? missing = Environment.IsPrivilegedProcess ? null : "root";
        foreach (string tool in tools.Prepend("ip"))
        {
            if (missing is null && !Environment.GetEnvironmentVariable("PATH")!.Split(':').Any(d => File.Exists(Path.Combine(d, tool))))
                missing = tool;
        }
        if (missing is null)
            return;
        Assert.False(Environment.GetEnvironmentVariable("XDP_TESTS_REQUIRED") == "1", $"This test needs {missing}.");
        Skip.If(true, $"This test needs {missing}.");
    }

    /// <summary>Runs <c>ip</c> in the namespace.</summary>
    internal string Ip(string arguments) => Shell($"ip -n {Name} {arguments}");

    internal string Exec(string command) => Shell($"ip netns exec {Name} {command}");

    /// <summary>Runs on a thread in the namespace. Sockets made there stay there, wherever they are used.</summary>
    internal T Run<T>(Func<T> action)
    {
        T result = default!;
        ExceptionDispatchInfo? failure = null;
        var thread = new Thread(() =>
        {
            try
            {
                using SafeFileHandle ns = File.OpenHandle($"/run/netns/{Name}");
                if (SetNs((int)ns.DangerousGetHandle(), CLONE_NEWNET) != 0)
                    throw new InvalidOperationException($"setns: errno {Marshal.GetLastPInvokeError()}");
                result = action();
            }
            catch (Exception e)
            {
                failure = ExceptionDispatchInfo.Capture(e);
            }
        });
        thread.Start();
        thread.Join();
        failure?.Throw();
        return result;
    }

    internal void Run(Action action) => Run(() =>
    {
        action();
        return 0;
    });

    public void Dispose() => Shell($"ip netns del {Name}");

    internal static string Shell(string command)
    {
        using Process process = Process.Start(new ProcessStartInfo("/bin/sh", ["-c", command])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;
        Task<string> error = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        if (process.ExitCode != 0)
            throw new InvalidOperationException($"{command}: {error.Result}");
        return output;
    }

    [LibraryImport("libc", EntryPoint = "setns", SetLastError = true)]
    private static partial int SetNs(int fd, int type);
}

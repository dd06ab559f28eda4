using Shared;

namespace Xdp.Sockets.Tests.Net;

/// <summary>A network namespace of the test's own. It and what is in it go with this object.</summary>
internal sealed class TestNetwork : IDisposable
{
    private static int s_count;

    internal TestNetwork()
    {
        Name = $"bpft{Environment.ProcessId}x{Interlocked.Increment(ref s_count)}";
        Shell($"ip netns add {Name}");
        Ip("link set lo up");
    }

    internal string Name { get; }

    internal string Path => $"/run/netns/{Name}";

    /// <summary>What every test with namespaces or BPF needs, and the tools that this one does.</summary>
    internal static void Require(params string[] tools)
    {
        Shared.Require.Root();
        Shared.Require.Tools(["ip", .. tools]);
    }

    /// <summary>Runs <c>ip</c> in the namespace.</summary>
    internal string Ip(string arguments) => Shell($"ip -n {Name} {arguments}");

    internal string Exec(string command) => Shell($"ip netns exec {Name} {command}");

    /// <summary>Runs on a thread in the namespace. Sockets made there stay there, wherever they are used.</summary>
    internal T Run<T>(Func<T> action) => OwnThread.RunIn(Path, action);

    internal void Run(Action action) => Run(() =>
    {
        action();
        return 0;
    });

    public void Dispose() => Shell($"ip netns del {Name}");

    internal static string Shell(string command) => Command.Run("/bin/sh", "-c", command).Succeeded();
}

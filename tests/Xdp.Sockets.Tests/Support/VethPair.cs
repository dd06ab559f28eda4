using System.Diagnostics;

namespace Xdp.Sockets.Tests.Support;

/// <summary>
/// A network namespace of its own with a veth pair of one queue each: the socket under test sits on <see cref="Near"/>, its
/// peer on <see cref="Far"/>. IPv6 is off, so that nothing travels but what the test sends.
/// </summary>
internal sealed class VethPair : IDisposable
{
    private static int s_count;

    private readonly string _namespace = $"xskt{Environment.ProcessId}x{Interlocked.Increment(ref s_count)}";

    private VethPair()
    {
        Ip("netns", "add", _namespace);
        try
        {
            Ip("netns", "exec", _namespace, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1");
            Ip("-n", _namespace, "link", "add", "near", "numtxqueues", "1", "numrxqueues", "1", "type", "veth",
                "peer", "name", "far", "numtxqueues", "1", "numrxqueues", "1");
            SetLink("near", "up");
            SetLink("far", "up");
            (Near, Far) = Run(() => ((int)TestNative.if_nametoindex("near"), (int)TestNative.if_nametoindex("far")));
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    internal int Near { get; }

    internal int Far { get; }

    internal string Path => $"/run/netns/{_namespace}";

    internal static VethPair Create()
    {
        Require.Root();
        return new VethPair();
    }

    /// <summary>Runs code inside the namespace. Sockets it makes stay there, and work from any thread.</summary>
    internal T Run<T>(Func<T> function) => TestThread.Run(() =>
    {
        using NetworkNamespace.Scope scope = NetworkNamespace.Enter(Path);
        return function();
    });

    internal Xsk Open(Umem umem, XskOptions options, params ulong[] fill) => Run(() => Xsk.Open(umem, options, fill));

    internal PacketSocket OpenPeer() => Run(() => new PacketSocket(Far));

    internal void SetLink(string name, string state) => Ip("-n", _namespace, "link", "set", name, state);

    internal void DeleteLink() => Ip("-n", _namespace, "link", "del", "near");

    public void Dispose() => Ip("netns", "del", _namespace);

    private static void Ip(params string[] arguments)
    {
        ProcessStartInfo start = new("ip", arguments) { RedirectStandardError = true };
        using Process process = Process.Start(start)!;
        string error = process.StandardError.ReadToEnd();
        process.WaitForExit();
        if (process.ExitCode != 0)
            throw new InvalidOperationException($"ip {string.Join(' ', arguments)}: {error}");
    }
}

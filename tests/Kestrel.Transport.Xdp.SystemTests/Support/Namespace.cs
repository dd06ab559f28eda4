using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Shared;

namespace Kestrel.Transport.Xdp.SystemTests.Support;

/// <summary>One network namespace of a lab. Sockets made in it stay in it, wherever they are used.</summary>
internal sealed class Namespace(string name)
{
    internal string Name => name;

    internal string[] Inside(params IEnumerable<string> command) => LabScript.Inside(name, command);

    internal Task<CommandResult> RunAsync(params string[] command) => Command.RunAsync(Inside(command));

    /// <summary>Has <c>ip</c> do what the arguments say, which have no spaces in them.</summary>
    internal async Task IpAsync(string arguments) => (await RunAsync(["ip", .. arguments.Split(' ')])).Succeeded();

    /// <summary>On a thread of its own, moved into the namespace.</summary>
    internal T Enter<T>(Func<T> action) => OwnThread.RunIn($"/run/netns/{name}", action);

    /// <summary>As <see cref="Enter"/>, for several threads at a time that block.</summary>
    internal Task<T> EnterAsync<T>(Func<T> action) => Task.Factory.StartNew(
        () => Enter(action), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);

    internal Socket NewSocket(AddressFamily family) =>
        Enter(() => new Socket(family, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true });

    internal async Task<Socket> ConnectAsync(
        IPEndPoint server, CancellationToken cancellation = default, Action<Socket>? prepare = null)
    {
        Socket socket = NewSocket(server.AddressFamily);
        try
        {
            prepare?.Invoke(socket);
            await socket.ConnectAsync(server, cancellation);
            return socket;
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <summary>
    /// A handler whose connections begin in this namespace. Hosts must be addresses; any certificate will do.
    /// </summary>
    internal SocketsHttpHandler HttpHandler() => new()
    {
        UseProxy = false,
        ConnectCallback = async (context, cancellation) =>
        {
            var host = new IPEndPoint(IPAddress.Parse(context.DnsEndPoint.Host), context.DnsEndPoint.Port);
            return new NetworkStream(await ConnectAsync(host, cancellation), ownsSocket: true);
        },
        SslOptions = { RemoteCertificateValidationCallback = static (_, _, _, _) => true },
        PooledConnectionIdleTimeout = Timeout.InfiniteTimeSpan,
    };

    internal HttpClient HttpClient() => new(HttpHandler()) { Timeout = Command.Limit };

    /// <summary>What the kernel's own TCP has done here.</summary>
    internal KernelTcp KernelTcp() => Enter(static () =>
    {
        string[][] lines = [.. File.ReadLines("/proc/thread-self/net/snmp")
            .Where(line => line.StartsWith("Tcp:", StringComparison.Ordinal)).Select(line => line.Split(' '))];
        long Value(string field) => long.Parse(lines[1][Array.IndexOf(lines[0], field)], CultureInfo.InvariantCulture);
        return new KernelTcp(Value("PassiveOpens"), Value("OutRsts"), Value("RetransSegs"));
    });

    /// <summary>
    /// Ends the kernel's TIME-WAITs. A client that takes such a pair of ports again would be served by the kernel.
    /// </summary>
    internal async Task ForgetTimeWaitsAsync() =>
        (await RunAsync("ss", "--kill", "--tcp", "state", "time-wait")).Succeeded();

    internal void Set(string sysctl, string value) => Enter(() =>
    {
        File.WriteAllText($"/proc/sys/{sysctl}", value);
        return 0;
    });

    internal string Get(string sysctl) => Enter(() => File.ReadAllText($"/proc/sys/{sysctl}").Trim());
}

/// <param name="Accepted">Connections that listening sockets got.</param>
/// <param name="ResetsSent">RST segments sent.</param>
/// <param name="Retransmitted">Segments sent again.</param>
internal sealed record KernelTcp(long Accepted, long ResetsSent, long Retransmitted);

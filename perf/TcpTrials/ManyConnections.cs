using System.Net;
using System.Net.Sockets;

namespace TcpTrials;

/// <summary>
/// Opens thousands of connections. The sockets are blocking: then a connection needs nothing here but its descriptor.
/// </summary>
internal static class ManyConnections
{
    /// <summary>
    /// What a process may have in descriptors in most places, less what the runtime needs. Clients, and servers on the
    /// socket transport, need one for each connection.
    /// </summary>
    public const int MostPerProcess = 16_000;

    private const int Threads = 16;
    private const int ReceiveMilliseconds = 30_000;

    /// <param name="target">The server.</param>
    /// <param name="count">How many.</param>
    /// <param name="prepare">Before a socket connects. Any of several threads.</param>
    /// <param name="use">Once it has. With a <see cref="SocketException"/> it failed, and its thread gives up.</param>
    /// <returns>The sockets that are open, and how many threads gave up.</returns>
    public static (List<Socket> Open, int Failures) Open(
        IPEndPoint target, int count, Action<Socket> prepare, Action<Socket> use)
    {
        var sockets = new List<Socket>();
        int failures = 0;
        var threads = new List<Thread>();
        for (int t = 0; t < Threads; t++)
        {
            int share = count / Threads + (t < count % Threads ? 1 : 0);
            threads.Add(new Thread(() =>
            {
                for (int i = 0; i < share; i++)
                {
                    try
                    {
                        var socket = new Socket(target.AddressFamily, SocketType.Stream, ProtocolType.Tcp)
                        {
                            ReceiveTimeout = ReceiveMilliseconds,
                        };
                        prepare(socket);
                        socket.Connect(target);
                        use(socket);
                        lock (sockets)
                            sockets.Add(socket);
                    }
                    catch (SocketException)
                    {
                        Interlocked.Increment(ref failures);
                        return;
                    }
                }
            }, maxStackSize: 256 * 1024));
        }

        threads.ForEach(thread => thread.Start());
        threads.ForEach(thread => thread.Join());
        return (sockets, failures);
    }
}

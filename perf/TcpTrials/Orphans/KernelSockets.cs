using System.Globalization;
using TransportComparison;

namespace TcpTrials.Orphans;

/// <summary>
/// The TCP sockets of a namespace. <c>/proc/net/sockstat</c> would not do: its memory and its orphans are those of the
/// whole machine.
/// </summary>
/// <param name="Connections">Sockets that do not listen and are not in TIME-WAIT.</param>
/// <param name="Orphans">Those of them that have sent a FIN.</param>
/// <param name="Bytes">What all sockets hold, as the kernel accounts it.</param>
internal readonly record struct KernelSockets(int Connections, int Orphans, long Bytes)
{
    private static readonly HashSet<string> s_noConnections = ["LISTEN", "TIME-WAIT"];
    private static readonly HashSet<string> s_closed = ["FIN-WAIT-1", "FIN-WAIT-2", "CLOSING", "LAST-ACK"];

    // Of skmem: received, queued to send, and reserved for either. See ss(8).
    private const string Received = "skmem:(r";
    private const string Queued = ",w";
    private const string Reserved = ",f";

    public static async Task<KernelSockets> Read(Lab lab, CancellationToken cancellation)
    {
        string list = await lab.Output(lab.Command("server", "ss", "-HOtanm"), cancellation);
        var all = new KernelSockets();
        foreach (string line in list.Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            string state = line[..line.IndexOf(' ')];
            all = new KernelSockets(
                all.Connections + (s_noConnections.Contains(state) ? 0 : 1),
                all.Orphans + (s_closed.Contains(state) ? 1 : 0),
                all.Bytes + Number(line, Received) + Number(line, Queued) + Number(line, Reserved));
        }

        return all;
    }

    private static long Number(string line, string name)
    {
        int at = line.IndexOf(name, StringComparison.Ordinal);
        if (at < 0)
            return 0;
        at += name.Length;
        return long.Parse(line.AsSpan(at, line.IndexOfAny([',', ')'], at) - at), CultureInfo.InvariantCulture);
    }
}

using System.Globalization;
using System.Net;
using System.Runtime.InteropServices;
using Xdp.Sockets.Net;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>
/// The kernel's TCP connections in the calling thread's network namespace, as /proc tells them. For the control path:
/// reading costs time with every socket.
/// </summary>
internal static class KernelSockets
{
    private const string Listen = "0A";

    /// <summary>
    /// Local ends of connections, TIME-WAIT included, whose peer is not this host itself: their segments come in
    /// through an interface. Null when /proc does not tell, which is to be taken as "any".
    /// </summary>
    /// <param name="ports">Local ports of interest.</param>
    internal static HashSet<(IpAddr Address, int Port)>? RemoteConnections(IReadOnlySet<int> ports)
    {
        HashSet<IpAddr> own =
            [.. NetworkInterfaceInfo.List().SelectMany(i => i.Addresses).Select(a => IpAddr.From(a.Address))];
        var found = new HashSet<(IpAddr, int)>();
        try
        {
            foreach (string table in (ReadOnlySpan<string>)["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"])
            {
                if (File.Exists(table))
                    Read(File.ReadLines(table), ports, own, found);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
        return found;
    }

    /// <param name="lines">
    /// A header, then: number, local address:port, remote address:port, state, … in hexadecimal.
    /// </param>
    /// <param name="ports">Local ports of interest.</param>
    /// <param name="own">The host's own addresses.</param>
    /// <param name="found">Gets what there is.</param>
    internal static void Read(
        IEnumerable<string> lines, IReadOnlySet<int> ports, IReadOnlySet<IpAddr> own, HashSet<(IpAddr, int)> found)
    {
        Span<Range> fields = stackalloc Range[5];
        foreach (string line in lines.Skip(1))
        {
            ReadOnlySpan<char> text = line;
            if (text.Split(fields, ' ', StringSplitOptions.RemoveEmptyEntries) < 5
                || text[fields[3]].SequenceEqual(Listen))
                continue;
            (IpAddr local, int port) = Parse(text[fields[1]]);
            if (!ports.Contains(port))
                continue;
            (IpAddr remote, _) = Parse(text[fields[2]]);
            if (!own.Contains(remote) && !IPAddress.IsLoopback(remote.ToIPAddress()))
                found.Add((local, port));
        }
    }

    // The address is printed as 32-bit words in the machine's order, each of which holds bytes in network order.
    private static (IpAddr Address, int Port) Parse(ReadOnlySpan<char> text)
    {
        int colon = text.IndexOf(':');
        Span<byte> bytes = stackalloc byte[16];
        for (int word = 0; word < colon / 8; word++)
        {
            uint value = uint.Parse(text.Slice(word * 8, 8), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
            MemoryMarshal.Write(bytes[(word * 4)..], value);
        }
        int port = int.Parse(text[(colon + 1)..], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
        return (IpAddr.From(new IPAddress(bytes[..(colon / 2)])), port);
    }
}

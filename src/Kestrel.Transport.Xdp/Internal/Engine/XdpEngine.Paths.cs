using System.Collections.Concurrent;
using System.Net;
using System.Net.NetworkInformation;
using Xdp.Sockets.Net;

namespace Kestrel.Transport.Xdp.Internal;

// The way to peers that have fallen silent. A connection's segments go where its peer's last one came from; when a router has failed over, the kernel's
// tables know the new way first.
internal sealed partial class XdpEngine
{
    // A network that is gone makes every connection ask.
    private const int PathsPerTick = 512;

    private readonly ConcurrentQueue<(XdpQueue Queue, XdpConnection Connection)> _suspects = new();
    private NeighbourResolver? _neighbours;

    public void PathSuspected(XdpQueue queue, XdpConnection connection) => _suspects.Enqueue((queue, connection));

    private void ResolvePaths()
    {
        if (_suspects.IsEmpty)
            return;
        var answers = new List<(XdpQueue Queue, XdpConnection Connection, PhysicalAddress? Neighbour)>();
        while (answers.Count < PathsPerTick && _suspects.TryDequeue(out var suspect))
            answers.Add((suspect.Queue, suspect.Connection, NeighbourTowards(suspect.Connection.Flow.Remote.ToIPAddress())));
        foreach (var ofQueue in answers.GroupBy(answer => answer.Queue))
        {
            ofQueue.Key.Run(_ =>
            {
                foreach (var (queue, connection, neighbour) in ofQueue)
                    queue.Redirect(connection, neighbour);
            });
        }
    }

    /// <summary>Null while the kernel does not know, or when the way is not through this interface. The kernel is made to verify what it knows either way.</summary>
    private PhysicalAddress? NeighbourTowards(IPAddress remote)
    {
        _neighbours ??= new NeighbourResolver();
        if (_device is null || _neighbours.Resolve(remote, remote.IsIPv6LinkLocal ? _device.Index : 0) is not { } hop || hop.Ifindex != _device.Index)
            return null;
        _neighbours.Probe(hop);
        return hop.Mac;
    }
}

using System.Collections.Concurrent;
using System.Net;
using System.Net.NetworkInformation;
using Kestrel.Transport.Xdp.Internal.Connections;
using Kestrel.Transport.Xdp.Internal.Queues;
using Xdp.Sockets;
using Xdp.Sockets.Net;

namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>
/// Finds the way to peers that have fallen silent. A connection's segments go where its peer's last one came from. When
/// a router has failed over, the kernel's tables know the new way first.
/// <para>
/// Owns the connections that wait for an answer, and the netlink socket that asks the kernel. <see cref="Suspect"/> is
/// for any thread, the rest for the engine's lock.
/// </para>
/// </summary>
internal sealed class PathResolver : IDisposable
{
    // A network that is gone makes every connection ask.
    private const int AtOnce = 512;

    private readonly ConcurrentQueue<(XdpQueue Queue, QueueSide Connection)> _suspects = new();
    private NeighbourResolver? _kernel;

    /// <summary>The connection is answered by <see cref="XdpQueue.Redirect"/>. Called in the queue's turn.</summary>
    internal void Suspect(XdpQueue queue, QueueSide connection) => _suspects.Enqueue((queue, connection));

    /// <param name="device">The interface that the segments have to leave by; null while there is none.</param>
    internal void Resolve(NetworkInterfaceInfo? device)
    {
        if (_suspects.IsEmpty)
            return;
        var answers = new List<(XdpQueue Queue, QueueSide Connection, PhysicalAddress? Neighbour)>();
        while (answers.Count < AtOnce && _suspects.TryDequeue(out var suspect))
        {
            (XdpQueue queue, QueueSide connection) = suspect;
            answers.Add((queue, connection, NeighbourTowards(connection.Flow.Remote.ToIPAddress(), device)));
        }
        foreach (var ofQueue in answers.GroupBy(answer => answer.Queue))
        {
            ofQueue.Key.Ask(_ =>
            {
                foreach (var (queue, connection, neighbour) in ofQueue)
                    queue.Redirect(connection, neighbour);
            });
        }
    }

    public void Dispose()
    {
        _kernel?.Dispose();
        _kernel = null;
    }

    /// <summary>
    /// Null while the kernel does not know, or when the way is not through this interface. The kernel is made to verify
    /// what it knows either way.
    /// </summary>
    private PhysicalAddress? NeighbourTowards(IPAddress remote, NetworkInterfaceInfo? device)
    {
        try
        {
            _kernel ??= new NeighbourResolver();
            if (device is null
                || _kernel.Resolve(remote, remote.IsIPv6LinkLocal ? device.Index : 0) is not { } hop
                || hop.Ifindex != device.Index)
                return null;
            _kernel.Probe(hop);
            return hop.Mac;
        }
        catch (XdpException)
        {
            // Each suspect is answered, or it would never be one again.
            return null;
        }
    }
}

using System.Collections.Concurrent;
using System.Net;
using Kestrel.Transport.Xdp.Internal.Queues;
using Kestrel.Transport.Xdp.Internal.Steering;
using Xdp.Sockets;
using Xdp.Sockets.Bpf;
using Xdp.Sockets.Net;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>
/// Packets that would open connections whose segments another interface carries: the companion takes them. The program
/// leaves the peer's next ones to the kernel by itself. Owns the packets that wait, and the peers that the program has
/// been told of. What is not marked is for the engine's lock.
/// </summary>
/// <param name="routedAs">
/// Which peers are routed as this one, and with false those within, which are not. Any thread.
/// </param>
/// <param name="wake">There is something to do. Any thread.</param>
internal sealed class KernelHandOver(Func<IpAddr, IReadOnlyDictionary<IPNetwork, bool>> routedAs, Action wake)
    : IDisposable
{
    // Enough for what comes before the program knows of a peer. More count as lost.
    private const int MostPackets = 256;

    private const int MostPeers = 4096;

    private readonly ConcurrentQueue<Item> _items = new();
    private readonly byte[] _bytes = new byte[BlockPool.BlockSize];
    private volatile Dictionary<EndpointPeers, bool> _peers = [];
    private PacketInjector? _injector;
    private volatile bool _forget, _applying, _disposed;

    private sealed record Item(int Queue, BlockQueue Packet, FlowKey Flow);

    /// <summary>SYNs pass the interface's queues by.</summary>
    internal bool IsActive => _peers.Count > 0;

    /// <summary>There is something for <see cref="Apply"/> to do.</summary>
    internal bool IsDue => !_items.IsEmpty || _forget;

    /// <param name="queue">Where the packet came in.</param>
    /// <param name="packet">It is the hand-over's now.</param>
    /// <param name="flow">Its flow.</param>
    /// <remarks>Any thread.</remarks>
    internal void Add(int queue, BlockQueue packet, in FlowKey flow)
    {
        if (_items.Count >= MostPackets)
        {
            packet.ReturnAll();
            return;
        }
        _items.Enqueue(new(queue, packet, flow));
        // It may have been disposed just before.
        if (_disposed)
            Return(Take());
        else
            wake();
    }

    /// <summary>
    /// Routes have changed: the program asks for each peer again. In a turn of each queue, so that what a queue has
    /// handed over by the routes before is forgotten as well.
    /// </summary>
    internal void Forget()
    {
        // A peer is among the items first, then in Apply, then among the peers. In that order none is missed.
        if (_items.IsEmpty && !_applying && !IsActive)
            return;
        _forget = true;
        wake();
    }

    /// <summary>Tells the program, and hands the packets to the kernel.</summary>
    /// <param name="maps">Of the program; null while it is not attached.</param>
    /// <param name="device">The interface.</param>
    /// <param name="prepare">
    /// From now on the kernel has connections to the endpoints: their segments have to be left to it. Called while
    /// <see cref="IsActive"/>, and before the kernel gets the first packet.
    /// </param>
    internal void Apply(ISteeringMaps? maps, NetworkInterfaceInfo? device, Action prepare)
    {
        _applying = true;
        List<Item> items = Take();
        try
        {
            // Items may be older than what is to be forgotten. Their peers try again, and are asked for anew.
            if (_forget)
            {
                ForgetPeers(maps);
                return;
            }
            if (items.Count == 0 || maps is null || device is null)
                return;
            Learn(items, maps, prepare);
            foreach (Item item in items)
                Inject(item, device);
        }
        finally
        {
            _applying = false;
            Return(items);
        }
    }

    private void ForgetPeers(ISteeringMaps? maps)
    {
        _forget = false;
        try
        {
            if (_peers.Count > 0)
                maps?.SetPeersElsewhere(new Dictionary<EndpointPeers, bool>());
            _peers = [];
        }
        catch
        {
            _forget = true;
            throw;
        }
    }

    /// <summary>The program is gone, and what it was told with it.</summary>
    internal void Reset() => _peers = [];

    public void Dispose()
    {
        _disposed = true;
        Return(Take());
        _injector?.Dispose();
    }

    private void Learn(List<Item> items, ISteeringMaps maps, Action prepare)
    {
        Dictionary<EndpointPeers, bool> before = _peers;
        var peers = new Dictionary<EndpointPeers, bool>(before);
        foreach (FlowKey flow in items.Select(static item => item.Flow)
            .DistinctBy(static flow => (flow.Local, flow.LocalPort, flow.Remote)))
        {
            IReadOnlyDictionary<IPNetwork, bool> alike = routedAs(flow.Remote);
            if (peers.Count + alike.Count > MostPeers)
                peers.Clear();
            foreach ((IPNetwork network, bool isElsewhere) in alike)
            {
                var key = new EndpointPeers(flow.Local.ToIPAddress(), flow.LocalPort, network);
                // What is known to be elsewhere stays so, within whatever else is.
                peers[key] = isElsewhere || peers.GetValueOrDefault(key);
            }
        }
        if (peers.Count == before.Count && !peers.Except(before).Any())
            return;
        // The program lets SYNs pass last of all: their connections are the kernel's from then on.
        _peers = peers;
        try
        {
            prepare();
            maps.SetPeersElsewhere(peers);
        }
        catch
        {
            _peers = before;
            throw;
        }
    }

    private List<Item> Take()
    {
        var items = new List<Item>();
        while (_items.TryDequeue(out Item? item))
            items.Add(item);
        return items;
    }

    private static void Return(List<Item> items)
    {
        foreach (Item item in items)
            item.Packet.ReturnAll();
    }

    // Where that does not work, the peer's next SYN comes to the kernel by itself, a second later.
    private void Inject(Item item, NetworkInterfaceInfo device)
    {
        int length = 0;
        for (Block? block = item.Packet.Head; block is not null; block = block.Next)
        {
            if (length + block.Length > _bytes.Length)
                return;
            block.Bytes.CopyTo(_bytes.AsSpan(length));
            length += block.Length;
        }
        // The kernel has been told nothing of checksums that are to be completed.
        PartialChecksum.Complete(_bytes.AsSpan(0, length));
        try
        {
            _injector ??= new PacketInjector();
            _injector.Inject(_bytes.AsSpan(0, length), device.Index, item.Queue);
        }
        catch (XdpException)
        {
        }
    }
}

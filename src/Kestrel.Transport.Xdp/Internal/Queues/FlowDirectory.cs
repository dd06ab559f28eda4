using System.Collections.Concurrent;
using System.Diagnostics.CodeAnalysis;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal;

/// <summary>Which queue has a flow: asked, without a lock, when a segment arrives at a queue that does not know it; written when a connection opens and ends.</summary>
internal sealed class FlowDirectory
{
    private readonly ConcurrentDictionary<FlowKey, XdpQueue> _owners = new(new KeyedComparer());

    internal int Count => _owners.Count;

    internal void Add(in FlowKey flow, XdpQueue owner) => _owners[flow] = owner;

    /// <summary>Removes the entry if it is <paramref name="owner"/>'s: the same 4-tuple may have come back elsewhere.</summary>
    internal void Remove(in FlowKey flow, XdpQueue owner) => _owners.TryRemove(new(flow, owner));

    internal bool TryFind(in FlowKey flow, [NotNullWhen(true)] out XdpQueue? owner) => _owners.TryGetValue(flow, out owner);

    // Peers choose most of a 4-tuple: the hash has the process's random key in it.
    private sealed class KeyedComparer : IEqualityComparer<FlowKey>
    {
        public bool Equals(FlowKey x, FlowKey y) => x == y;

        public int GetHashCode(FlowKey flow) =>
            HashCode.Combine(flow.Remote.High, flow.Remote.Low, flow.RemotePort, flow.LocalPort, flow.Local.High, flow.Local.Low);
    }
}

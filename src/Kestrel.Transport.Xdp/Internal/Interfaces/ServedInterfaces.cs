using Kestrel.Transport.Xdp.Internal.Queues;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>
/// The interfaces of one network namespace that have open queues. A flow's segments may come in by another interface
/// than its answers leave by: to whom its queue belongs does not matter to who forwards them. Any thread.
/// </summary>
internal sealed class ServedInterfaces
{
    private readonly Lock _lock = new();

    // By index. Replaced as a whole, so that it is read without the lock.
    private volatile Dictionary<int, QueueSet> _sets = [];
    private volatile XdpQueue[] _queues = [];

    /// <summary>One has begun or ceased to be served. Called with the lock of its engine.</summary>
    internal event Action? Changed;

    /// <summary>One serves an endpoint more. Called with the lock of its engine.</summary>
    internal event Action? Listens;

    /// <summary>All open queues, in a circle.</summary>
    internal XdpQueue[] Queues => _queues;

    internal bool Includes(int ifindex) => _sets.ContainsKey(ifindex);

    /// <summary>
    /// The queue of an interface that opens a connection with this flow; null when none listens there.
    /// </summary>
    internal XdpQueue? QueueFor(int ifindex, in FlowKey flow)
    {
        if (!_sets.TryGetValue(ifindex, out QueueSet? set) || !set.ListensOn(flow.Local, flow.LocalPort))
            return null;
        IReadOnlyList<XdpQueue> queues = set.Open;
        // The same for a SYN that comes again.
        return queues.Count == 0 ? null : queues[(int)((uint)flow.GetHashCode() % (uint)queues.Count)];
    }

    internal void ListensElsewhere() => Listens?.Invoke();

    /// <summary>The interface has other queues than before, perhaps none.</summary>
    internal void Set(int ifindex, QueueSet set)
    {
        bool isOther;
        lock (_lock)
        {
            var sets = new Dictionary<int, QueueSet>(_sets);
            bool was = sets.Remove(ifindex);
            if (set.Open.Count > 0)
                sets.Add(ifindex, set);
            isOther = was != sets.ContainsKey(ifindex);
            _sets = sets;
            _queues = [.. sets.Values.SelectMany(static other => other.Open)];
        }
        if (isOther)
            Changed?.Invoke();
    }
}

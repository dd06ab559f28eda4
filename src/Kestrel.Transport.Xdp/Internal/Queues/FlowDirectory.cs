using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Queues;

/// <summary>
/// Who has a flow, in whichever queue: asked, without a lock, when a segment arrives at a queue that does not know it;
/// written when a connection opens and ends. A table with open addressing that holds nothing but references, in shards,
/// so that growing one does not stall a turn.
/// </summary>
/// <remarks>
/// An entry never moves within an array, and what is removed leaves a mark there: who searches meanwhile finds every
/// flow that was in it all the time.
/// </remarks>
/// <param name="flowOf">An entry's flow, which must not change.</param>
internal sealed class FlowDirectory<T>(Func<T, FlowKey> flowOf)
    where T : class
{
    private const int ShardBits = 6;
    private const int SmallestLength = 8;

    private static readonly object s_removed = new();

    private readonly Shard[] _shards = NewShards();

    private sealed class Shard
    {
        public readonly Lock Lock = new();

        /// <summary>Null where a search ends, <see cref="s_removed"/>, or an entry.</summary>
        public object?[] Slots = new object?[SmallestLength];

        public int Entries;

        /// <summary>Entries and marks.</summary>
        public int Used;
    }

    internal int Count => _shards.Sum(static shard => Volatile.Read(ref shard.Entries));

    /// <summary>Adds an entry, in place of the one with the same flow if there is one.</summary>
    internal void Add(T entry)
    {
        FlowKey flow = flowOf(entry);
        uint hash = HashOf(flow);
        Shard shard = ShardOf(hash);
        lock (shard.Lock)
        {
            if (Search(shard.Slots, flow, hash, out int taken) is not null)
            {
                Volatile.Write(ref shard.Slots[taken], entry);
                return;
            }
            if (shard.Used + 1 > Limit(shard.Slots.Length))
                Rebuild(shard);
            int free = FreeSlot(shard.Slots, hash);
            if (shard.Slots[free] is null)
                shard.Used++;
            Volatile.Write(ref shard.Slots[free], entry);
            shard.Entries++;
        }
    }

    /// <summary>Removes this very entry: the same flow may have come back elsewhere.</summary>
    internal void Remove(T entry)
    {
        FlowKey flow = flowOf(entry);
        uint hash = HashOf(flow);
        Shard shard = ShardOf(hash);
        lock (shard.Lock)
        {
            if (Search(shard.Slots, flow, hash, out int index) != entry)
                return;
            Volatile.Write(ref shard.Slots[index], s_removed);
            if (--shard.Entries == 0 && shard.Slots.Length > SmallestLength)
                Rebuild(shard);
        }
    }

    /// <summary>Any thread.</summary>
    internal T? Find(in FlowKey flow)
    {
        uint hash = HashOf(flow);
        return Search(Volatile.Read(ref ShardOf(hash).Slots), flow, hash, out _);
    }

    private static Shard[] NewShards()
    {
        var shards = new Shard[1 << ShardBits];
        for (int i = 0; i < shards.Length; i++)
            shards[i] = new Shard();
        return shards;
    }

    /// <summary>Entries and marks in an array of this length: three quarters.</summary>
    private static int Limit(int length) => length / 4 * 3;

    /// <summary>Peers choose most of a 4-tuple: the hash has the process's random key in it.</summary>
    private static uint HashOf(in FlowKey flow) => (uint)HashCode.Combine(
        flow.Remote.High, flow.Remote.Low, flow.RemotePort, flow.LocalPort, flow.Local.High, flow.Local.Low);

    private Shard ShardOf(uint hash) => _shards[hash >> (32 - ShardBits)];

    private T? Search(object?[] slots, in FlowKey flow, uint hash, out int index)
    {
        int mask = slots.Length - 1;
        index = (int)hash & mask;
        for (; Volatile.Read(ref slots[index]) is { } slot; index = (index + 1) & mask)
        {
            if (slot is T entry && flowOf(entry) == flow)
                return entry;
        }
        return null;
    }

    private static int FreeSlot(object?[] slots, uint hash)
    {
        int mask = slots.Length - 1;
        int i = (int)hash & mask;
        while (slots[i] is { } slot && slot != s_removed)
            i = (i + 1) & mask;
        return i;
    }

    // An array without marks, longer or shorter, with room for a quarter more: those who search the old one find there
    // what they would have found before.
    private void Rebuild(Shard shard)
    {
        int length = SmallestLength;
        while (Limit(length) <= shard.Entries + shard.Entries / 4)
            length *= 2;
        var slots = new object?[length];
        foreach (object? slot in shard.Slots)
        {
            if (slot is T entry)
                slots[FreeSlot(slots, HashOf(flowOf(entry)))] = entry;
        }
        shard.Used = shard.Entries;
        Volatile.Write(ref shard.Slots, slots);
    }
}

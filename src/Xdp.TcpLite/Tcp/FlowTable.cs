using System.Diagnostics.CodeAnalysis;

namespace Xdp.TcpLite;

/// <summary>
/// Connections by 4-tuple, with open addressing and linear probing. The hashes lie in the table: a look-up costs one
/// keyed hash, mostly one cache line of the table, and the entry itself. The hash is keyed, so that peers cannot choose
/// 4-tuples that collide. Deletion shifts entries back and leaves no tombstones.
/// </summary>
internal sealed class FlowTable
{
    private readonly KeyedHash _hash;
    private Slot[] _slots;
    private int _mask;

    /// <param name="secret">16 bytes or more.</param>
    /// <param name="capacity">Flows that fit before the table grows for the first time.</param>
    public FlowTable(ReadOnlySpan<byte> secret, int capacity = 192)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(capacity);
        _hash = KeyedHash.Derive(secret, KeyPurpose.FlowTable);
        int length = 16;
        while (Limit(length) < capacity)
            length *= 2;
        Allocate(length);
    }

    public int Count { get; private set; }

    public FlowEntry? Find(in FlowKey flow)
    {
        Slot[] slots = _slots;
        uint hash = HashOf(flow);
        for (int i = (int)hash & _mask; ; i = (i + 1) & _mask)
        {
            ref Slot slot = ref slots[i];
            if (slot.Entry is not { } entry)
                return null;
            if (slot.Hash == hash && Same(entry.Key, flow))
                return entry;
        }
    }

    /// <summary>False when the flow is in the table already.</summary>
    public bool TryAdd(FlowEntry entry)
    {
        ArgumentNullException.ThrowIfNull(entry);
        uint hash = HashOf(entry.Key);
        int i = (int)hash & _mask;
        for (; _slots[i].Entry is { } other; i = (i + 1) & _mask)
        {
            if (_slots[i].Hash == hash && Same(other.Key, entry.Key))
                return false;
        }
        if (Count == Limit(_slots.Length))
        {
            Grow();
            i = FreeSlot(hash);
        }
        _slots[i] = new Slot { Entry = entry, Hash = hash };
        Count++;
        return true;
    }

    public bool Remove(in FlowKey flow)
    {
        uint hash = HashOf(flow);
        int i = (int)hash & _mask;
        for (; ; i = (i + 1) & _mask)
        {
            if (_slots[i].Entry is not { } entry)
                return false;
            if (_slots[i].Hash == hash && Same(entry.Key, flow))
                break;
        }
        CloseGap(i);
        Count--;
        return true;
    }

    /// <summary>All entries, in no order. The table must not change meanwhile.</summary>
    public Enumerator GetEnumerator() => new(this);

    /// <summary>Entries of a table with this many slots: three quarters.</summary>
    private static int Limit(int length) => length / 4 * 3;

    private uint HashOf(in FlowKey flow) => (uint)_hash.Hash(flow);

    private static bool Same(in FlowKey left, in FlowKey right) =>
        left.Remote.Low == right.Remote.Low && left.RemotePort == right.RemotePort && left.LocalPort == right.LocalPort
        && left.Local.Low == right.Local.Low && left.Remote.High == right.Remote.High
        && left.Local.High == right.Local.High;

    /// <summary>Moves the entries behind a freed slot back, as far as they may go, until the run ends.</summary>
    private void CloseGap(int gap)
    {
        for (int i = (gap + 1) & _mask; _slots[i].Entry is not null; i = (i + 1) & _mask)
        {
            int home = (int)_slots[i].Hash & _mask;
            int fromHome = (i - home) & _mask;
            int fromGap = (i - gap) & _mask;
            if (fromHome < fromGap)
                continue;
            _slots[gap] = _slots[i];
            gap = i;
        }
        _slots[gap] = default;
    }

    private int FreeSlot(uint hash)
    {
        int i = (int)hash & _mask;
        while (_slots[i].Entry is not null)
            i = (i + 1) & _mask;
        return i;
    }

    private void Grow()
    {
        Slot[] old = _slots;
        Allocate(old.Length * 2);
        foreach (ref readonly Slot slot in old.AsSpan())
        {
            if (slot.Entry is not null)
                _slots[FreeSlot(slot.Hash)] = slot;
        }
    }

    [MemberNotNull(nameof(_slots))]
    private void Allocate(int length)
    {
        _slots = new Slot[length];
        _mask = length - 1;
    }

    private struct Slot
    {
        public FlowEntry? Entry;
        public uint Hash;
    }

    public struct Enumerator
    {
        private readonly Slot[] _slots;
        private int _index;

        internal Enumerator(FlowTable table)
        {
            _slots = table._slots;
            _index = -1;
        }

        public readonly FlowEntry Current => _slots[_index].Entry!;

        public bool MoveNext()
        {
            while (++_index < _slots.Length)
            {
                if (_slots[_index].Entry is not null)
                    return true;
            }
            return false;
        }
    }
}

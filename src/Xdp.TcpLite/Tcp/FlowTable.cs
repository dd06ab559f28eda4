using System.Diagnostics.CodeAnalysis;

namespace Xdp.TcpLite;

/// <summary>
/// Connections by 4-tuple. Open addressing with linear probing and keys stored in place: a look-up is one keyed hash and, as a rule, one cache line. The hash
/// is keyed, so that peers cannot choose 4-tuples which collide. Deletion shifts entries back and leaves no tombstones.
/// </summary>
internal sealed class FlowTable<T>
    where T : class
{
    private readonly KeyedHash _hash;
    private Entry[] _entries;
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

    public T? Find(in FlowKey flow)
    {
        Entry[] entries = _entries;
        uint hash = HashOf(flow);
        for (int i = (int)hash & _mask; ; i = (i + 1) & _mask)
        {
            ref Entry entry = ref entries[i];
            if (entry.Value is null)
                return null;
            if (entry.Hash == hash && Same(entry.Flow, flow))
                return entry.Value;
        }
    }

    /// <summary>False when the flow is in the table already.</summary>
    public bool TryAdd(in FlowKey flow, T value)
    {
        ArgumentNullException.ThrowIfNull(value);
        uint hash = HashOf(flow);
        int i = (int)hash & _mask;
        for (; _entries[i].Value is not null; i = (i + 1) & _mask)
        {
            if (_entries[i].Hash == hash && Same(_entries[i].Flow, flow))
                return false;
        }
        if (Count == Limit(_entries.Length))
        {
            Grow();
            i = FreeSlot(hash);
        }
        _entries[i] = new Entry { Flow = flow, Hash = hash, Value = value };
        Count++;
        return true;
    }

    public bool Remove(in FlowKey flow)
    {
        uint hash = HashOf(flow);
        int i = (int)hash & _mask;
        for (; ; i = (i + 1) & _mask)
        {
            if (_entries[i].Value is null)
                return false;
            if (_entries[i].Hash == hash && Same(_entries[i].Flow, flow))
                break;
        }
        CloseGap(i);
        Count--;
        return true;
    }

    /// <summary>All values, in no order. The table must not change meanwhile.</summary>
    public Enumerator GetEnumerator() => new(this);

    /// <summary>Entries of a table of this length: three quarters.</summary>
    private static int Limit(int length) => length / 4 * 3;

    private uint HashOf(in FlowKey flow) => (uint)_hash.Hash(flow);

    private static bool Same(in FlowKey left, in FlowKey right) =>
        left.Remote.Low == right.Remote.Low && left.RemotePort == right.RemotePort && left.LocalPort == right.LocalPort
        && left.Local.Low == right.Local.Low && left.Remote.High == right.Remote.High && left.Local.High == right.Local.High;

    /// <summary>Moves the entries behind a freed slot back, as far as they may go, until the run ends.</summary>
    private void CloseGap(int gap)
    {
        for (int i = (gap + 1) & _mask; _entries[i].Value is not null; i = (i + 1) & _mask)
        {
            int home = (int)_entries[i].Hash & _mask;
            int fromHome = (i - home) & _mask;
            int fromGap = (i - gap) & _mask;
            if (fromHome < fromGap)
                continue;
            _entries[gap] = _entries[i];
            gap = i;
        }
        _entries[gap] = default;
    }

    private int FreeSlot(uint hash)
    {
        int i = (int)hash & _mask;
        while (_entries[i].Value is not null)
            i = (i + 1) & _mask;
        return i;
    }

    private void Grow()
    {
        Entry[] old = _entries;
        Allocate(old.Length * 2);
        foreach (ref readonly Entry entry in old.AsSpan())
        {
            if (entry.Value is not null)
                _entries[FreeSlot(entry.Hash)] = entry;
        }
    }

    [MemberNotNull(nameof(_entries))]
    private void Allocate(int length)
    {
        _entries = new Entry[length];
        _mask = length - 1;
    }

    private struct Entry
    {
        public T? Value;
        public uint Hash;
        public FlowKey Flow;
    }

    public struct Enumerator
    {
        private readonly Entry[] _entries;
        private int _index;

        internal Enumerator(FlowTable<T> table)
        {
            _entries = table._entries;
            _index = -1;
        }

        public readonly T Current => _entries[_index].Value!;

        public bool MoveNext()
        {
            while (++_index < _entries.Length)
            {
                if (_entries[_index].Value is not null)
                    return true;
            }
            return false;
        }
    }
}

using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets.Bpf;

/// <summary>
/// A BPF map. Any thread may call any method: the kernel makes each operation atomic. A call beside
/// <see cref="Dispose"/> is done, or throws <see cref="ObjectDisposedException"/>. Keys and values are bytes in the
/// layout of the C code that reads them.
/// </summary>
public sealed unsafe class BpfMap : IDisposable
{
    private BpfMap(BpfMapDefinition definition, BpfHandle handle)
    {
        Definition = definition;
        Handle = handle;
    }

    public BpfMapDefinition Definition { get; }

    public BpfHandle Handle { get; }

    public string Name => Definition.Name;

    private bool IsPerCpu => Definition.Type is BpfMapType.PerCpuArray or BpfMapType.PerCpuHash;

    /// <summary>
    /// How many bytes a lookup gives. A per-CPU map has one value for each possible CPU, rounded up to 8 bytes.
    /// </summary>
    private int LookupSize => IsPerCpu ? (Definition.ValueSize + 7 & ~7) * PossibleCpus.Count : Definition.ValueSize;

    public static BpfMap Create(BpfMapDefinition definition)
    {
        var attributes = new BpfNative.MapCreate
        {
            MapType = (uint)definition.Type,
            KeySize = (uint)definition.KeySize,
            ValueSize = (uint)definition.ValueSize,
            MaxEntries = (uint)definition.MaxEntries,
            MapFlags = definition.Flags,
        };
        BpfNative.CopyName(attributes.Name, definition.Name);
        int fd = BpfNative.Bpf(BpfNative.BPF_MAP_CREATE, ref attributes);
        if (fd < 0)
        {
            string call = $"bpf(BPF_MAP_CREATE, \"{definition.Name}\", type {definition.Type}, "
                + $"key {definition.KeySize}, value {definition.ValueSize}, entries {definition.MaxEntries})";
            throw new XdpException(call, -fd, BpfObject.PrivilegeHint(-fd));
        }
        return new BpfMap(definition, new BpfHandle(fd));
    }

    /// <summary>Adds or replaces.</summary>
    public void Update(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
    {
        CheckSize(key.Length, Definition.KeySize, nameof(key));
        CheckSize(value.Length, LookupSize, nameof(value));
        fixed (byte* k = key, v = value)
        {
            int result = Call(BpfNative.BPF_MAP_UPDATE_ELEM, k, v);
            if (result < 0)
                throw Failed("BPF_MAP_UPDATE_ELEM", result, UpdateHint(-result));
        }
    }

    public void Update<TKey, TValue>(TKey key, TValue value)
        where TKey : unmanaged
        where TValue : unmanaged
        => Update(Bytes(ref key), Bytes(ref value));

    /// <returns>False when there is no such entry. XSKMAPs cannot be read from user space before Linux 5.4.</returns>
    public bool TryLookup(ReadOnlySpan<byte> key, Span<byte> value)
    {
        CheckSize(key.Length, Definition.KeySize, nameof(key));
        CheckSize(value.Length, LookupSize, nameof(value));
        fixed (byte* k = key, v = value)
        {
            int result = Call(BpfNative.BPF_MAP_LOOKUP_ELEM, k, v);
            if (result < 0 && result != -ErrnoNames.ENOENT)
                throw Failed("BPF_MAP_LOOKUP_ELEM", result);
            return result >= 0;
        }
    }

    public bool TryLookup<TKey, TValue>(TKey key, out TValue value)
        where TKey : unmanaged
        where TValue : unmanaged
    {
        value = default;
        return TryLookup(Bytes(ref key), Bytes(ref value));
    }

    /// <summary>
    /// The sum over all CPUs of one entry of a per-CPU map of 64-bit counters; 0 when there is no such entry.
    /// </summary>
    public ulong SumPerCpu<TKey>(TKey key)
        where TKey : unmanaged
    {
        if (!IsPerCpu || Definition.ValueSize != sizeof(ulong))
            throw new InvalidOperationException($"Map '{Name}' holds no per-CPU 64-bit counters.");
        Span<ulong> values = PossibleCpus.Count <= 128
            ? stackalloc ulong[PossibleCpus.Count]
            : new ulong[PossibleCpus.Count];
        ulong sum = 0;
        if (TryLookup(Bytes(ref key), MemoryMarshal.AsBytes(values)))
        {
            foreach (ulong value in values)
                sum += value;
        }
        return sum;
    }

    /// <returns>False when there was no such entry.</returns>
    public bool Delete(ReadOnlySpan<byte> key)
    {
        CheckSize(key.Length, Definition.KeySize, nameof(key));
        fixed (byte* k = key)
        {
            int result = Call(BpfNative.BPF_MAP_DELETE_ELEM, k, null);
            if (result < 0 && result != -ErrnoNames.ENOENT)
                throw Failed("BPF_MAP_DELETE_ELEM", result);
            return result >= 0;
        }
    }

    public bool Delete<TKey>(TKey key)
        where TKey : unmanaged
        => Delete(Bytes(ref key));

    /// <summary>
    /// All keys at the time of the call. An entry that is added or removed meanwhile may be missing, or be listed
    /// twice.
    /// </summary>
    public IReadOnlyList<byte[]> Keys()
    {
        var keys = new List<byte[]>();
        byte[]? previous = null;
        // When the key we stand on is deleted, the kernel starts again at the beginning. The bound keeps us from
        // walking for ever.
        for (int i = 0; i <= 2 * Definition.MaxEntries; i++)
        {
            byte[] next = new byte[Definition.KeySize];
            fixed (byte* p = previous, n = next)
            {
                int result = Call(BpfNative.BPF_MAP_GET_NEXT_KEY, p, n);
                if (result == -ErrnoNames.ENOENT)
                    break;
                if (result < 0)
                    throw Failed("BPF_MAP_GET_NEXT_KEY", result);
            }
            keys.Add(next);
            previous = next;
        }
        return keys;
    }

    public IReadOnlyList<TKey> Keys<TKey>()
        where TKey : unmanaged
    {
        CheckSize(sizeof(TKey), Definition.KeySize, nameof(TKey));
        return [.. Keys().Select(key => MemoryMarshal.Read<TKey>(key))];
    }

    public void Dispose() => Handle.Dispose();

    private int Call(int command, byte* key, byte* value)
    {
        bool held = false;
        try
        {
            // Closed meanwhile, the number could be another object's by the time of the call.
            Handle.DangerousAddRef(ref held);
            var attributes = new BpfNative.MapElement { MapFd = Handle.Fd, Key = key, ValueOrNextKey = value };
            return BpfNative.Bpf(command, ref attributes);
        }
        finally
        {
            if (held)
                Handle.DangerousRelease();
        }
    }

    private XdpException Failed(string command, int result, string? hint = null)
        => new($"bpf({command}, map \"{Name}\")", -result, hint ?? BpfObject.PrivilegeHint(-result));

    private string? UpdateHint(int errno) => errno switch
    {
        ErrnoNames.E2BIG or ErrnoNames.ENOSPC => $"The map is full: it takes {Definition.MaxEntries} entries",
        ErrnoNames.EOPNOTSUPP when Definition.Type == BpfMapType.XskMap =>
            "The value must be the descriptor of an AF_XDP socket",
        _ => null,
    };

    private void CheckSize(int actual, int expected, string parameter)
    {
        if (actual != expected)
            throw new ArgumentException($"Map '{Name}' takes {expected} bytes here, not {actual}.", parameter);
    }

    private static Span<byte> Bytes<T>(ref T value) where T : unmanaged
        => new(Unsafe.AsPointer(ref value), sizeof(T));

    /// <summary>
    /// The CPUs that the kernel has per-CPU memory for. On machines that can grow these are more than are online.
    /// </summary>
    private static class PossibleCpus
    {
        /// <summary>/sys/devices/system/cpu/possible reads "0-7", or "0,2-3".</summary>
        internal static int Count { get; } = Read();

        private static int Read()
        {
            string text = File.ReadAllText("/sys/devices/system/cpu/possible").Trim();
            int count = 0;
            foreach (string range in text.Split(','))
            {
                string[] ends = range.Split('-');
                count += ends.Length == 1 ? 1 : int.Parse(ends[1], null) - int.Parse(ends[0], null) + 1;
            }
            return count;
        }
    }
}

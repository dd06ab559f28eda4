using System.Runtime.InteropServices;

namespace Xdp.Sockets.Tests.Support;

/// <summary>A ring over ordinary memory, with the kernel's side of it in the test's hands.</summary>
internal sealed class FakeRing<T>
    where T : unmanaged
{
    private const int Cell = 16;

    // Producer, consumer and flags on cache lines of their own.
    private readonly uint[] _cells = GC.AllocateArray<uint>(3 * Cell, pinned: true);
    private readonly T[] _entries;

    internal FakeRing(int size, uint start = 0)
    {
        _entries = GC.AllocateArray<T>(size, pinned: true);
        Producer = Consumer = start;
    }

    internal RingMemory Memory => new(Address(0), Address(Cell), Address(2 * Cell),
        Marshal.UnsafeAddrOfPinnedArrayElement(_entries, 0), (uint)_entries.Length);

    internal uint Producer
    {
        get => Volatile.Read(ref _cells[0]);
        set => Volatile.Write(ref _cells[0], value);
    }

    internal uint Consumer
    {
        get => Volatile.Read(ref _cells[Cell]);
        set => Volatile.Write(ref _cells[Cell], value);
    }

    internal uint Flags
    {
        set => Volatile.Write(ref _cells[2 * Cell], value);
    }

    internal bool TryConsume(out T entry)
    {
        uint consumer = Consumer;
        if (consumer == Producer)
        {
            entry = default;
            return false;
        }
        entry = _entries[consumer & (_entries.Length - 1)];
        Consumer = unchecked(consumer + 1);
        return true;
    }

    internal bool TryProduce(T entry)
    {
        uint producer = Producer;
        if (unchecked(producer - Consumer) == _entries.Length)
            return false;
        _entries[producer & (_entries.Length - 1)] = entry;
        Producer = unchecked(producer + 1);
        return true;
    }

    private nint Address(int cell) => Marshal.UnsafeAddrOfPinnedArrayElement(_cells, cell);
}

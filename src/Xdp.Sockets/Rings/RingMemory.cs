namespace Xdp.Sockets;

/// <summary>
/// Where a ring lies: the addresses of its two indices, its flags and its entries. It is the kernel's mapping or, in a
/// test that plays the kernel, ordinary pinned memory.
/// </summary>
internal readonly struct RingMemory
{
    internal RingMemory(nint producer, nint consumer, nint flags, nint entries, uint size, object? owner = null)
    {
        if (!uint.IsPow2(size))
            throw new ArgumentOutOfRangeException(nameof(size), size, "A ring's size is a power of two.");
        Producer = producer;
        Consumer = consumer;
        Flags = flags;
        Entries = entries;
        Size = size;
        Owner = owner;
    }

    internal nint Producer { get; }

    internal nint Consumer { get; }

    internal nint Flags { get; }

    internal nint Entries { get; }

    /// <summary>Number of entries.</summary>
    internal uint Size { get; }

    /// <summary>What keeps the memory mapped for as long as it is reachable.</summary>
    internal object? Owner { get; }
}

using System.Runtime.CompilerServices;

namespace Xdp.Sockets;

/// <summary>
/// COMPLETION: the addresses of transmitted packets, exactly as they were submitted, in the order in which the device
/// freed them. Completed means that the kernel no longer reads the frame, not that anybody received it. In copy mode,
/// transmission stops while this ring is full. Check an address before use (<see cref="Umem.Contains"/>): some kernels
/// complete invalid descriptors too, and return the address as it was written.
/// </summary>
public sealed unsafe class CompletionRing : ConsumerRing
{
    internal CompletionRing(in RingMemory memory)
        : base(memory)
    {
    }

    /// <summary>A peeked entry. It must not be read once it is released.</summary>
    public ref readonly ulong this[uint index]
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => ref ((ulong*)EntryBase)[index & Mask];
    }

    /// <summary>Peeks, copies and releases up to as many entries as <paramref name="addresses"/> holds.</summary>
    /// <returns>How many were copied.</returns>
    public uint Take(Span<ulong> addresses)
    {
        uint count = Peek((uint)addresses.Length, out uint index);
        for (int i = 0; i < (int)count; i++)
            addresses[i] = this[unchecked(index + (uint)i)];
        Release(count);
        return count;
    }
}

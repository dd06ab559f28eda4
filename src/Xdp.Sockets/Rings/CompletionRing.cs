using System.Runtime.CompilerServices;

namespace Xdp.Sockets;

/// <summary>
/// COMPLETION: addresses of transmitted packets, exactly as they were submitted, in the order the device freed them. Completed
/// means that the kernel no longer reads the frame, not that anybody received it. In copy mode a full ring stops transmission.
/// Check the address before use (<see cref="Umem.Contains"/>): kernels that complete invalid descriptors return it as written.
/// </summary>
public sealed unsafe class CompletionRing : ConsumerRing
{
    internal CompletionRing(in RingMemory memory)
        : base(memory)
    {
    }

    /// <summary>A peeked entry; not to be read once released.</summary>
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

using System.Runtime.CompilerServices;

namespace Xdp.Sockets;

/// <summary>
/// FILL: the addresses of frames that the kernel may receive into. An address may point anywhere into its frame; the
/// kernel rounds it down. While the ring is empty every packet is dropped, and nothing wakes the application to tell it
/// so.
/// </summary>
public sealed unsafe class FillRing : ProducerRing
{
    internal FillRing(in RingMemory memory)
        : base(memory)
    {
    }

    /// <summary>A reserved entry, to be written before it is submitted.</summary>
    public ref ulong this[uint index]
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => ref ((ulong*)EntryBase)[index & Mask];
    }

    /// <summary>Reserves, writes and submits as many of <paramref name="addresses"/> as there is room for.</summary>
    /// <returns>How many, from the front.</returns>
    public uint Add(ReadOnlySpan<ulong> addresses)
    {
        uint count = Reserve((uint)addresses.Length, out uint index);
        for (int i = 0; i < (int)count; i++)
            this[unchecked(index + (uint)i)] = addresses[i];
        Submit(count);
        return count;
    }
}

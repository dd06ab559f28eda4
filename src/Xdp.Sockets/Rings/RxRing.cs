using System.Runtime.CompilerServices;

namespace Xdp.Sockets;

/// <summary>
/// RX: packets received. A frame is the application's from <see cref="ConsumerRing.Peek"/> until it puts the frame on
/// <see cref="FillRing"/> again; releasing the entry gives back the slot, not the frame.
/// </summary>
public sealed unsafe class RxRing : ConsumerRing
{
    internal RxRing(in RingMemory memory)
        : base(memory)
    {
    }

    /// <summary>A peeked entry; not to be read once released.</summary>
    public ref readonly XdpDescriptor this[uint index]
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => ref ((XdpDescriptor*)EntryBase)[index & Mask];
    }
}

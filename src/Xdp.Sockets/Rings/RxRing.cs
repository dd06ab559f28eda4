using System.Runtime.CompilerServices;

namespace Xdp.Sockets;

/// <summary>
/// RX: received packets. A frame is the application's from <see cref="ConsumerRing.Peek"/> until the application puts
/// it on <see cref="FillRing"/> again. Releasing the entry gives back the slot of the ring, not the frame.
/// </summary>
public sealed unsafe class RxRing : ConsumerRing
{
    internal RxRing(in RingMemory memory)
        : base(memory)
    {
    }

    /// <summary>A peeked entry. It must not be read once it is released.</summary>
    public ref readonly XdpDescriptor this[uint index]
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => ref ((XdpDescriptor*)EntryBase)[index & Mask];
    }
}

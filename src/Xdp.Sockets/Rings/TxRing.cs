using System.Runtime.CompilerServices;

namespace Xdp.Sockets;

/// <summary>
/// TX: packets to send. A frame is the kernel's from <see cref="ProducerRing.Submit"/> until its address comes back on
/// <see cref="CompletionRing"/>. The kernel drops a descriptor that is invalid (outside the UMEM, across a frame's end,
/// unknown options) and counts it in <see cref="XskStatistics.TxInvalidDescriptors"/>. Some versions complete it
/// (6.18.44), others do not.
/// </summary>
public sealed unsafe class TxRing : ProducerRing
{
    internal TxRing(in RingMemory memory)
        : base(memory)
    {
    }

    /// <summary>
    /// A reserved entry. Write all of its fields before it is submitted, because it still holds those of an older
    /// packet.
    /// </summary>
    public ref XdpDescriptor this[uint index]
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => ref ((XdpDescriptor*)EntryBase)[index & Mask];
    }
}

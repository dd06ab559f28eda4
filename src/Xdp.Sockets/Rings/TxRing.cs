using System.Runtime.CompilerServices;

namespace Xdp.Sockets;

/// <summary>
/// TX: packets to send. A frame stays the kernel's from <see cref="ProducerRing.Submit"/> until its address comes back
/// through <see cref="CompletionRing"/>. The kernel drops an invalid descriptor (outside the UMEM, across a frame's end,
/// unknown options) and counts it in <see cref="XskStatistics.TxInvalidDescriptors"/>; it completes it on some versions
/// (6.18.44) and not on others.
/// </summary>
public sealed unsafe class TxRing : ProducerRing
{
    internal TxRing(in RingMemory memory)
        : base(memory)
    {
    }

    /// <summary>A reserved entry, to be written whole before it is submitted: it still holds an older packet's values.</summary>
    public ref XdpDescriptor this[uint index]
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => ref ((XdpDescriptor*)EntryBase)[index & Mask];
    }
}

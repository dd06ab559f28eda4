using System.Runtime.CompilerServices;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets;

/// <summary>
/// The application's side of a ring that it fills and the kernel empties (FILL and TX).
/// <para>
/// Call order: <see cref="Reserve"/>, write the entries, <see cref="Submit"/>. Only one thread may call at a time, the
/// one that holds the queue; the kernel is the only other party. Indices are 32-bit numbers that run on and wrap at
/// 2^32: entry <c>i</c> lies in slot <c>i &amp; (size - 1)</c>. Nothing here allocates or makes a system call.
/// </para>
/// </summary>
public abstract unsafe class ProducerRing
{
    // Shared with the kernel.
    private uint* _producer;        // written here (store-release), read by the kernel
    private uint* _consumer;        // written by the kernel, read here (load-acquire)
    private uint* _flags;           // written by the kernel

    // Private to the caller that holds the queue.
    private uint _reserved;         // one past the last entry reserved
    private uint _submitted;        // what *_producer holds
    private uint _limit;            // kernel's consumer as last seen, plus the size: reservations end here
    private uint _size;

    // Keeps the mapping alive where somebody holds the ring but not the socket.
    private object? _owner;

    private protected ProducerRing(in RingMemory memory)
    {
        _owner = memory.Owner;
        _producer = (uint*)memory.Producer;
        _consumer = (uint*)memory.Consumer;
        _flags = (uint*)memory.Flags;
        EntryBase = (void*)memory.Entries;
        _size = memory.Size;
        Mask = memory.Size - 1;
        _reserved = _submitted = *_producer;
        _limit = unchecked(Volatile.Read(ref *_consumer) + _size);
    }

    private protected void* EntryBase { get; private set; }

    private protected uint Mask { get; private set; }

    /// <summary>Number of entries; 0 once the socket is closed.</summary>
    public uint Size => _size;

    /// <summary>Entries submitted that the kernel has not consumed yet, as of now.</summary>
    public uint Pending => unchecked(_submitted - Volatile.Read(ref *_consumer));

    /// <summary>
    /// The kernel sleeps, and wants a system call to go on. There must be a full barrier between <see cref="Submit"/>
    /// and reading this.
    /// </summary>
    public bool NeedsWakeup => (Volatile.Read(ref *_flags) & IfXdp.XDP_RING_NEED_WAKEUP) != 0;

    /// <summary>Entries that <see cref="Reserve"/> would grant right now. Reads the kernel's index.</summary>
    public uint Free
    {
        get
        {
            _limit = unchecked(Volatile.Read(ref *_consumer) + _size);
            return unchecked(_limit - _reserved);
        }
    }

    /// <summary>The kernel's index: how many entries it has consumed since the ring was made, modulo 2^32.</summary>
    internal uint KernelConsumer => Volatile.Read(ref *_consumer);

    /// <summary>Reserves up to <paramref name="max"/> entries.</summary>
    /// <param name="max">Entries wanted.</param>
    /// <param name="index">The first of them; the next ones follow, wrapping at 2^32.</param>
    /// <returns>Entries granted, 0 when the ring is full.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public uint Reserve(uint max, out uint index)
    {
        unchecked
        {
            uint free = _limit - _reserved;
            if (free < max)
            {
                _limit = Volatile.Read(ref *_consumer) + _size;
                free = _limit - _reserved;
                if (free < max)
                    max = free;
            }
            index = _reserved;
            _reserved += max;
            return max;
        }
    }

    /// <summary>
    /// Hands the oldest <paramref name="count"/> reserved entries to the kernel. They must have been written.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Submit(uint count)
    {
        unchecked
        {
            if (count > _reserved - _submitted)
                ThrowHelper.MoreThanReserved();
            _submitted += count;
            Volatile.Write(ref *_producer, _submitted);
        }
    }

    /// <summary>Takes back the newest <paramref name="count"/> reserved entries that have not been submitted.</summary>
    public void Cancel(uint count)
    {
        unchecked
        {
            if (count > _reserved - _submitted)
                ThrowHelper.MoreThanReserved();
            _reserved -= count;
        }
    }

    /// <summary>
    /// For when the mapping is about to go. From here on the ring has neither room nor entries, and late calls touch
    /// harmless memory.
    /// </summary>
    internal void Detach()
    {
        _producer = ClosedRing.Written;
        _consumer = ClosedRing.Zero;
        _flags = ClosedRing.Zero;
        EntryBase = ClosedRing.Entry;
        _owner = null;
        _reserved = _submitted = _limit = _size = Mask = 0;
    }
}

using System.Runtime.CompilerServices;

namespace Xdp.Sockets;

/// <summary>
/// The application's side of a ring that the kernel fills and it empties (RX and COMPLETION).
/// <para>
/// Call order: <see cref="Peek"/>, read the entries, <see cref="Release"/>. Only one thread may call at a time, the one
/// that holds the queue; the kernel is the only other party. Indices are 32-bit numbers that run on and wrap at 2^32:
/// entry <c>i</c> lies in slot <c>i &amp; (size - 1)</c>. Nothing here allocates or makes a system call.
/// </para>
/// </summary>
public abstract unsafe class ConsumerRing
{
    // Shared with the kernel.
    private uint* _producer;        // written by the kernel, read here (load-acquire)
    private uint* _consumer;        // written here (store-release), read by the kernel

    // Private to the caller that holds the queue.
    private uint _available;        // the kernel's producer as last seen
    private uint _peeked;           // one past the last entry peeked
    private uint _released;         // what *_consumer holds

    // Keeps the mapping alive where somebody holds the ring but not the socket.
    private object? _owner;

    private protected ConsumerRing(in RingMemory memory)
    {
        _owner = memory.Owner;
        _producer = (uint*)memory.Producer;
        _consumer = (uint*)memory.Consumer;
        EntryBase = (void*)memory.Entries;
        Size = memory.Size;
        Mask = memory.Size - 1;
        _peeked = _released = *_consumer;
        _available = Volatile.Read(ref *_producer);
    }

    private protected void* EntryBase { get; private set; }

    private protected uint Mask { get; private set; }

    /// <summary>Number of entries; 0 once the socket is closed.</summary>
    public uint Size { get; private set; }

    /// <summary>Entries that <see cref="Peek"/> would grant right now. Reads the kernel's index.</summary>
    public uint Available
    {
        get
        {
            _available = Volatile.Read(ref *_producer);
            return unchecked(_available - _peeked);
        }
    }

    /// <summary>Takes a look at up to <paramref name="max"/> entries that the kernel has produced.</summary>
    /// <param name="max">Entries wanted.</param>
    /// <param name="index">The first of them; the next ones follow, wrapping at 2^32.</param>
    /// <returns>Entries granted, 0 when the ring is empty.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public uint Peek(uint max, out uint index)
    {
        unchecked
        {
            uint available = _available - _peeked;
            if (available < max)
            {
                _available = Volatile.Read(ref *_producer);
                available = _available - _peeked;
                if (available < max)
                    max = available;
            }
            index = _peeked;
            _peeked += max;
            return max;
        }
    }

    /// <summary>
    /// Gives the oldest <paramref name="count"/> peeked entries back to the kernel. They must not be read again.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Release(uint count)
    {
        unchecked
        {
            if (count > _peeked - _released)
                ThrowHelper.MoreThanPeeked();
            _released += count;
            Volatile.Write(ref *_consumer, _released);
        }
    }

    /// <summary>
    /// Takes back the peek of the newest <paramref name="count"/> entries that have not been released.
    /// </summary>
    public void Cancel(uint count)
    {
        unchecked
        {
            if (count > _peeked - _released)
                ThrowHelper.MoreThanPeeked();
            _peeked -= count;
        }
    }

    /// <summary>
    /// For when the mapping is about to go. From here on the ring is empty, and late calls touch harmless memory.
    /// </summary>
    internal void Detach()
    {
        _producer = ClosedRing.Zero;
        _consumer = ClosedRing.Written;
        EntryBase = ClosedRing.Entry;
        _owner = null;
        _available = _peeked = _released = Size = Mask = 0;
    }
}

namespace Xdp.TcpLite;

/// <summary>
/// The memory that a stack's connections receive into: what follows when it runs short, and the reassembly queues that
/// are lent. Memory counts as it is held, so a frame with one byte in it is a whole frame.
/// </summary>
/// <remarks>
/// <para>
/// Windows promise more than there is, since most connections are idle: each may be a quarter of what is free, however
/// many there are. When memory runs short, first what is ahead of a gap has to go. It may hold half of what data in
/// order leaves, and the largest queue is pruned for the next segment. Under pressure windows are not renewed beyond
/// <see cref="TcpStackOptions.ReceiveMinimum"/>, but what was promised is still taken. Only above the high mark is it
/// refused, and never up to the minimum, whatever the budget says. An idle connection holds nothing, and so takes
/// nothing from others.
/// </para>
/// <para>
/// What runs short is the heap. Frames are used while they are plenty, and the heap after them. Its budget is shared
/// with the other stacks of the process and with what applications write. So its use is read off the pool: what others
/// hold is missing here, too.
/// </para>
/// </remarks>
internal sealed class ReceiveMemory(
    TcpStackOptions options, FramePool frames, BlockPool blocks, TcpStackCounters counters)
{
    /// <summary>One connection's window is at most this fraction of the memory that is free.</summary>
    private const int WindowShare = 4;

    /// <summary>
    /// Queues that are looked at to find a large one. Among a few that follow each other, one is about as large as the
    /// largest of all; to look at all of them would cost a flood's victims the more, the larger the flood.
    /// </summary>
    private const int Sample = 16;

    /// <summary>Queues that are pruned for one payload, at most. It bounds the work.</summary>
    private const int MostPrunedAtOnce = 8;

    // In bytes.
    private readonly long _low = Mark(options.MemoryLow, blocks);
    private readonly long _pressure = Mark(options.MemoryPressure, blocks);
    private readonly long _high = Mark(options.MemoryHigh, blocks);

    private readonly LendingPool<ReassemblyQueue> _spare = new(ReassemblyQueue.MostSpare);
    private readonly List<ReassemblyQueue> _lent = [];
    private int _next;
    private bool _isUnderPressure;

    internal FramePool Frames { get; } = frames;

    internal BlockPool Blocks { get; } = blocks;

    /// <summary>Bytes of memory that the lent queues hold.</summary>
    internal long Ahead { get; private set; }

    /// <summary>
    /// Memory is short. It begins at <see cref="TcpStackOptions.MemoryPressure"/> and ends below
    /// <see cref="TcpStackOptions.MemoryLow"/>, as with tcp_mem in Linux.
    /// </summary>
    internal bool IsUnderPressure
    {
        get
        {
            long used = Blocks.InUseBytes;
            if (_isUnderPressure)
            {
                _isUnderPressure = used >= _low;
            }
            else if (used >= _pressure)
            {
                _isUnderPressure = true;
                counters.MemoryPressures++;
            }
            return _isUnderPressure;
        }
    }

    private static long Mark(double fraction, BlockPool blocks) => (long)Math.Ceiling(fraction * blocks.Budget);

    // ---- windows

    /// <summary>How much of the room in a connection's receive buffer may be promised to its peer.</summary>
    /// <param name="room">In its receive buffer.</param>
    /// <param name="held">Bytes in order that it holds already, also those that its host has taken.</param>
    /// <param name="segment">A full segment, less than which is no use.</param>
    internal long Promise(long room, long held, int segment)
    {
        long most = IsUnderPressure
            ? Minimum(segment) - held
            : Math.Max((Blocks.Budget - Blocks.InUseBytes) / WindowShare, Minimum(segment));
        return Math.Min(room, most);
    }

    private int Minimum(int segment) => Math.Max(options.ReceiveMinimum, segment);

    // ---- payload in order

    /// <summary>A block for payload in order, or null when there is no memory for it.</summary>
    /// <param name="length">Bytes of payload.</param>
    /// <param name="held">Bytes in order that the connection holds already.</param>
    internal Block? TryTake(int length, long held)
    {
        Block? block = IsFull ? null : Take(length);
        for (int i = 0; block is null && i < MostPrunedAtOnce && PruneLargest(); i++)
            block = IsFull ? null : Take(length);
        return block ?? (held == 0 || held + length <= options.ReceiveMinimum ? Blocks.Take(length) : null);
    }

    private bool IsFull => Blocks.InUseBytes >= _high;

    /// <summary>A payload can exceed a block only when it came in one that is larger still.</summary>
    private Block? Take(int length) => length <= BlockPool.BlockSize ? Blocks.TryTake() : Blocks.Take(length);

    /// <summary>
    /// A frame may be kept although payload should move to the heap: there is no heap memory, and frames enough to
    /// receive into.
    /// </summary>
    internal bool MayKeepFrameInstead => 4L * (Frames.ApplicationCount + Frames.KeptAhead) < 3L * Frames.FrameCount;

    // ---- what is ahead of a gap

    /// <summary>Lends a queue to a connection that has a gap.</summary>
    internal ReassemblyQueue Borrow()
    {
        ReassemblyQueue queue = _spare.Borrow();
        queue.Place = _lent.Count;
        _lent.Add(queue);
        return queue;
    }

    /// <summary>Takes back a queue that is empty.</summary>
    internal void Return(ReassemblyQueue queue)
    {
        ReassemblyQueue last = _lent[^1];
        _lent[queue.Place] = last;
        last.Place = queue.Place;
        _lent.RemoveAt(_lent.Count - 1);
        queue.DropLargeArrays();
        _spare.Return(queue);
    }

    /// <summary>A lent queue holds more memory, or less.</summary>
    internal void OnAhead(int bytes) => Ahead += bytes;

    /// <summary>
    /// Makes room for a segment ahead of a gap, at the cost of the largest queue. False when there is no room to be
    /// had.
    /// </summary>
    internal bool TryMakeRoomAhead(int bytes)
    {
        for (int i = 0; i < MostPrunedAtOnce; i++)
        {
            // The frames among it make no difference: they could have been blocks.
            long leftByOthers = Blocks.Budget - Math.Max(0, Blocks.InUseBytes - Ahead);
            if (Ahead + bytes <= leftByOthers / 2)
                return true;
            if (!PruneLargest())
                return false;
        }
        return false;
    }

    /// <summary>A queue has dropped payload to make room.</summary>
    internal void OnPruned(long bytes)
    {
        counters.OutOfOrderPrunes++;
        counters.OutOfOrderPrunedBytes += bytes;
    }

    /// <summary>Prunes the largest of the next few queues. False when none of them has anything to spare.</summary>
    private bool PruneLargest()
    {
        ReassemblyQueue? largest = null;
        for (int i = Math.Min(Sample, _lent.Count); i > 0; i--)
        {
            _next = _next < _lent.Count - 1 ? _next + 1 : 0;
            ReassemblyQueue queue = _lent[_next];
            if (largest is null || queue.Memory > largest.Memory)
                largest = queue;
        }
        // A single page, or two frames, are not worth the bytes in them.
        return largest is { Memory: > BlockPool.BlockSize } && largest.Prune(this);
    }
}

namespace Xdp.TcpLite;

/// <summary>
/// A lock-free last-in first-out stack of a pool's free blocks: any thread pushes and pops. One 64-bit word holds
/// the top's index + 1 (low 24 bits) and a tag that changes with every pop (40 bits: it takes days at ten million pops
/// a second to come round), so that a top which was popped and pushed again in between is not mistaken for an
/// unchanged one.
/// </summary>
internal struct FreeStack
{
    private const int IndexBits = 24;
    private const ulong IndexMask = (1UL << IndexBits) - 1;
    private const ulong OneTag = 1UL << IndexBits;

    internal const int MaxBlocks = (int)IndexMask - 1;

    private ulong _top;
    private int _count;

    /// <summary>Blocks on the stack; pushes and pops under way may or may not be counted.</summary>
    internal int Count => Volatile.Read(ref _count);

    internal void Push(Block block)
    {
        ulong top = Volatile.Read(ref _top);
        while (true)
        {
            block.NextFree = (int)(top & IndexMask);
            ulong next = (top & ~IndexMask) | (uint)(block.Index + 1);
            ulong seen = Interlocked.CompareExchange(ref _top, next, top);
            if (seen == top)
                break;
            top = seen;
        }
        Interlocked.Increment(ref _count);
    }

    /// <param name="blocks">The pool's blocks by index. A field, since a growing pool replaces it before it pushes new blocks.</param>
    /// <param name="reserve">Blocks that must be left on the stack.</param>
    internal Block? TryPop(ref Block[] blocks, int reserve)
    {
        // A block is counted after it has been pushed: who has taken one off the count will find one.
        if (Interlocked.Decrement(ref _count) < reserve)
        {
            Interlocked.Increment(ref _count);
            return null;
        }
        ulong top = Volatile.Read(ref _top);
        while (true)
        {
            Block block = Volatile.Read(ref blocks)[(int)(top & IndexMask) - 1];
            ulong next = ((top + OneTag) & ~IndexMask) | (uint)block.NextFree;
            ulong seen = Interlocked.CompareExchange(ref _top, next, top);
            if (seen == top)
                return block;
            top = seen;
        }
    }
}

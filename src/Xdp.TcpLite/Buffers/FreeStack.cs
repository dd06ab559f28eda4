namespace Xdp.TcpLite;

/// <summary>
/// The free blocks of a pool, last in first out and lock-free: any thread pushes and pops.
/// </summary>
/// <remarks>
/// One 64-bit word holds the top's index + 1 (24 bits) and a tag (40 bits) that changes with every pop. Without the
/// tag, a thread that pops could not tell a top that never left from one that others have popped and pushed again. At
/// ten million pops a second, it takes more than a day until the tag comes round.
/// </remarks>
internal struct FreeStack
{
    private const int IndexBits = 24;
    private const ulong IndexMask = (1UL << IndexBits) - 1;
    private const ulong OneTag = 1UL << IndexBits;

    internal const int MaxBlocks = (int)IndexMask - 1;

    private ulong _top;
    private int _count;

    /// <summary>Blocks on the stack. Pushes and pops that are under way may or may not be counted.</summary>
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

    /// <param name="blocks">
    /// The pool's blocks by index. By reference, since a pool that grows replaces the array before it pushes the new
    /// blocks. A place once used is never null: the top that was read may have left the stack, and even the pool.
    /// </param>
    /// <param name="reserve">Blocks that must be left on the stack.</param>
    internal Block? TryPop(ref Block[] blocks, int reserve)
    {
        // A block is counted after it has been pushed. So whoever has taken one off the count finds one.
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

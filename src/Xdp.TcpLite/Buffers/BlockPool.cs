using System.Buffers;
using System.Runtime.InteropServices;

namespace Xdp.TcpLite;

/// <summary>
/// Heap memory for what does not stay in UMEM frames: blocks of one size, which are recycled. New ones are made in
/// slabs, on demand, and <see cref="Trim"/> gives slabs back that nobody has needed for a minute. Any thread.
/// </summary>
/// <remarks>
/// A slab can go only as a whole, when all of its blocks are free. So <see cref="Trim"/> also sorts the free blocks:
/// those of the fullest slabs are handed out first from then on, and the others have time to become empty.
/// </remarks>
public sealed class BlockPool
{
    /// <summary>Bytes a block: a page, which holds two full segments of Ethernet.</summary>
    public const int BlockSize = 4096;

    /// <summary>
    /// 128 KiB a slab. In larger ones a single block in use would keep more memory; smaller ones would be made more
    /// often.
    /// </summary>
    internal const int BlocksPerSlab = 32;

    /// <summary>Free blocks that <see cref="Trim"/> leaves, besides a quarter of what is in use.</summary>
    internal const int FewBlocks = 2 * BlocksPerSlab;

    private static readonly TimeSpan s_quiet = TimeSpan.FromMinutes(1);

    /// <summary>
    /// Stands where the blocks of a released slab were, for a thread that has seen one of them as the top of the free
    /// stack and has been overtaken since.
    /// </summary>
    private readonly Block _gone;

    private readonly Lock _growing = new();
    private readonly int _maxBlocks;

    /// <summary>By index, which says the slab: see <see cref="SlabOf"/>.</summary>
    private Block[] _blocks = [];
    private FreeStack _free;

    /// <summary>Blocks that exist.</summary>
    private int _made;

    /// <summary>Free blocks that <see cref="Trim"/> has in its hands.</summary>
    private int _aside;
    private int _oversized;
    private long _oversizedBytes;

    // ---- below: under the lock

    /// <summary>Of each slab, how many blocks it has; 0 where it was released.</summary>
    private readonly List<int> _slabs = [];
    private bool _hasGrown;
    private Instant _quietSince;

    /// <param name="budget">Bytes beyond which <see cref="TryTake()"/> refuses. <see cref="Take()"/> goes on.</param>
    public BlockPool(long budget = 256L << 20)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(budget);
        _maxBlocks = (int)Math.Min(budget / BlockSize, FreeStack.MaxBlocks);
        _gone = new Block(this, -1, [], 0, 0);
    }

    /// <summary>When set, returned blocks are overwritten with a pattern, to show up use after return.</summary>
    public bool Poison { get; init; }

    /// <summary>Blocks that have been taken and not returned, oversized ones included.</summary>
    public int InUse => BlocksInUse + Volatile.Read(ref _oversized);

    /// <summary>Bytes of memory that the pool holds for its blocks, free ones included.</summary>
    public long HeldBytes => (long)Volatile.Read(ref _made) * BlockSize + Volatile.Read(ref _oversizedBytes);

    /// <summary>Bytes of memory in blocks that have been taken and not returned.</summary>
    internal long InUseBytes => (long)BlocksInUse * BlockSize + Volatile.Read(ref _oversizedBytes);

    /// <summary>Bytes beyond which <see cref="TryTake()"/> refuses.</summary>
    internal long Budget => (long)_maxBlocks * BlockSize;

    private int BlocksInUse => Volatile.Read(ref _made) - _free.Count - Volatile.Read(ref _aside);

    private static int SlabOf(Block block) => block.Index / BlocksPerSlab;

    /// <summary>A block, or null when the budget is used up. For memory whose use a peer can drive.</summary>
    public Block? TryTake() => TryTake(_maxBlocks);

    /// <summary>A block, beyond the budget if need be. For writers, who cannot be refused.</summary>
    public Block Take() => TryTake(FreeStack.MaxBlocks) ?? TakeOversized(BlockSize);

    /// <summary>A block of at least <paramref name="capacity"/> bytes.</summary>
    public Block Take(int capacity) => capacity <= BlockSize ? Take() : TakeOversized(capacity);

    private Block? TryTake(int limit)
    {
        if (BlocksInUse >= limit)
            return null;
        Block? block = _free.TryPop(ref _blocks, reserve: 0) ?? Grow(limit);
        if (block is null)
            return null;
        block.Reset();
        block.State = FrameState.Application;
        block.Generation++;
        return block;
    }

    private Block TakeOversized(int capacity)
    {
        byte[] array = ArrayPool<byte>.Shared.Rent(capacity);
        Interlocked.Increment(ref _oversized);
        Interlocked.Add(ref _oversizedBytes, array.Length);
        return new Block(this, -1, array, 0, array.Length) { State = FrameState.Application };
    }

    private Block? Grow(int limit)
    {
        lock (_growing)
        {
            Block? block = _free.TryPop(ref _blocks, reserve: 0);
            int more = Math.Min(BlocksPerSlab, limit - _made);
            if (block is not null || more <= 0)
                return block;
            int slab = FindRoomForSlab();
            int first = slab * BlocksPerSlab;
            byte[] memory = GC.AllocateUninitializedArray<byte>(more * BlockSize, pinned: true);
            for (int i = 0; i < more; i++)
                _blocks[first + i] = new Block(this, first + i, memory, i * BlockSize, BlockSize);
            _slabs[slab] = more;
            _hasGrown = true;
            Volatile.Write(ref _made, _made + more);
            for (int i = 1; i < more; i++)
                _free.Push(_blocks[first + i]);
            return _blocks[first];
        }
    }

    /// <summary>The place of a slab that was released, or a new one.</summary>
    private int FindRoomForSlab()
    {
        int slab = _slabs.IndexOf(0);
        if (slab < 0)
        {
            slab = _slabs.Count;
            _slabs.Add(0);
        }
        int end = (slab + 1) * BlocksPerSlab;
        if (end > _blocks.Length)
        {
            var blocks = new Block[Math.Max(end, 2 * _blocks.Length)];
            _blocks.CopyTo(blocks, 0);
            Volatile.Write(ref _blocks, blocks);
        }
        return slab;
    }

    internal void Return(Block block)
    {
        if (block.State == FrameState.Free)
            FramePool.FailFast($"heap block {block.Index} returned twice");
        block.State = FrameState.Free;
        if (Poison)
            block.Span.Fill(FramePool.PoisonByte);
        if (block.Index >= 0)
        {
            _free.Push(block);
            return;
        }
        Interlocked.Decrement(ref _oversized);
        if (MemoryMarshal.TryGetArray((ReadOnlyMemory<byte>)block.AllMemory, out ArraySegment<byte> array))
        {
            Interlocked.Add(ref _oversizedBytes, -array.Array!.Length);
            ArrayPool<byte>.Shared.Return(array.Array);
        }
    }

    // ---- giving back

    /// <summary>
    /// Lets go of slabs when for a minute the pool has not grown and has had many more blocks than were in use. What
    /// it lets go of is free for the garbage collector. To be called every few seconds, by any thread, best not by one
    /// that serves connections: where there is much to release, it takes a millisecond or a few.
    /// </summary>
    /// <returns>Bytes that were let go of.</returns>
    public long Trim(Instant now)
    {
        lock (_growing)
        {
            int inUse = BlocksInUse;
            int spare = _made - inUse - (inUse / 4 + FewBlocks);
            if (_hasGrown || spare < BlocksPerSlab)
            {
                _hasGrown = false;
                _quietSince = now;
                return 0;
            }
            if (now - _quietSince < s_quiet)
                return 0;
            _quietSince = now;
            return (long)Release(spare) * BlockSize;
        }
    }

    /// <returns>How many blocks have gone.</returns>
    private int Release(int most)
    {
        // Whoever finds the stack empty meanwhile goes to grow the pool, and waits there until this is done.
        int[] freeOf = new int[_slabs.Count];
        var free = new List<Block>(_free.Count);
        while (_free.TryPop(ref _blocks, reserve: 0) is { } block)
        {
            Volatile.Write(ref _aside, _aside + 1);
            free.Add(block);
            freeOf[SlabOf(block)]++;
        }
        int released = 0;
        for (int slab = 0; slab < freeOf.Length; slab++)
        {
            int count = _slabs[slab];
            if (count == 0 || freeOf[slab] < count || released + count > most)
                continue;
            Array.Fill(_blocks, _gone, slab * BlocksPerSlab, count);
            _slabs[slab] = 0;
            released += count;
        }
        Volatile.Write(ref _made, _made - released);
        Volatile.Write(ref _aside, _aside - released);
        free.RemoveAll(block => _slabs[SlabOf(block)] == 0);
        // The last ones on the stack are the first to leave it: those whose slabs have the fewest free blocks.
        free.Sort((a, b) => freeOf[SlabOf(b)] - freeOf[SlabOf(a)]);
        foreach (Block block in free)
        {
            _free.Push(block);
            Volatile.Write(ref _aside, _aside - 1);
        }
        return released;
    }
}

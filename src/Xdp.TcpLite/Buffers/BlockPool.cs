using System.Buffers;
using System.Runtime.InteropServices;

namespace Xdp.TcpLite;

/// <summary>
/// Heap memory for what does not stay in UMEM frames: blocks of one size, which are recycled. New ones are made in
/// slabs, on demand. Any thread.
/// </summary>
public sealed class BlockPool
{
    /// <summary>Bytes a block: a page, which holds two full segments of Ethernet.</summary>
    public const int BlockSize = 4096;

    private const int BlocksPerSlab = 64;

    private readonly Lock _growing = new();
    private readonly int _maxBlocks;
    private Block[] _blocks = [];
    private FreeStack _free;
    private int _oversized;

    /// <param name="budget">Bytes beyond which <see cref="TryTake()"/> refuses. <see cref="Take()"/> goes on.</param>
    public BlockPool(long budget = 256L << 20)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(budget);
        _maxBlocks = (int)Math.Min(budget / BlockSize, FreeStack.MaxBlocks);
    }

    /// <summary>When set, returned blocks are overwritten with a pattern, to show up use after return.</summary>
    public bool Poison { get; init; }

    /// <summary>Blocks that have been taken and not returned, oversized ones included.</summary>
    public int InUse => Volatile.Read(ref _blocks).Length - _free.Count + Volatile.Read(ref _oversized);

    /// <summary>A block, or null when the budget is used up. For memory whose use a peer can drive.</summary>
    public Block? TryTake() => TryTake(_maxBlocks);

    /// <summary>
    /// A block, or null when half of the budget is used up. For what may be dropped without harm, so that it leaves
    /// room for the rest.
    /// </summary>
    internal Block? TryTakeSpare() => 2L * InUse < _maxBlocks ? TryTake() : null;

    /// <summary>A block, beyond the budget if need be. For writers, who cannot be refused.</summary>
    public Block Take() => TryTake(FreeStack.MaxBlocks) ?? TakeOversized(BlockSize);

    /// <summary>A block of at least <paramref name="capacity"/> bytes.</summary>
    public Block Take(int capacity) => capacity <= BlockSize ? Take() : TakeOversized(capacity);

    private Block? TryTake(int limit)
    {
        if (Volatile.Read(ref _blocks).Length - _free.Count >= limit)
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
        Interlocked.Increment(ref _oversized);
        byte[] array = ArrayPool<byte>.Shared.Rent(capacity);
        return new Block(this, -1, array, 0, array.Length) { State = FrameState.Application };
    }

    private Block? Grow(int limit)
    {
        lock (_growing)
        {
            Block? block = _free.TryPop(ref _blocks, reserve: 0);
            int have = _blocks.Length;
            int more = Math.Min(BlocksPerSlab, limit - have);
            if (block is not null || more <= 0)
                return block;
            byte[] slab = GC.AllocateUninitializedArray<byte>(more * BlockSize, pinned: true);
            var blocks = new Block[have + more];
            _blocks.CopyTo(blocks, 0);
            for (int i = 0; i < more; i++)
                blocks[have + i] = new Block(this, have + i, slab, i * BlockSize, BlockSize);
            Volatile.Write(ref _blocks, blocks);
            for (int i = 1; i < more; i++)
                _free.Push(blocks[have + i]);
            return blocks[have];
        }
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
            ArrayPool<byte>.Shared.Return(array.Array!);
    }
}

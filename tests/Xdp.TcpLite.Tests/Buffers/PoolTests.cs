using System.Runtime.InteropServices;
namespace Xdp.TcpLite.Tests;

public class PoolTests
{
    private const int FrameSize = 2048;

    private static FramePool MakeFrames(int count, int reserve = 0, bool poison = false) =>
        new(GC.AllocateUninitializedArray<byte>(count * FrameSize, pinned: true), FrameSize, count, reserve)
        {
            Poison = poison,
        };

    /// <summary>Every free frame once, and all of them: the set, not the count.</summary>
    private static void AssertAllFree(FramePool pool)
    {
        Assert.Equal(pool.FrameCount, pool.FreeCount);
        Assert.Equal(pool.FrameCount, pool.CountByState()[(int)FrameState.Free]);
        var seen = new HashSet<int>();
        var taken = new List<Block>();
        while (pool.TryTakeForFill() is { } frame)
        {
            Assert.True(seen.Add(frame.Index), $"frame {frame.Index} twice");
            taken.Add(frame);
        }
        Assert.Equal(pool.FrameCount, seen.Count);
        foreach (Block frame in taken)
        {
            pool.Received(frame);
            frame.Return();
        }
    }

    /// <summary>Runs <paramref name="body"/> on several threads at once; the first failure is thrown.</summary>
    private static void InParallel(int threads, Action<int> body)
    {
        using var start = new Barrier(threads);
        Exception? failure = null;
        Thread[] all = [.. Enumerable.Range(0, threads).Select(i => new Thread(() =>
        {
            try
            {
                start.SignalAndWait();
                body(i);
            }
            catch (Exception e)
            {
                Interlocked.CompareExchange(ref failure, e, null);
            }
        }))];
        foreach (Thread thread in all)
            thread.Start();
        foreach (Thread thread in all)
            thread.Join();
        if (failure is not null)
            throw new AggregateException(failure);
    }

    [Theory]
    [InlineData(3)]
    [InlineData(64)]
    public void FramePool_WritersOnManyThreads_NeverShareAFrame(int count)
    {
        FramePool pool = MakeFrames(count);
        int[] holders = new int[count];
        InParallel(4, thread =>
        {
            var random = new Random(thread);
            var mine = new Stack<Block>();
            for (int i = 0; i < 30_000; i++)
            {
                if (random.Next(2) == 0 && pool.TryTakeForWriting() is { } frame)
                {
                    Assert.Equal(0, Interlocked.Exchange(ref holders[frame.Index], thread + 1));
                    Assert.Equal(FramePool.PayloadStart, frame.Start);
                    Assert.Equal(0, frame.Length);
                    Assert.Null(frame.Next);
                    frame.Append([(byte)thread]);
                    mine.Push(frame);
                }
                else if (mine.TryPop(out Block? last))
                {
                    Assert.Equal((byte)thread, last.Bytes[0]);
                    Assert.Equal(thread + 1, Interlocked.Exchange(ref holders[last.Index], 0));
                    last.Return();
                }
            }
            foreach (Block frame in mine)
            {
                Interlocked.Exchange(ref holders[frame.Index], 0);
                frame.Return();
            }
        });
        AssertAllFree(pool);
    }

    [Fact]
    public void FramePool_TurnReceivesWhileApplicationReturns_FramesAddUp()
    {
        FramePool pool = MakeFrames(32, poison: true);
        var delivered = new System.Collections.Concurrent.ConcurrentQueue<Block>();
        bool done = false;
        InParallel(3, thread =>
        {
            if (thread == 0)
            {
                var inFill = new Queue<Block>();
                for (int i = 0; i < 50_000; i++)
                {
                    while (inFill.Count < 8 && pool.TryTakeForFill() is { } free)
                        inFill.Enqueue(free);
                    if (!inFill.TryDequeue(out Block? frame))
                        continue;
                    pool.Received(frame);
                    frame.Start = 100;
                    frame.Length = 4;
                    frame.Bytes.Fill((byte)i);
                    if (i % 5 == 0)
                    {
                        frame.Return();
                        continue;
                    }
                    pool.Delivered(frame);
                    frame.Expose(0);
                    delivered.Enqueue(frame);
                }
                foreach (Block frame in inFill)
                {
                    pool.Received(frame);
                    frame.Return();
                }
                Volatile.Write(ref done, true);
                return;
            }
            while (true)
            {
                bool last = Volatile.Read(ref done);
                if (delivered.TryDequeue(out Block? frame))
                {
                    ReadOnlySpan<byte> bytes = frame.Memory.Span;
                    Assert.Equal(4, bytes.Length);
                    Assert.Equal(bytes[0], bytes[3]);
                    frame.Return();
                }
                else if (last)
                {
                    return;
                }
                else
                {
                    Thread.Yield();
                }
            }
        });
        Assert.Equal(0, pool.ApplicationCount);
        AssertAllFree(pool);
    }

    [Fact]
    public void FramePool_ReceiveReserve_IsNotForTransmit()
    {
        FramePool pool = MakeFrames(10, reserve: 4);
        var frames = new List<Block>();
        while (pool.TryTakeForWriting() is { } frame)
            frames.Add(frame);
        Assert.Equal(6, frames.Count);
        Assert.Null(pool.TryTakeForSegment());
        for (int i = 0; i < 4; i++)
        {
            Block fill = Assert.IsType<Block>(pool.TryTakeForFill());
            pool.Received(fill);
            frames.Add(fill);
        }
        Assert.Null(pool.TryTakeForFill());
        frames.ForEach(frame => frame.Return());
        AssertAllFree(pool);
    }

    [Fact]
    public void FramePool_ReceiveReserve_HoldsAgainstManyWriters()
    {
        FramePool pool = MakeFrames(12, reserve: 11);
        int taken = 0;
        int most = 0;
        InParallel(2, _ =>
        {
            for (int i = 0; i < 1_000_000; i++)
            {
                if (pool.TryTakeForWriting() is not { } frame)
                    continue;
                if (Interlocked.Increment(ref taken) is var now && now > Volatile.Read(ref most))
                    Volatile.Write(ref most, now);
                Interlocked.Decrement(ref taken);
                frame.Return();
            }
        });
        Assert.Equal(1, most);
    }

    [Fact]
    public void FramePool_ReturnedWhileInKernel_IsFreedByItsCompletion()
    {
        FramePool pool = MakeFrames(2, poison: true);
        Block frame = pool.TryTakeForSegment()!;
        frame.Append([1, 2, 3]);
        pool.Submitted(frame);
        frame.Return();
        Assert.Equal(1, pool.FreeCount);
        Assert.Equal(1, frame.Bytes[0]);
        pool.Completed(frame);
        Assert.Equal(2, pool.FreeCount);
        Assert.Equal(FramePool.PoisonByte, frame.Span[FramePool.PayloadStart]);

        frame = pool.TryTakeForSegment()!;
        pool.Submitted(frame);
        pool.Completed(frame);
        Assert.Equal(1, pool.FreeCount);
        frame.Return();
        AssertAllFree(pool);
    }

    [Fact]
    public void FramePool_Addresses_GoThereAndBack()
    {
        FramePool pool = MakeFrames(7);
        for (int i = 0; i < 7; i++)
        {
            ulong address = pool.AddressOf(pool[i], 300);
            Assert.Same(pool[i], pool.FromAddress(address, out int offset));
            Assert.Equal(300, offset);
        }
    }

    [Fact]
    public void FramePool_HandOuts_CountGenerations()
    {
        FramePool pool = MakeFrames(1);
        Block frame = pool.TryTakeForWriting()!;
        uint generation = frame.Generation;
        frame.Return();
        Assert.Equal(generation + 1, pool.TryTakeForWriting()!.Generation);
    }

    [Fact]
    public void BlockPool_ManyThreads_NeverShareABlockAndAllComeHome()
    {
        var pool = new BlockPool(budget: 1 << 20) { Poison = true };
        InParallel(4, thread =>
        {
            var random = new Random(thread);
            var mine = new Stack<Block>();
            for (int i = 0; i < 20_000; i++)
            {
                Block? block = random.Next(20) switch
                {
                    0 => pool.Take(),
                    1 => pool.Take(BlockPool.BlockSize + 1 + random.Next(10_000)),
                    < 10 => pool.TryTake(),
                    _ => null,
                };
                if (block is not null)
                {
                    Assert.Equal(0, block.Start);
                    Assert.Equal(0, block.Length);
                    block.Append([(byte)thread, (byte)i]);
                    mine.Push(block);
                }
                else if (mine.TryPop(out Block? last))
                {
                    Assert.Equal((byte)thread, last.Bytes[0]);
                    last.Return();
                }
            }
            foreach (Block block in mine)
                block.Return();
        });
        Assert.Equal(0, pool.InUse);
    }

    [Fact]
    public void BlockPool_BudgetUsedUp_RefusesPeersAndServesWriters()
    {
        var pool = new BlockPool(budget: 64 * BlockPool.BlockSize);
        var blocks = new List<Block>();
        while (pool.TryTake() is { } block)
            blocks.Add(block);
        Assert.Equal(64, blocks.Count);
        Assert.Equal(64, blocks.Distinct().Count());
        blocks.Add(pool.Take());
        blocks.Add(pool.Take(100_000));
        Assert.True(blocks[^1].Capacity >= 100_000);
        Assert.Equal(66, pool.InUse);
        blocks.ForEach(block => block.Return());
        Assert.Equal(0, pool.InUse);
    }

    [Fact]
    public void BlockPool_BudgetBelowASlab_StillServesPeers()
    {
        var pool = new BlockPool(budget: 16 * BlockPool.BlockSize);
        Assert.NotNull(pool.TryTake());
    }

    [Fact]
    public void BlockPool_AfterWritersWentBeyondTheBudget_StillRefusesPeers()
    {
        var pool = new BlockPool(budget: 64 * BlockPool.BlockSize);
        for (int i = 0; i < 65; i++)
            pool.Take();
        Assert.Null(pool.TryTake());
    }

    private static readonly Instant s_start = new(TimeSpan.TicksPerHour);

    private static List<Block> TakeMany(BlockPool pool, int count) =>
        [.. Enumerable.Range(0, count).Select(_ => pool.Take())];

    /// <summary>After a peak the pool keeps little more than it uses, and the memory is nobody's.</summary>
    [Fact]
    public void Trim_AfterAQuietMinute_LetsGoOfWhatIsNotUsed()
    {
        var pool = new BlockPool();
        WeakReference memory = Peak(pool);
        Assert.Equal(20_000 * (long)BlockPool.BlockSize, pool.HeldBytes);
        // The pool has grown since anybody looked, so this is no quiet minute yet.
        Assert.Equal(0, pool.Trim(s_start));
        Assert.Equal(0, pool.Trim(s_start + TimeSpan.FromSeconds(59)));
        long released = pool.Trim(s_start + TimeSpan.FromSeconds(60));
        Assert.Equal(20_000 * (long)BlockPool.BlockSize - released, pool.HeldBytes);
        Assert.InRange(pool.HeldBytes, 1, BlockPool.FewBlocks * BlockPool.BlockSize);
        GC.Collect();
        Assert.False(memory.IsAlive);
        Assert.Equal(0, pool.InUse);
        // It serves on, and grows again in the places that came free.
        List<Block> blocks = TakeMany(pool, 10_000);
        Assert.Equal(10_000, blocks.Distinct().Count());
        Assert.All(blocks, block => Assert.InRange(block.Index, 0, 19_999));
        blocks.ForEach(block => block.Return());
        Assert.Equal(0, pool.InUse);
    }

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private static WeakReference Peak(BlockPool pool)
    {
        List<Block> blocks = TakeMany(pool, 20_000);
        blocks.ForEach(block => block.Return());
        MemoryMarshal.TryGetArray((ReadOnlyMemory<byte>)blocks[0].AllMemory, out ArraySegment<byte> array);
        return new WeakReference(array.Array);
    }

    /// <summary>A pool that is used, or has been a minute ago, keeps what it has.</summary>
    [Fact]
    public void Trim_WhileBlocksAreUsed_LetsGoOfNothing()
    {
        var pool = new BlockPool();
        List<Block> blocks = TakeMany(pool, 10_000);
        for (int i = 0; i < 10; i++)
            Assert.Equal(0, pool.Trim(s_start + TimeSpan.FromMinutes(i)));
        blocks.ForEach(block => block.Return());
        Assert.NotEqual(0, pool.Trim(s_start + TimeSpan.FromMinutes(11)));
    }

    /// <summary>A slab with a block in use stays whole; a free block of it is the next to be handed out.</summary>
    [Fact]
    public void Trim_SlabWithABlockInUse_StaysAndIsUsedFirst()
    {
        var pool = new BlockPool { Poison = true };
        List<Block> blocks = TakeMany(pool, 2000);
        Block held = blocks[1000];
        held.Append([1, 2, 3]);
        blocks.Where(block => block != held).ToList().ForEach(block => block.Return());
        pool.Trim(s_start);
        Assert.NotEqual(0, pool.Trim(s_start + TimeSpan.FromMinutes(2)));
        Assert.Equal([1, 2, 3], held.Bytes.ToArray());
        Assert.Equal(1, pool.InUse);
        for (int i = 1; i < BlockPool.BlocksPerSlab; i++)
            Assert.Equal(held.Index / BlockPool.BlocksPerSlab, pool.Take().Index / BlockPool.BlocksPerSlab);
        Assert.NotEqual(held.Index / BlockPool.BlocksPerSlab, pool.Take().Index / BlockPool.BlocksPerSlab);
        held.Return();
        Assert.Equal(BlockPool.BlocksPerSlab, pool.InUse);
    }

    /// <summary>Meanwhile others take and return blocks, and are never refused.</summary>
    [Fact]
    public void Trim_BesideManyThreads_LosesAndSharesNoBlock()
    {
        var pool = new BlockPool(budget: 2000 * BlockPool.BlockSize) { Poison = true };
        long released = 0;
        int running = 3;
        InParallel(4, thread =>
        {
            if (thread == 3)
            {
                for (int minute = 1; Volatile.Read(ref running) > 0; minute++)
                    released += pool.Trim(s_start + TimeSpan.FromMinutes(minute));
                return;
            }
            var random = new Random(thread);
            var mine = new Stack<Block>();
            for (int i = 0; i < 100; i++)
            {
                for (int j = random.Next(500); j > 0; j--)
                {
                    Block? block = pool.TryTake();
                    Assert.NotNull(block);
                    block.Append([(byte)thread, (byte)mine.Count]);
                    mine.Push(block);
                }
                while (mine.TryPop(out Block? block))
                {
                    Assert.Equal([(byte)thread, (byte)mine.Count], block.Bytes.ToArray());
                    block.Return();
                }
            }
            Interlocked.Decrement(ref running);
        });
        for (int minute = 0; minute < 3; minute++)
            released += pool.Trim(s_start + TimeSpan.FromDays(100_000) + TimeSpan.FromMinutes(minute));
        Assert.Equal(0, pool.InUse);
        Assert.True(released > 0);
        Assert.InRange(pool.HeldBytes, 0, BlockPool.FewBlocks * BlockPool.BlockSize);
    }

    [Fact]
    public void BlockQueue_Operations_KeepOrderAndBytes()
    {
        var pool = new BlockPool();
        var queue = new BlockQueue();
        var other = new BlockQueue();
        Assert.Equal(0, queue.AppendToTail([1]));
        for (byte i = 1; i <= 4; i++)
        {
            Block block = pool.Take();
            block.Append([i, i]);
            if (i <= 2)
                queue.Enqueue(block);
            else
                other.Enqueue(block);
        }
        queue.Append(ref other);
        Assert.True(other.IsEmpty);
        Assert.Equal(8, queue.Bytes);
        Assert.Equal(3, queue.AppendToTail([9, 9, 9]));
        queue.TrimHead(1);
        Assert.Equal(10, queue.Bytes);
        byte[] firsts = new byte[4];
        for (int i = 0; i < 4; i++)
        {
            Block block = queue.Dequeue()!;
            firsts[i] = block.Bytes[0];
            block.Return();
        }
        Assert.Equal([1, 2, 3, 4], firsts);
        Assert.Equal(0, queue.Bytes);
        Assert.Null(queue.Dequeue());
        Assert.Equal(0, pool.InUse);
    }
}

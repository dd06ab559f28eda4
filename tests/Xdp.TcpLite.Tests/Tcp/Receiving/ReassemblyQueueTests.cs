namespace Xdp.TcpLite.Tests;

public class ReassemblyQueueTests
{
    private const int FrameSize = 2048;

    private readonly StackEnvironment _environment;
    private readonly ReassemblyQueue _queue;

    public ReassemblyQueueTests()
    {
        var frames = new FramePool(new byte[64 * FrameSize], FrameSize, 64, receiveReserve: 0) { Poison = true };
        var blocks = new BlockPool { Poison = true };
        _environment = new StackEnvironment(new TcpStackOptions(), frames, blocks, PartRig.Secret, default);
        _queue = Memory.Borrow();
    }

    private ReceiveMemory Memory => _environment.Memory;

    private static byte ByteAt(SeqNumber seq) => (byte)(seq.Value * 31 ^ seq.Value >> 8);

    private DropReason Insert(SeqNumber seq, int length, bool keepFrame = false)
    {
        Block frame = Memory.Frames.TryTakeForFill()!;
        Memory.Frames.Received(frame);
        for (int i = 0; i < length; i++)
            frame.Span[100 + i] = ByteAt(seq + i);
        DropReason reason = _queue.Insert(seq, frame, 100, length, Memory, keepFrame, out bool kept, out _);
        if (!kept)
            frame.Return();
        return reason;
    }

    /// <summary>Takes what continues <paramref name="from"/>, and checks that it does.</summary>
    private SeqNumber Take(SeqNumber from)
    {
        SeqNumber rcvNxt = from;
        BlockQueue taken = default;
        _queue.TakeInOrder(ref rcvNxt, ref taken, Memory);
        Assert.Equal(rcvNxt - from, taken.Bytes);
        for (SeqNumber seq = from; taken.Dequeue() is { } block; block.Return())
        {
            foreach (byte actual in block.Bytes)
            {
                Assert.Equal(ByteAt(seq), actual);
                seq += 1;
            }
        }
        return rcvNxt;
    }

    private void AssertEmpty()
    {
        Assert.True(_queue.IsEmpty);
        Assert.Equal((0, 0, 0), (_queue.Memory, _queue.Frames, Memory.Ahead));
        Assert.Equal((0, 0), (Memory.Blocks.InUse, Memory.Frames.KeptAhead));
        Assert.Equal(Memory.Frames.FrameCount, Memory.Frames.FreeCount);
    }

    [Fact]
    public void Insert_OneByteRuns_ShareAPage()
    {
        var start = new SeqNumber(0xffff_fe00);
        for (int i = 1; i <= ReassemblyQueue.MaxRuns; i++)
            Assert.Equal(DropReason.None, Insert(start + 2 * i, 1));
        Assert.Equal(ReassemblyQueue.MaxRuns, _queue.Count);
        Assert.Equal((BlockPool.BlockSize, BlockPool.BlockSize), (_queue.Memory, Memory.Ahead));
        for (int i = 1; i <= ReassemblyQueue.MaxRuns; i++)
            Assert.Equal(DropReason.None, Insert(start + 2 * i + 1, 1));
        Assert.Equal((1, BlockPool.BlockSize), (_queue.Count, _queue.Memory));
        Assert.Equal(start + 2 + 2 * ReassemblyQueue.MaxRuns, Take(start + 2));
        AssertEmpty();
    }

    /// <summary>A page that holds one run alone is handed on; nothing is copied twice.</summary>
    [Fact]
    public void TakeInOrder_PageOfOneRun_IsHandedOn()
    {
        var start = new SeqNumber(1000);
        for (int from = 0; from < BlockPool.BlockSize; from += 1024)
            Insert(start + from, 1024);
        SeqNumber rcvNxt = start;
        BlockQueue taken = default;
        _queue.TakeInOrder(ref rcvNxt, ref taken, Memory);
        Assert.Equal((BlockPool.BlockSize, 1), ((int)taken.Bytes, Memory.Blocks.InUse));
        Assert.Same(taken.Head, taken.Tail);
        taken.ReturnAll();
        AssertEmpty();
    }

    /// <summary>With too many gaps, the run that is of use last gives way to one before it.</summary>
    [Fact]
    public void Insert_TooManyRuns_TheLastOneGivesWay()
    {
        var start = new SeqNumber(1000);
        for (int i = 1; i <= ReassemblyQueue.MaxRuns; i++)
            Insert(start + 10 * i, 5);
        Assert.Equal(DropReason.ReassemblyFull, Insert(start + 10 * ReassemblyQueue.MaxRuns + 10, 5));
        Assert.Equal(0, _environment.Counters.OutOfOrderPrunes);
        Assert.Equal(DropReason.None, Insert(start + 6, 2));
        Assert.Equal((ReassemblyQueue.MaxRuns, start + 6), (_queue.Count, _queue.First.Left));
        Assert.Equal((1, 5), (_environment.Counters.OutOfOrderPrunes, _environment.Counters.OutOfOrderPrunedBytes));
        _queue.Clear(Memory);
        AssertEmpty();
    }

    [Fact]
    public void Prune_TakesTheFurthestAhead_AndLeavesTheFirst()
    {
        var start = new SeqNumber(1000);
        for (int i = 0; i < 16; i++)
            Insert(start + 3000 * i, 1500, keepFrame: true);
        Assert.True(_queue.Prune(Memory));
        Assert.Equal((14, 14 * FrameSize), (_queue.Count, _queue.Memory));
        Assert.Equal(3000, _environment.Counters.OutOfOrderPrunedBytes);
        while (_queue.Prune(Memory))
        {
        }
        Assert.Equal((start, start + 1500), _queue.First);
        Assert.Equal((1, FrameSize), (_queue.Count, _queue.Memory));
        Assert.Equal(start + 1500, Take(start));
        AssertEmpty();
    }

    [Fact]
    public void Prune_OneLongRun_IsCutAtItsEnd()
    {
        var start = new SeqNumber(0xffff_ec00);
        for (int i = 0; i < 16; i++)
            Insert(start + 1000 * i, 1000, keepFrame: i % 2 == 0);
        long before = _queue.Memory;
        Assert.True(_queue.Prune(Memory));
        Assert.InRange(_queue.Memory, before / 2, before - FrameSize);
        SeqNumber end = _queue.First.Right;
        Assert.InRange(end - start, 8000, 14_000);
        Assert.Equal(end, Take(start));
        AssertEmpty();
    }

    [Fact]
    public void PruneAbove_OnlyWhatIsBehind_GivesWay()
    {
        var start = new SeqNumber(1000);
        for (int i = 0; i < 8; i++)
            Insert(start + 3000 * i, 1500, keepFrame: true);
        Assert.True(_queue.PruneAbove(start + 30_000, 8 * FrameSize, Memory));
        Assert.False(_queue.PruneAbove(start + 30_000, 7 * FrameSize, Memory));
        Assert.Equal(8, _queue.Count);
        Assert.True(_queue.PruneAbove(start + 15_000, 7 * FrameSize, Memory));
        Assert.False(_queue.PruneAbove(start + 15_000, 0, Memory));
        Assert.Equal(6, _queue.Count);
        _queue.Clear(Memory);
        AssertEmpty();
    }

    /// <summary>Whatever comes and is pruned, in whatever order: the bytes are right and all comes home.</summary>
    [Fact]
    public void RandomSteps_BytesAreRight_AndMemoryAddsUp()
    {
        for (int seed = 0; seed < 200; seed++)
        {
            var random = new Random(seed);
            var rcvNxt = new SeqNumber(0u - (uint)random.Next(20_000));
            for (int step = 0; step < 300; step++)
            {
                switch (random.Next(20))
                {
                    case 0:
                        _queue.Prune(Memory);
                        break;
                    case 1:
                        _queue.PruneAbove(rcvNxt + random.Next(10_000), _queue.Memory / 2, Memory);
                        break;
                    case 2:
                        // The gap is filled from outside.
                        if (!_queue.IsEmpty)
                            rcvNxt = Take(_queue.First.Left);
                        break;
                    default:
                        int length = random.Next(4) == 0 ? random.Next(1, 1400) : random.Next(1, 20);
                        bool keep = length > 256 && Memory.Frames.FreeCount > 8 && random.Next(2) == 0;
                        SeqNumber floor = _queue.IsEmpty ? rcvNxt : SeqNumber.Min(rcvNxt, _queue.First.Left);
                        Insert(floor + random.Next(1, 10_000), length, keep);
                        break;
                }
                Assert.Equal(_queue.Memory, Memory.Ahead);
                Assert.Equal(
                    _queue.Memory,
                    _queue.Frames * (long)FrameSize + Memory.Blocks.InUse * (long)BlockPool.BlockSize);
            }
            _queue.Clear(Memory);
            AssertEmpty();
        }
    }
}

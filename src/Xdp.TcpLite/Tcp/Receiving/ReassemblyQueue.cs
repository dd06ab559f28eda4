namespace Xdp.TcpLite;

/// <summary>
/// Payload that arrived ahead of a gap, as runs of contiguous bytes in sequence order. Bounded in runs and in memory: a
/// peer that sends every other byte gets drops, and not our memory. Owns its blocks.
/// </summary>
/// <remarks>
/// A payload is kept in its frame, or copied. Copies are packed into pages, which the runs share: a run then has
/// <em>slices</em>, blocks that are a part of a page. So a run of one byte takes one byte, and not a page. Slices never
/// leave the queue. When their turn comes, they are copied once more, or the page goes if it is all one slice.
/// </remarks>
internal sealed class ReassemblyQueue
{
    /// <summary>Gaps that are remembered. 5 % loss over a full 6 MiB window makes about 200.</summary>
    internal const int MaxRuns = 512;

    /// <summary>Queues that a stack keeps for the next connection which has a gap.</summary>
    internal const int MostSpare = 64;

    /// <summary>An array of up to this many runs is kept when the queue is empty, and so are as many slices.</summary>
    private const int MostSpareRuns = 16;

    /// <summary>
    /// The part of its memory that a pruned queue loses (Linux: an eighth of the receive buffer). Less would have to be
    /// done again for the next segment; more would have to be sent again.
    /// </summary>
    private const int PrunedShare = 8;

    private Run[] _runs = [];
    private long _touches;

    /// <summary>The page that copies go to; null when there is none with room.</summary>
    private Block? _page;
    private readonly Stack<Block> _spareSlices = new();

    internal int Count { get; private set; }

    /// <summary>Bytes of memory in use, which for small segments is more than the bytes of payload.</summary>
    internal long Memory { get; private set; }

    /// <summary>UMEM frames among it.</summary>
    internal int Frames { get; private set; }

    internal bool IsEmpty => Count == 0;

    /// <summary>The run behind the first gap. There must be one.</summary>
    internal (SeqNumber Left, SeqNumber Right) First => (_runs[0].Start, _runs[0].End);

    /// <summary>Among the lent queues.</summary>
    internal int Place { get; set; }

    private struct Run
    {
        public SeqNumber Start;
        public SeqNumber End;
        public BlockQueue Blocks;

        /// <summary>Grows with each arrival: the run that changed last has the most.</summary>
        public long Touched;
    }

    /// <summary>
    /// Takes in <paramref name="length"/> payload bytes from <paramref name="offset"/> of <paramref name="frame"/>,
    /// which start at <paramref name="seq"/>. Bytes that are here already stay as they are.
    /// </summary>
    /// <param name="seq">Number of the first byte.</param>
    /// <param name="frame">Where the payload lies.</param>
    /// <param name="offset">Of the payload.</param>
    /// <param name="length">Its bytes.</param>
    /// <param name="memory">What it is kept in.</param>
    /// <param name="keepFrame">The frame itself may be kept; otherwise its bytes are copied.</param>
    /// <param name="kept">The queue owns the frame now.</param>
    /// <param name="duplicate">Sequence space, if any, that was here already: to be reported as D-SACK.</param>
    /// <returns>Why nothing was taken in, or <see cref="DropReason.None"/>.</returns>
    internal DropReason Insert(
        SeqNumber seq, Block frame, int offset, int length, ReceiveMemory memory, bool keepFrame,
        out bool kept, out (SeqNumber Left, SeqNumber Right)? duplicate)
    {
        kept = false;
        duplicate = null;
        SeqNumber end = seq + length;
        int at = 0;
        while (at < Count && _runs[at].End < seq)
            at++;
        DropReason result = DropReason.Duplicate;
        while (seq < end)
        {
            // Here _runs[at], if there is one, ends at or behind seq.
            if (at < Count && _runs[at].Start <= seq && seq < _runs[at].End)
            {
                SeqNumber covered = SeqNumber.Min(end, _runs[at].End);
                duplicate ??= (seq, covered);
                offset += covered - seq;
                seq = covered;
                _runs[at].Touched = ++_touches;
                continue;
            }
            SeqNumber pieceEnd = end;
            int next = at < Count && _runs[at].End == seq ? at + 1 : at;
            if (next < Count && _runs[next].Start < pieceEnd)
                pieceEnd = _runs[next].Start;
            int count = pieceEnd - seq;
            bool whole = count == length;
            int run = at < Count && _runs[at].End == seq ? at : NewRun(at, seq, memory);
            if (run < 0)
                return DropReason.ReassemblyFull;
            if (whole && keepFrame)
            {
                frame.Start = offset;
                frame.Length = length;
                _runs[run].Blocks.Enqueue(frame);
                Frames++;
                memory.Frames.KeptAhead++;
                Hold(frame.Capacity, memory);
                kept = true;
            }
            else
            {
                int copied = Copy(ref _runs[run].Blocks, frame.Span.Slice(offset, count), memory);
                if (copied < count)
                {
                    _runs[run].End += copied;
                    if (_runs[run].Blocks.IsEmpty)
                        RemoveRun(run);
                    return DropReason.NoMemory;
                }
            }
            result = DropReason.None;
            _runs[run].End = pieceEnd;
            _runs[run].Touched = ++_touches;
            offset += count;
            seq = pieceEnd;
            at = run;
            MergeWithNext(run);
        }
        return result;
    }

    /// <summary>
    /// Moves the bytes that continue <paramref name="rcvNxt"/> to <paramref name="destination"/>, and RCV.NXT with
    /// them.
    /// </summary>
    internal void TakeInOrder(ref SeqNumber rcvNxt, ref BlockQueue destination, ReceiveMemory memory)
    {
        while (Count > 0 && _runs[0].Start <= rcvNxt)
        {
            int stale = rcvNxt - _runs[0].Start;
            while (_runs[0].Blocks.Dequeue() is { } block)
            {
                int skip = Math.Min(stale, block.Length);
                stale -= skip;
                block.Start += skip;
                block.Length -= skip;
                rcvNxt += block.Length;
                if (block.Length == 0)
                    Return(block, memory);
                else
                    Deliver(block, ref destination, memory);
            }
            RemoveRun(0);
        }
    }

    /// <summary>
    /// Adds up to <paramref name="max"/> blocks to <paramref name="sack"/>: the one that changed last first, then those
    /// that changed before it (RFC 2018, section 4).
    /// </summary>
    internal void WriteSackBlocks(ref SackBlocks sack, int max)
    {
        Span<int> recent = stackalloc int[SackBlocks.Capacity];
        int wanted = max - sack.Count;
        int found = 0;
        for (int i = 0; i < Count; i++)
        {
            int place = found;
            while (place > 0 && _runs[recent[place - 1]].Touched < _runs[i].Touched)
                place--;
            if (place >= wanted)
                continue;
            found = Math.Min(found + 1, wanted);
            for (int j = found - 1; j > place; j--)
                recent[j] = recent[j - 1];
            recent[place] = i;
        }
        foreach (int i in recent[..found])
            sack.Add(_runs[i].Start, _runs[i].End);
    }

    internal void Clear(ReceiveMemory memory)
    {
        while (Count > 0)
            DropLastRun(memory);
    }

    /// <summary>The queue is empty, and waits for its next use.</summary>
    internal void DropLargeArrays()
    {
        if (_runs.Length > MostSpareRuns)
            _runs = [];
    }

    // ---- pruning: the runs furthest ahead go first, since they are of use last (Linux: tcp_prune_ofo_queue). The peer
    // may have been told that they are here. It keeps what is not acknowledged, and sends it again (RFC 2018, section
    // 8).

    /// <summary>
    /// Frees a part of the memory. The first block stays: a queue is never empty while it is lent. False when there was
    /// nothing to free.
    /// </summary>
    internal bool Prune(ReceiveMemory memory)
    {
        long before = Memory;
        long limit = before - before / PrunedShare;
        long pruned = 0;
        while (Memory > limit && Count > 1)
            pruned += DropLastRun(memory);
        if (Memory > limit && Count == 1)
            pruned += CutFirstRun(memory);
        if (pruned > 0)
            memory.OnPruned(pruned);
        return Memory < before;
    }

    /// <summary>
    /// Frees memory until there is at most so much, at the cost of runs that start above <paramref name="seq"/>. False
    /// when those are not enough.
    /// </summary>
    internal bool PruneAbove(SeqNumber seq, long limit, ReceiveMemory memory)
    {
        if (Memory <= limit)
            return true;
        long pruned = 0;
        while (Memory > limit && Count > 0 && _runs[Count - 1].Start > seq)
            pruned += DropLastRun(memory);
        if (pruned > 0)
            memory.OnPruned(pruned);
        return Memory <= limit;
    }

    private long DropLastRun(ReceiveMemory memory)
    {
        ref Run run = ref _runs[Count - 1];
        long bytes = run.Blocks.Bytes;
        while (run.Blocks.Dequeue() is { } block)
            Return(block, memory);
        RemoveRun(Count - 1);
        return bytes;
    }

    /// <summary>Leaves most of the first run, or its first block.</summary>
    private long CutFirstRun(ReceiveMemory memory)
    {
        ref Run run = ref _runs[0];
        BlockQueue blocks = run.Blocks;
        BlockQueue left = default;
        long most = blocks.Bytes - blocks.Bytes / PrunedShare;
        left.Enqueue(blocks.Dequeue()!);
        while (blocks.Head is { } next && left.Bytes + next.Length <= most)
            left.Enqueue(blocks.Dequeue()!);
        long bytes = blocks.Bytes;
        while (blocks.Dequeue() is { } block)
            Return(block, memory);
        run.Blocks = left;
        run.End -= (int)bytes;
        return bytes;
    }

    // ---- blocks

    /// <returns>Bytes copied: less than all when the heap's budget is used up.</returns>
    private int Copy(ref BlockQueue blocks, ReadOnlySpan<byte> source, ReceiveMemory memory)
    {
        int copied = 0;
        while (copied < source.Length)
        {
            if (_page is not { Room: > 0 })
            {
                if (memory.Blocks.TryTake() is not { } fresh)
                    return copied;
                _page = fresh;
                Hold(fresh.Capacity, memory);
            }
            Block page = _page;
            bool continues = blocks.Tail is { Page: { } last } tail
                && ReferenceEquals(last, page) && tail.End == page.Length;
            if (!continues)
            {
                Block slice = _spareSlices.TryPop(out Block? spare) ? spare : new Block();
                slice.Cut(page);
                blocks.Enqueue(slice);
            }
            int count = page.Append(source[copied..]);
            blocks.ExtendTail(count);
            copied += count;
        }
        return copied;
    }

    /// <summary>Appends a block that is in order now, or its bytes.</summary>
    private void Deliver(Block block, ref BlockQueue destination, ReceiveMemory memory)
    {
        if (block.Page is not { } page)
        {
            Let(block, memory);
            if (block.IsFrame)
                memory.Frames.Delivered(block);
            destination.Enqueue(block);
            return;
        }
        if (page.Slices == 1)
        {
            // Nobody shares the page.
            (page.Start, page.Length) = (block.Start, block.Length);
            if (ReferenceEquals(_page, page))
                _page = null;
            Forget(block);
            Let(page, memory);
            destination.Enqueue(page);
            return;
        }
        ReadOnlySpan<byte> bytes = block.Bytes;
        if (destination.Tail is { IsFrame: false })
            bytes = bytes[destination.AppendToTail(bytes)..];
        if (!bytes.IsEmpty)
        {
            // Beyond the budget if need be: these bytes had their memory, which they are about to leave.
            Block fresh = memory.Blocks.Take();
            fresh.Append(bytes);
            destination.Enqueue(fresh);
        }
        Return(block, memory);
    }

    /// <summary>The block goes home. A page goes with its last slice.</summary>
    private void Return(Block block, ReceiveMemory memory)
    {
        if (block.Page is not { } page)
        {
            Let(block, memory);
            block.Return();
            return;
        }
        Forget(block);
        if (page.Slices > 0)
            return;
        if (ReferenceEquals(_page, page))
            _page = null;
        Let(page, memory);
        page.Return();
    }

    private void Forget(Block slice)
    {
        slice.Uncut();
        if (_spareSlices.Count < MostSpareRuns)
            _spareSlices.Push(slice);
    }

    private void Hold(int bytes, ReceiveMemory memory)
    {
        Memory += bytes;
        memory.OnAhead(bytes);
    }

    /// <summary>The queue no longer holds this frame or page.</summary>
    private void Let(Block block, ReceiveMemory memory)
    {
        Hold(-block.Capacity, memory);
        if (!block.IsFrame)
            return;
        Frames--;
        memory.Frames.KeptAhead--;
    }

    // ---- runs

    /// <returns>Its index; -1 when there are too many already, and all of them start before it.</returns>
    private int NewRun(int at, SeqNumber seq, ReceiveMemory memory)
    {
        if (Count == MaxRuns && at == Count)
            return -1;
        if (Count == MaxRuns)
            memory.OnPruned(DropLastRun(memory));
        if (Count == _runs.Length)
            Array.Resize(ref _runs, Math.Max(4, Count * 2));
        Array.Copy(_runs, at, _runs, at + 1, Count - at);
        Count++;
        _runs[at] = new Run { Start = seq, End = seq };
        return at;
    }

    private void RemoveRun(int at)
    {
        Count--;
        Array.Copy(_runs, at + 1, _runs, at, Count - at);
        _runs[Count] = default;
    }

    private void MergeWithNext(int at)
    {
        if (at + 1 >= Count || _runs[at].End != _runs[at + 1].Start)
            return;
        _runs[at].Touched = Math.Max(_runs[at].Touched, _runs[at + 1].Touched);
        _runs[at].End = _runs[at + 1].End;
        _runs[at].Blocks.Append(ref _runs[at + 1].Blocks);
        RemoveRun(at + 1);
    }
}

namespace Xdp.TcpLite;

/// <summary>
/// Payload that arrived ahead of a gap, as runs of contiguous bytes in sequence order. Bounded in runs and in memory: a
/// peer that sends every other byte gets drops, and not our memory. Owns its blocks.
/// </summary>
internal sealed class ReassemblyQueue
{
    /// <summary>Gaps that are remembered. 5 % loss over a full 6 MiB window makes about 200.</summary>
    internal const int MaxRuns = 512;

    /// <summary>Queues that a stack keeps for the next connection which has a gap.</summary>
    internal const int MostSpare = 64;

    /// <summary>An array of up to this many runs is kept when the queue is empty.</summary>
    private const int MostSpareRuns = 16;

    private Run[] _runs = [];
    private long _touches;

    internal int Count { get; private set; }

    /// <summary>Bytes of memory in use, which for small segments is more than the bytes of payload.</summary>
    internal long Memory { get; private set; }

    /// <summary>UMEM frames among it.</summary>
    internal int Frames { get; private set; }

    internal bool IsEmpty => Count == 0;

    /// <summary>The run behind the first gap. There must be one.</summary>
    internal (SeqNumber Left, SeqNumber Right) First => (_runs[0].Start, _runs[0].End);

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
    /// <param name="keepFrame">The frame itself may be kept; otherwise its bytes are copied.</param>
    /// <param name="kept">The queue owns the frame now.</param>
    /// <param name="duplicate">Sequence space, if any, that was here already: to be reported as D-SACK.</param>
    /// <returns>Why nothing was taken in, or <see cref="DropReason.None"/>.</returns>
    internal DropReason Insert(
        SeqNumber seq, Block frame, int offset, int length, FramePool frames, BlockPool heap, bool keepFrame,
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
            int run = at < Count && _runs[at].End == seq ? at : NewRun(at, seq);
            if (run < 0)
                return DropReason.ReassemblyFull;
            if (whole && keepFrame)
            {
                frame.Start = offset;
                frame.Length = length;
                _runs[run].Blocks.Enqueue(frame);
                Memory += frame.Capacity;
                Frames++;
                frames.KeptAhead++;
                kept = true;
            }
            else
            {
                int copied = Copy(ref _runs[run].Blocks, frame.Span.Slice(offset, count), heap);
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
    internal void TakeInOrder(ref SeqNumber rcvNxt, ref BlockQueue destination, FramePool frames)
    {
        while (Count > 0 && _runs[0].Start <= rcvNxt)
        {
            ref Run run = ref _runs[0];
            int stale = rcvNxt - run.Start;
            while (run.Blocks.Dequeue() is { } block)
            {
                Memory -= block.Capacity;
                if (block.IsFrame)
                {
                    Frames--;
                    frames.KeptAhead--;
                }
                int skip = Math.Min(stale, block.Length);
                stale -= skip;
                block.Start += skip;
                block.Length -= skip;
                if (block.Length == 0)
                {
                    block.Return();
                    continue;
                }
                if (block.IsFrame)
                    frames.Delivered(block);
                rcvNxt += block.Length;
                destination.Enqueue(block);
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

    internal void Clear(FramePool frames)
    {
        frames.KeptAhead -= Frames;
        Frames = 0;
        for (int i = 0; i < Count; i++)
            _runs[i].Blocks.ReturnAll();
        Array.Clear(_runs, 0, Count);
        Count = 0;
        Memory = 0;
    }

    internal void DropLargeRuns()
    {
        if (_runs.Length > MostSpareRuns)
            _runs = [];
    }

    /// <returns>Bytes copied: less than all when the heap's budget is used up.</returns>
    private int Copy(ref BlockQueue blocks, ReadOnlySpan<byte> source, BlockPool heap)
    {
        int copied = blocks.Tail is { IsFrame: false } ? blocks.AppendToTail(source) : 0;
        while (copied < source.Length && heap.TryTakeSpare() is { } block)
        {
            Memory += block.Capacity;
            copied += block.Append(source[copied..]);
            blocks.Enqueue(block);
        }
        return copied;
    }

    private int NewRun(int at, SeqNumber seq)
    {
        if (Count == MaxRuns)
            return -1;
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

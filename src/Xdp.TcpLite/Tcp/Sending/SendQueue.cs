using System.Buffers;
using System.Diagnostics;

namespace Xdp.TcpLite;

/// <summary>
/// What an application has written and the peer has not acknowledged: the bytes, as a list of blocks, and the segments
/// that were cut from them, as a ring in sequence order. Owns the blocks.
/// </summary>
internal sealed class SendQueue
{
    /// <summary>
    /// Writes up to this size are copied behind the tail: that costs less than a segment of their own.
    /// </summary>
    private const int CoalesceLimit = 512;

    private const int SmallestRing = 4;

    /// <summary>The array pool has arrays of this size and of its doubles.</summary>
    private const int SmallestPooledRing = 16;

    /// <summary>Rings up to this size are kept when the queue is empty, for what it holds next.</summary>
    private const int LargestSpareRing = 256;

    private BlockQueue _blocks;

    /// <summary>Bytes at the front of the first block that are acknowledged.</summary>
    private int _headAcked;

    private Block? _nextBlock;
    private int _nextOffset;

    private SentSegment[] _ring = [];
    private int _first;

    /// <summary>Segments between SND.UNA and SND.NXT.</summary>
    internal int Count { get; private set; }

    internal long UnsentBytes { get; private set; }

    /// <summary>Bytes of memory of the blocks.</summary>
    internal long Memory { get; private set; }

    /// <summary>Bytes written and not acknowledged.</summary>
    internal long Bytes => _blocks.Bytes - _headAcked;

    internal ref SentSegment this[int index] => ref _ring[(_first + index) & (_ring.Length - 1)];

    internal void Append(ref BlockQueue data, FramePool frames, int mss)
    {
        while (data.Dequeue() is { } block)
        {
            UnsentBytes += block.Length;
            if (block.IsFrame && block.State == FrameState.Writing)
                frames.Flushed(block);
            if (block.Length == 0 || TryCoalesce(block, mss))
            {
                block.Return();
                continue;
            }
            _blocks.Enqueue(block);
            Memory += block.Capacity;
            if (_nextBlock is null)
            {
                _nextBlock = block;
                _nextOffset = 0;
            }
        }
    }

    private bool TryCoalesce(Block block, int mss)
    {
        Block? tail = _blocks.Tail;
        if (tail is null || block.Length > CoalesceLimit || tail.Room < block.Length)
            return false;
        bool tailIsUnsent = ReferenceEquals(tail, _nextBlock) && _nextOffset == 0;
        if (tail.IsFrame && !(tailIsUnsent && tail.Length + block.Length <= mss))
            return false;
        if (_nextBlock is null)
        {
            _nextBlock = tail;
            _nextOffset = tail.Length;
        }
        _blocks.AppendToTail(block.Bytes);
        return true;
    }

    /// <summary>
    /// Payload bytes of the next new segment, at most <paramref name="limit"/>. A segment ends where its frame ends, so
    /// that the next frame can also be sent in place. Heap blocks are gathered. So are frames where full segments
    /// matter more (<paramref name="gather"/>).
    /// </summary>
    internal int NextLength(int limit, bool gather = false)
    {
        if (_nextBlock is null)
            return 0;
        if (_nextBlock.IsFrame && _nextOffset == 0 && !gather)
            return Math.Min(limit, _nextBlock.Length);
        return (int)Math.Min(limit, UnsentBytes);
    }

    /// <summary>Cuts the next new segment of <paramref name="length"/> bytes and records it as sent.</summary>
    internal ref SentSegment Cut(int length, SeqNumber seq, bool fin, Instant now)
    {
        ref SentSegment segment = ref AddLast();
        segment.Seq = seq;
        segment.Length = length;
        segment.Block = length == 0 ? null : _nextBlock;
        segment.Offset = _nextOffset;
        segment.SackedTo = default;
        segment.SentAt = now;
        segment.Flags = fin ? SentFlags.Fin : SentFlags.None;
        UnsentBytes -= length;
        _nextOffset += length;
        while (_nextBlock is not null && _nextOffset >= _nextBlock.Length)
        {
            _nextOffset -= _nextBlock.Length;
            _nextBlock = _nextBlock.Next;
        }
        if (_nextBlock is null)
            _nextOffset = 0;
        return ref segment;
    }

    /// <summary>Takes back the last <see cref="Cut"/>: there was no frame to send it in.</summary>
    internal void Uncut()
    {
        SentSegment segment = this[Count - 1];
        this[Count - 1] = default;
        Count--;
        if (segment.Length == 0)
            return;
        _nextBlock = segment.Block;
        _nextOffset = segment.Offset;
        UnsentBytes += segment.Length;
    }

    /// <summary>
    /// Drops the first segment, or its first <paramref name="bytes"/> bytes of sequence space, as acknowledged.
    /// </summary>
    internal void Acknowledge(int bytes)
    {
        ref SentSegment segment = ref this[0];
        int payload = Math.Min(bytes, segment.Length);
        bool whole = bytes >= segment.SequenceLength;
        if (whole)
        {
            segment = default;
            _first = (_first + 1) & (_ring.Length - 1);
            Count--;
        }
        else
        {
            segment.Seq += bytes;
            segment.Length -= payload;
            segment.Offset += payload;
            while (segment.Block is not null && segment.Offset >= segment.Block.Length)
            {
                segment.Offset -= segment.Block.Length;
                segment.Block = segment.Block.Next;
            }
        }
        _headAcked += payload;
        while (_blocks.Head is { } head && _headAcked >= head.Length && (!ReferenceEquals(head, _nextBlock)))
        {
            _headAcked -= head.Length;
            _blocks.Dequeue();
            Memory -= head.Capacity;
            head.Return();
        }
        if (Count == 0)
            DropLargeRing();
    }

    /// <summary>
    /// Splits a segment after <paramref name="length"/> payload bytes: it must be sent again in smaller pieces.
    /// </summary>
    internal void Split(int index, int length)
    {
        Debug.Assert(length > 0 && length < this[index].Length);
        AddLast();
        for (int i = Count - 1; i > index + 1; i--)
            this[i] = this[i - 1];
        ref SentSegment front = ref this[index];
        SentSegment back = front;
        back.Seq += length;
        back.Length -= length;
        back.Offset += length;
        while (back.Block is not null && back.Offset >= back.Block.Length && back.Length > 0)
        {
            back.Offset -= back.Block.Length;
            back.Block = back.Block.Next;
        }
        front.Length = length;
        front.Flags &= ~SentFlags.Fin;
        this[index + 1] = back;
    }

    /// <summary>Index of the first segment whose sequence number is not before <paramref name="seq"/>.</summary>
    internal int IndexOf(SeqNumber seq)
    {
        int low = 0, high = Count;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            if (this[middle].Seq < seq)
                low = middle + 1;
            else
                high = middle;
        }
        return low;
    }

    /// <summary>Index of the segment that ends at <paramref name="end"/>; -1 when there is none.</summary>
    internal int IndexOfEnd(SeqNumber end)
    {
        int index = IndexOf(end) - 1;
        return index >= 0 && this[index].EndSeq == end ? index : -1;
    }

    /// <summary>
    /// Can the segment be sent from where it lies: at the start of a frame that is not in the kernel?
    /// </summary>
    internal static bool IsInPlace(in SentSegment segment) =>
        segment is { Block: { IsFrame: true, InKernel: false, Start: FramePool.PayloadStart }, Offset: 0 }
        && segment.Length <= segment.Block!.Length;

    internal static void CopyPayload(in SentSegment segment, Span<byte> destination)
    {
        Block? block = segment.Block;
        int offset = segment.Offset;
        int left = segment.Length;
        while (left > 0)
        {
            int count = Math.Min(left, block!.Length - offset);
            block.Bytes.Slice(offset, count).CopyTo(destination);
            destination = destination[count..];
            left -= count;
            offset = 0;
            block = block.Next;
        }
    }

    /// <summary>Returns every block; nothing is left to send or to acknowledge.</summary>
    internal void ReturnAll()
    {
        _blocks.ReturnAll();
        Memory = 0;
        _nextBlock = null;
        _nextOffset = 0;
        _headAcked = 0;
        UnsentBytes = 0;
        for (; Count > 0; Count--)
            this[Count - 1] = default;
        DropLargeRing();
    }

    // All entries are cleared.
    private void DropLargeRing()
    {
        _first = 0;
        if (_ring.Length <= LargestSpareRing)
            return;
        Free(_ring, clear: false);
        // Not the smaller ones, which would be made anew for the next long flight.
        _ring = NewRing(SmallestPooledRing);
    }

    // A power of two. Large ones are shared by all, since a flight that fills one is short.
    private static SentSegment[] NewRing(int length) =>
        length < SmallestPooledRing ? new SentSegment[length] : ArrayPool<SentSegment>.Shared.Rent(length);

    private static void Free(SentSegment[] ring, bool clear)
    {
        if (ring.Length >= SmallestPooledRing)
            ArrayPool<SentSegment>.Shared.Return(ring, clear);
    }

    private ref SentSegment AddLast()
    {
        if (Count == _ring.Length)
        {
            SentSegment[] ring = NewRing(Math.Max(SmallestRing, Count * 2));
            for (int i = 0; i < Count; i++)
                ring[i] = this[i];
            Free(_ring, clear: true);
            _ring = ring;
            _first = 0;
        }
        Count++;
        return ref this[Count - 1];
    }
}

using System.Buffers;

namespace Xdp.TcpLite;

/// <summary>
/// One contiguous piece of memory and the bytes in it: a UMEM frame, or a pooled heap block. Blocks link into a
/// <see cref="BlockQueue"/>, which is at the same time the segment list behind a <see cref="ReadOnlySequence{T}"/>.
/// </summary>
/// <remarks>
/// A block has exactly one owner at a time, and only the owner touches its fields. Ownership moves with the block: into
/// the stack by <c>Receive</c> and <c>Write</c>, out of it by <c>TakeReceived</c> and <c>Emit</c>. The last owner
/// calls <see cref="Return"/>, once, from any thread.
/// </remarks>
public sealed class Block : ReadOnlySequenceSegment<byte>
{
    private readonly FramePool? _frames;
    private readonly BlockPool? _blocks;
    private byte[]? _array;
    private int _arrayOffset;
    private Memory<byte> _memory;

    internal Block(FramePool frames, int index, byte[]? array, int arrayOffset, Memory<byte> memory)
        : this(index, array, arrayOffset, memory) => _frames = frames;

    internal Block(BlockPool blocks, int index, byte[] array, int arrayOffset, int capacity)
        : this(index, array, arrayOffset, array.AsMemory(arrayOffset, capacity)) => _blocks = blocks;

    /// <summary>A slice: see <see cref="Cut"/>.</summary>
    internal Block() => Index = -1;

    private Block(int index, byte[]? array, int arrayOffset, Memory<byte> memory)
    {
        Index = index;
        _array = array;
        _arrayOffset = arrayOffset;
        _memory = memory;
        Capacity = memory.Length;
    }

    /// <summary>
    /// Its place in its pool: for a UMEM frame, the frame number. -1 for a heap block that is larger than the pool's.
    /// </summary>
    public int Index { get; }

    /// <summary>Bytes of memory, headroom included.</summary>
    public int Capacity { get; private set; }

    /// <summary>Where the block's bytes start, counted from the start of its memory.</summary>
    public int Start { get; set; }

    /// <summary>How many bytes the block holds.</summary>
    public int Length { get; set; }

    public int End => Start + Length;

    /// <summary>Bytes of memory behind the block's last byte.</summary>
    public int Room => Capacity - Start - Length;

    public bool IsFrame => _frames is not null;

    /// <summary>All of the block's memory.</summary>
    public Span<byte> Span => _array is not null ? new Span<byte>(_array, _arrayOffset, Capacity) : _memory.Span;

    /// <summary>All of the block's memory.</summary>
    public Memory<byte> AllMemory => _memory;

    /// <summary>The bytes that the block holds.</summary>
    public Span<byte> Bytes => Span.Slice(Start, Length);

    public new Block? Next
    {
        get => (Block?)base.Next;
        internal set => base.Next = value;
    }

    /// <summary>
    /// Who holds the block. A heap block is either <see cref="FrameState.Free"/> or
    /// <see cref="FrameState.Application"/>.
    /// </summary>
    internal FrameState State { get; set; }

    /// <summary>The driver may still read the frame: it is submitted to the TX ring and not completed.</summary>
    public bool InKernel { get; internal set; }

    /// <summary>The stack has let go of the frame while the kernel had it. Its completion frees it.</summary>
    internal bool FreeOnCompletion { get; set; }

    /// <summary>Counts hand-outs, so that a holder can tell that its block has been recycled.</summary>
    internal uint Generation { get; set; }

    /// <summary>Link of the pool's free stack: index + 1 of the next free block, 0 at the end.</summary>
    internal int NextFree;

    /// <summary>The block that this is a slice of; null for a block that is one itself.</summary>
    internal Block? Page { get; private set; }

    /// <summary>Slices that this block has been cut into.</summary>
    internal int Slices { get; private set; }

    /// <summary>
    /// Shows the block's bytes to readers of the sequence, as its <see cref="ReadOnlySequenceSegment{T}.Memory"/>.
    /// Must be called again when the block has grown.
    /// </summary>
    /// <param name="runningIndex">Bytes of the sequence before this block.</param>
    public void Expose(long runningIndex)
    {
        Memory = _memory.Slice(Start, Length);
        RunningIndex = runningIndex;
    }

    /// <summary>
    /// Appends as much of <paramref name="source"/> as there is room for, and returns how many bytes that was.
    /// </summary>
    public int Append(ReadOnlySpan<byte> source)
    {
        int count = Math.Min(Room, source.Length);
        source[..count].CopyTo(Span[End..]);
        Length += count;
        return count;
    }

    /// <summary>Gives the block back to its pool. The caller's ownership ends here. Any thread.</summary>
    public void Return()
    {
        if (_frames is not null)
            _frames.Return(this);
        else
            _blocks!.Return(this);
    }

    /// <summary>
    /// Makes this a slice that begins where the bytes of <paramref name="page"/> end. It is empty. Who has the page has
    /// its slices, and ends each with <see cref="Uncut"/>; a slice is never returned to a pool.
    /// </summary>
    internal void Cut(Block page)
    {
        Reset();
        (_array, _arrayOffset, _memory, Capacity) = (page._array, page._arrayOffset, page._memory, page.Capacity);
        Start = page.End;
        Page = page;
        page.Slices++;
    }

    internal void Uncut()
    {
        Page!.Slices--;
        (Page, _array, _memory) = (null, null, default);
    }

    internal void Reset()
    {
        base.Next = null;
        Memory = default;
        Start = 0;
        Length = 0;
        FreeOnCompletion = false;
    }
}

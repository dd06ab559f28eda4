using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;

namespace Xdp.TcpLite;

/// <summary>
/// The frames of one UMEM. Owns which of them are free, and checks every change of a frame's <see cref="FrameState"/>.
/// The queue's turn takes frames for FILL and for segments. Application threads take frames to write into, and return
/// what they have read.
/// </summary>
public sealed class FramePool
{
    /// <summary>
    /// Payload of a frame to be sent starts this many bytes in. The room before it holds TX metadata and up to 122
    /// bytes of headers: Ethernet with two VLAN tags 22, IPv6 40, TCP 60.
    /// </summary>
    public const int PayloadStart = 256;

    /// <summary>What freed memory is overwritten with when poisoning is on.</summary>
    public const byte PoisonByte = 0xDB;

    private readonly int _receiveReserve;

    /// <summary>
    /// Free frames that writers leave. If they took the last one, no ACK and no retransmission could be sent. Then
    /// nothing would be acknowledged, and no frame would ever come free.
    /// </summary>
    private readonly int _writingReserve;
    private Block[] _frames;
    private FreeStack _free;
    private int _deliveredToApplication;
    private int _returnedByApplication;

    /// <param name="memory">
    /// The UMEM: <paramref name="frameCount"/> × <paramref name="frameSize"/> bytes. It is fastest on top of an array.
    /// </param>
    /// <param name="frameSize">Bytes a frame, 2048 or more.</param>
    /// <param name="frameCount">Number of frames.</param>
    /// <param name="receiveReserve">
    /// Free frames that sending leaves for receiving, so that receiving always goes on.
    /// </param>
    public FramePool(Memory<byte> memory, int frameSize, int frameCount, int receiveReserve)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(frameSize, 2048);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(frameCount, FreeStack.MaxBlocks);
        ArgumentOutOfRangeException.ThrowIfLessThan((long)memory.Length, (long)frameSize * frameCount);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(receiveReserve, frameCount);
        FrameSize = frameSize;
        _receiveReserve = receiveReserve;
        _writingReserve = receiveReserve + (frameCount - receiveReserve) / 8;
        MemoryMarshal.TryGetArray((ReadOnlyMemory<byte>)memory, out ArraySegment<byte> array);
        _frames = new Block[frameCount];
        for (int i = frameCount - 1; i >= 0; i--)
        {
            int offset = i * frameSize;
            _frames[i] = new Block(this, i, array.Array, array.Offset + offset, memory.Slice(offset, frameSize));
            _free.Push(_frames[i]);
        }
    }

    public int FrameSize { get; }

    public int FrameCount => _frames.Length;

    /// <summary>Payload bytes that a frame to be sent holds.</summary>
    public int PayloadCapacity => FrameSize - PayloadStart;

    public int FreeCount => _free.Count;

    /// <summary>
    /// Received frames that are with the application. Exact only while nothing is delivered or returned.
    /// </summary>
    public int ApplicationCount =>
        Volatile.Read(ref _deliveredToApplication) - Volatile.Read(ref _returnedByApplication);

    /// <summary>
    /// Received frames that connections keep until the gap before them is filled. The queue's turn counts them.
    /// </summary>
    internal int KeptAhead { get; set; }

    /// <summary>When set, freed frames are overwritten with a pattern, to show up use after free.</summary>
    public bool Poison { get; init; }

    public Block this[int index] => _frames[index];

    /// <summary>
    /// The frame that an address from the kernel lies in, and where in it. Fails fast when the address lies outside the
    /// UMEM: then the kernel is at fault, or memory is corrupt.
    /// </summary>
    public Block FromAddress(ulong address, out int offset)
    {
        ulong index = address / (uint)FrameSize;
        if (index >= (uint)_frames.Length)
            FailFast($"address 0x{address:x} lies outside the UMEM of {_frames.Length} frames of {FrameSize} bytes");
        offset = (int)(address % (uint)FrameSize);
        return _frames[(int)index];
    }

    /// <summary>Address of a byte of a frame in the UMEM, as descriptors carry it.</summary>
    public ulong AddressOf(Block frame, int offset) => (ulong)frame.Index * (uint)FrameSize + (uint)offset;

    /// <summary>Free → Fill. Null when no frame is free.</summary>
    public Block? TryTakeForFill() => TryTake(FrameState.Fill, reserve: 0);

    /// <summary>
    /// Free → Writing, with <see cref="Block.Start"/> at the payload. Null when only the reserves for receiving and for
    /// segments are left. Any thread.
    /// </summary>
    public Block? TryTakeForWriting() => TryTakeForTransmit(FrameState.Writing, _writingReserve);

    /// <summary>
    /// Free → SendQueue, with <see cref="Block.Start"/> at the payload. Null when only the reserve for receiving is
    /// left.
    /// </summary>
    internal Block? TryTakeForSegment() => TryTakeForTransmit(FrameState.SendQueue, _receiveReserve);

    private Block? TryTakeForTransmit(FrameState state, int reserve)
    {
        Block? frame = TryTake(state, reserve);
        if (frame is not null)
            frame.Start = PayloadStart;
        return frame;
    }

    private Block? TryTake(FrameState state, int reserve)
    {
        Block? frame = _free.TryPop(ref _frames, reserve);
        if (frame is null)
            return null;
        frame.Reset();
        frame.Generation++;
        Move(frame, FrameState.Free, state);
        return frame;
    }

    /// <summary>Fill → Rx: the driver has put a packet into the frame.</summary>
    public void Received(Block frame) => Move(frame, FrameState.Fill, FrameState.Rx);

    /// <summary>Rx → Application.</summary>
    internal void Delivered(Block frame)
    {
        Move(frame, FrameState.Rx, FrameState.Application);
        Volatile.Write(ref _deliveredToApplication, _deliveredToApplication + 1);
    }

    /// <summary>Writing → SendQueue: the writer has flushed.</summary>
    internal void Flushed(Block frame) => Move(frame, FrameState.Writing, FrameState.SendQueue);

    /// <summary>The frame's descriptor is on the TX ring.</summary>
    internal void Submitted(Block frame)
    {
        if (frame.State != FrameState.SendQueue || frame.InKernel)
            FailFast($"frame {frame.Index} submitted in state {frame.State}, in kernel: {frame.InKernel}");
        frame.InKernel = true;
    }

    /// <summary>The driver is done with the frame: it came back on the COMPLETION ring.</summary>
    public void Completed(Block frame)
    {
        if (!frame.InKernel)
            FailFast($"frame {frame.Index} completed without being in the kernel, in state {frame.State}");
        frame.InKernel = false;
        if (frame.FreeOnCompletion)
            Return(frame);
    }

    /// <summary>
    /// Any state but Free and Fill → Free. A frame that the kernel still has becomes free at its completion.
    /// </summary>
    internal void Return(Block frame)
    {
        if (frame.InKernel)
        {
            frame.FreeOnCompletion = true;
            return;
        }
        switch (frame.State)
        {
            case FrameState.Application:
                Interlocked.Increment(ref _returnedByApplication);
                break;
            case FrameState.Rx or FrameState.Writing or FrameState.SendQueue:
                break;
            default:
                FailFast($"frame {frame.Index} returned in state {frame.State}");
                break;
        }
        frame.State = FrameState.Free;
        if (Poison)
            frame.Span.Fill(PoisonByte);
        _free.Push(frame);
    }

    /// <summary>
    /// How many frames are in each <see cref="FrameState"/>, which is the index. They add up to
    /// <see cref="FrameCount"/>. Exact only while no frame changes hands.
    /// </summary>
    public int[] CountByState()
    {
        int[] counts = new int[(int)FrameState.SendQueue + 1];
        foreach (Block frame in _frames)
            counts[(int)frame.State]++;
        return counts;
    }

    private static void Move(Block frame, FrameState from, FrameState to)
    {
        if (frame.State != from)
            FailFast($"frame {frame.Index} is {frame.State} where {from} was due, on its way to {to}");
        frame.State = to;
    }

    [DoesNotReturn]
    internal static void FailFast(string message) => Environment.FailFast($"Xdp.TcpLite: {message}");
}

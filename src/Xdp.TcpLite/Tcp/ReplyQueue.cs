namespace Xdp.TcpLite;

/// <summary>
/// Segments that no connection sends: SYN-ACKs of half-open records, RSTs, ACKs for TIME-WAIT and within a batch. A ring of fixed size: what does not fit is
/// dropped like any packet, and its cause comes again if it matters.
/// </summary>
internal sealed class ReplyQueue
{
    private const int Capacity = 1024;

    private readonly Entry[] _entries = new Entry[Capacity];
    private int _first;

    internal int Count { get; private set; }

    private struct Entry
    {
        public LinkPath Path;
        public FlowKey Flow;
        public SegmentFields Fields;
    }

    internal bool TryEnqueue(in LinkPath path, in FlowKey flow, in SegmentFields fields)
    {
        if (Count == Capacity)
            return false;
        ref Entry entry = ref _entries[(_first + Count++) % Capacity];
        entry.Path = path;
        entry.Flow = flow;
        entry.Fields = fields;
        return true;
    }

    /// <summary>Writes the oldest segment into a frame; false when there is none to be had.</summary>
    internal bool TryWriteNext(TcpStack stack, out TxPacket packet)
    {
        packet = default;
        if (stack.Frames.TryTakeForSegment() is not { } frame)
            return false;
        ref Entry entry = ref _entries[_first];
        int start = SegmentWriter.Write(frame.Span, FramePool.PayloadStart, 0, entry.Path, entry.Flow, entry.Fields);
        frame.FreeOnCompletion = true;
        _first = (_first + 1) % Capacity;
        Count--;
        packet = stack.Submit(frame, start, FramePool.PayloadStart - start);
        return true;
    }
}

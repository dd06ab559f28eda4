namespace Xdp.TcpLite;

/// <summary>
/// Segments without payload that are sent once: SYN-ACKs of half-open records, RSTs, ACKs for TIME-WAIT and within a
/// batch. A ring of fixed size. What does not fit is dropped, as any packet may be: what matters comes again.
/// </summary>
/// <param name="options">Settings.</param>
internal sealed class ReplyQueue(TcpStackOptions options)
{
    internal const int Capacity = 1024;

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

    /// <summary>
    /// Takes the oldest segment, which there must be, and writes it so that it ends at
    /// <see cref="FramePool.PayloadStart"/> of the frame. Returns where it starts.
    /// </summary>
    /// <param name="frame">Where to.</param>
    /// <param name="path">Where the segment is sent.</param>
    internal int WriteNext(Span<byte> frame, out LinkPath path)
    {
        ref Entry entry = ref _entries[_first];
        path = entry.Path;
        _first = (_first + 1) % Capacity;
        Count--;
        return SegmentWriter.Write(
            frame, FramePool.PayloadStart, 0, entry.Path, entry.Flow, entry.Fields, options.HopsOf(entry.Flow));
    }
}

namespace Xdp.TcpLite;

/// <summary>
/// The receiving side of a connection (RFC 9293, section 3.8.6). Owns the RCV variables, what was received in order and
/// ahead of a gap, and what is owed an ACK. Decides which segments are acceptable and what window is announced. Does
/// not write the ACK.
/// </summary>
internal struct Receiver
{
    /// <summary>Smaller payloads are copied to join the block before them; a frame for each would be a waste.</summary>
    private const int CopyBelow = 256;

    /// <summary>What a full segment is before one has been seen.</summary>
    private const ushort InitialMss = 536;

    /// <summary>
    /// Memory that copies of what is ahead of a gap may take for each byte of the receive buffer (Linux:
    /// tcp_adv_win_scale 1). They are packed, but pages can come to hold little when what was around it has gone.
    /// </summary>
    private const long MemoryPerByte = 2;

    private ReassemblyQueue? _reassembly;
    private BlockQueue _received;
    private ReceiveBuffer _buffer;

    /// <summary>Right edge of the window as last announced. It never moves back.</summary>
    private SeqNumber _edge;

    /// <summary>Where the peer's FIN is, if it has come and something before it has not.</summary>
    private SeqNumber _finAt;
    private bool _finIsAhead;
    private bool _finReceived;

    /// <summary>
    /// Bytes that the host has released, and keeps for its application all the same. What matters is whether they are
    /// few, and so 16 bits do.
    /// </summary>
    private ushort _keptByHost;

    internal AckPolicy Acks = new();

    internal Receiver(int buffer, int sndMss, Instant now)
    {
        _buffer = new ReceiveBuffer(buffer, now);
        Mss = (ushort)Math.Min(sndMss, InitialMss);
    }

    internal SeqNumber RcvNxt { get; private set; }

    /// <summary>Last.ACK.sent of RFC 7323.</summary>
    internal SeqNumber LastAckSent { get; private set; }

    /// <summary>Rcv.Wind.Shift of RFC 7323.</summary>
    internal byte WindowShift { get; private set; }

    /// <summary>Largest payload seen: what a full segment is for delayed acknowledgements.</summary>
    internal ushort Mss { get; private set; }

    /// <summary>What is received is acknowledged and dropped.</summary>
    internal bool Discards { get; private set; }

    internal long BytesReceived { get; private set; }

    internal readonly int BufferSize => _buffer.Size;

    /// <summary>In-order bytes that have not been taken.</summary>
    internal readonly long ReadableBytes => _received.Bytes;

    /// <summary>Bytes up to the edge that was announced.</summary>
    internal readonly int AnnouncedWindow => Math.Max(0, _edge - RcvNxt);

    /// <summary>Bytes in order that are somewhere in memory, as far as is known.</summary>
    private readonly long Held => (long)_buffer.Unreleased + _keptByHost;

    private readonly bool HasGap => _reassembly is not null;

    /// <summary>The peer's SYN has come.</summary>
    /// <param name="irs">Its number.</param>
    /// <param name="initialWindow">What our SYN announces, which is never scaled.</param>
    /// <param name="shift">Of the windows that follow.</param>
    internal void Start(SeqNumber irs, int initialWindow, byte shift)
    {
        RcvNxt = irs + 1;
        LastAckSent = RcvNxt;
        _edge = RcvNxt + initialWindow;
        WindowShift = shift;
    }

    // ---- the application

    /// <summary>Takes blocks until <paramref name="maxBytes"/> are reached or exceeded.</summary>
    internal BlockQueue Take(long maxBytes)
    {
        BlockQueue taken = default;
        if (_received.Bytes <= maxBytes)
        {
            taken = _received;
            _received = default;
            return taken;
        }
        while (taken.Bytes < maxBytes && _received.Dequeue() is { } block)
            taken.Enqueue(block);
        return taken;
    }

    /// <summary>
    /// The host has room for so many bytes more. True when the peer should be told of the new window before the old one
    /// is full.
    /// </summary>
    /// <param name="bytes">How many.</param>
    /// <param name="kept">Bytes that the host keeps for its application; null when that has not changed.</param>
    /// <param name="isOpen">The peer may still send.</param>
    /// <param name="roundTrip">Of the path.</param>
    /// <param name="environment">How much the buffer may grow, if there is memory.</param>
    internal bool Release(long bytes, long? kept, bool isOpen, TimeSpan roundTrip, StackEnvironment environment)
    {
        if (Discards)
            return false;
        _buffer.OnReleased(bytes);
        if (kept is { } k)
            _keptByHost = (ushort)Math.Min(k, ushort.MaxValue);
        if (!isOpen)
            return false;
        if (!environment.Memory.IsUnderPressure)
            _buffer.Grow(roundTrip, environment.Options.ReceiveBufferMax, environment.Now);
        long window = Window(environment.Memory);
        return window > AnnouncedWindow && window >= 2L * AnnouncedWindow;
    }

    /// <summary>Nobody will read any more.</summary>
    internal void Discard(StackEnvironment environment)
    {
        Discards = true;
        _buffer.OnDiscarded();
        ReturnReceived();
        ClearReassembly(environment);
    }

    /// <summary>Nobody reads any more, and the peer is invited to send no more than so many bytes.</summary>
    /// <returns>False when that is too little for a segment, or for the window field to tell.</returns>
    internal bool Invite(long most)
    {
        _buffer.Limit(most);
        return most >= Math.Max(Mss, 1 << WindowShift);
    }

    /// <summary>What was received and not taken goes home.</summary>
    internal void ReturnReceived() => _received.ReturnAll();

    // ---- arrival

    /// <summary>Is any of the segment in the window (RFC 9293, section 3.10.7.4, first)?</summary>
    internal readonly bool IsAcceptable(in Packet packet)
    {
        int window = AnnouncedWindow;
        return packet.SegmentLength == 0
            ? packet.Seq >= RcvNxt && packet.Seq <= RcvNxt + window
            : packet.End > RcvNxt && packet.Seq < RcvNxt + window;
    }

    /// <summary>
    /// The window is shut, so its data cannot be taken, but its ACK counts (section 3.10.7.4, "special allowance").
    /// </summary>
    internal readonly bool IsWindowProbe(in Packet packet) => AnnouncedWindow == 0 && packet.Seq == RcvNxt;

    /// <summary>Cuts off what is here already and what lies beyond the window. False when nothing is left.</summary>
    /// <param name="packet">The segment, with payload.</param>
    /// <param name="seq">Number of the first byte that is left.</param>
    /// <param name="skipped">Payload bytes before it.</param>
    /// <param name="length">Bytes that are left.</param>
    internal bool TryTrim(in Packet packet, out SeqNumber seq, out int skipped, out int length)
    {
        seq = packet.Seq;
        length = packet.PayloadLength;
        skipped = Math.Max(0, RcvNxt - seq);
        if (skipped > 0)
        {
            Acks.OnDuplicate(seq, RcvNxt);
            Acks.Owe();
            seq += skipped;
            length -= skipped;
        }
        length = Math.Min(length, _edge - seq);
        if (length > 0)
            return true;
        Acks.Owe();
        return false;
    }

    /// <summary>Takes in payload that lies in the window.</summary>
    /// <returns>Whether the frame is kept.</returns>
    internal bool Accept(
        SeqNumber seq, Block frame, int offset, int length, bool hasSack, TcpStackOptions options,
        StackEnvironment environment)
    {
        Acks.OnSegment();
        return seq == RcvNxt
            ? AcceptInOrder(frame, offset, length, options, environment)
            : AcceptAhead(seq, frame, offset, length, hasSack, options, environment);
    }

    /// <summary>
    /// Takes in payload of a segment that lies in several blocks. Each part is treated as if it had come alone, so that
    /// a frame has one owner. Those that are kept leave <see cref="StackEnvironment.FurtherParts"/>.
    /// </summary>
    /// <param name="at">Number of the segment's first byte.</param>
    /// <param name="seq">Number of the first byte that lies in the window and is new.</param>
    /// <param name="first">The block with the headers.</param>
    /// <param name="offset">Of the payload in it.</param>
    /// <param name="length">Bytes from <paramref name="seq"/> on that lie in the window.</param>
    /// <param name="hasSack">The peer knows SACK.</param>
    /// <param name="options">The connection's.</param>
    /// <param name="environment">Of the stack.</param>
    /// <returns>Whether the first block is kept.</returns>
    internal bool AcceptParts(
        SeqNumber at, SeqNumber seq, Block first, int offset, int length, bool hasSack, TcpStackOptions options,
        StackEnvironment environment)
    {
        SeqNumber end = seq + length;
        bool kept = AcceptPart(at, ref seq, end, first, offset, first.End - offset, hasSack, options, environment);
        at += first.End - offset;
        BlockQueue left = default;
        while (environment.FurtherParts.Dequeue() is { } block)
        {
            int count = block.Length;
            if (!AcceptPart(at, ref seq, end, block, block.Start, count, hasSack, options, environment))
                left.Enqueue(block);
            at += count;
        }
        environment.FurtherParts = left;
        return kept;
    }

    /// <param name="at">Number of the part's first byte.</param>
    /// <param name="seq">
    /// Number of the first byte that is wanted. Behind the part's end afterwards; at the window's end once there is no
    /// memory for what is in order: what follows would only make a gap.
    /// </param>
    /// <param name="end">Where the wanted bytes end.</param>
    /// <param name="block">Where the part lies.</param>
    /// <param name="offset">Of its first byte.</param>
    /// <param name="length">Its bytes.</param>
    /// <param name="hasSack">The peer knows SACK.</param>
    /// <param name="options">The connection's.</param>
    /// <param name="environment">Of the stack.</param>
    private bool AcceptPart(
        SeqNumber at, ref SeqNumber seq, SeqNumber end, Block block, int offset, int length, bool hasSack,
        TcpStackOptions options, StackEnvironment environment)
    {
        SeqNumber partEnd = SeqNumber.Min(at + length, end);
        if (RcvNxt > seq && partEnd > seq)
        {
            // The part before this one has filled a gap. What was behind it is here twice.
            SeqNumber known = SeqNumber.Min(RcvNxt, partEnd);
            Acks.OnDuplicate(seq, known);
            Acks.Owe();
            seq = known;
        }
        if (partEnd <= seq)
            return false;
        bool isInOrder = seq == RcvNxt;
        bool kept = Accept(seq, block, offset + (seq - at), partEnd - seq, hasSack, options, environment);
        seq = isInOrder && RcvNxt == seq ? end : partEnd;
        return kept;
    }

    private bool AcceptInOrder(
        Block frame, int offset, int length, TcpStackOptions options, StackEnvironment environment)
    {
        bool kept = false;
        if (!Discards && !TryDeliver(frame, offset, length, options, environment, out kept))
        {
            // Not acknowledged, so it comes again, when there may be memory.
            environment.Drop(DropReason.NoMemory);
            return false;
        }
        RcvNxt += length;
        OnReceived(length);
        if (HasGap)
        {
            TakeFromReassembly(length, environment);
            Acks.Owe();
        }
        Mss = (ushort)Math.Clamp(length, Mss, ushort.MaxValue);
        Acks.OnInOrder(length, Mss, options.DelayedAck, environment.Now);
        return kept;
    }

    private bool AcceptAhead(
        SeqNumber seq, Block frame, int offset, int length, bool hasSack, TcpStackOptions options,
        StackEnvironment environment)
    {
        environment.Counters.OutOfOrderSegments++;
        Acks.OnAhead(hasSack);
        if (Discards)
            return false;
        ReceiveMemory memory = environment.Memory;
        bool keeps = KeepsFrame(frame, length, options, environment.Frames);
        int cost = keeps ? frame.Capacity : length;
        ReassemblyQueue queue = _reassembly ??= memory.Borrow();
        bool kept = false;
        (SeqNumber Left, SeqNumber Right)? duplicate = null;
        long most = MemoryPerByte * _buffer.Size + (long)options.FramesPerConnection * memory.Frames.FrameSize;
        DropReason reason = !queue.PruneAbove(seq, most - cost, memory)
            ? DropReason.ReassemblyFull
            : !memory.TryMakeRoomAhead(cost)
            ? DropReason.NoMemory
            : queue.Insert(seq, frame, offset, length, memory, keeps, out kept, out duplicate);
        ReturnReassemblyIfEmpty(environment);
        if (duplicate is { } d)
            Acks.OnDuplicate(d.Left, d.Right);
        if (reason != DropReason.None)
            environment.Drop(reason);
        return kept;
    }

    /// <summary>
    /// A gap has been filled: what was behind it is in order now. Bytes that came twice are reported.
    /// </summary>
    /// <param name="filled">Bytes up to RCV.NXT that have filled it.</param>
    /// <param name="environment">Of the stack.</param>
    private void TakeFromReassembly(int filled, StackEnvironment environment)
    {
        SeqNumber before = RcvNxt;
        SeqNumber rcvNxt = RcvNxt;
        if (_reassembly!.First is var (left, right) && left < before)
            Acks.OnLaterDuplicate(left, SeqNumber.Min(right, before), news: before - filled);
        _reassembly.TakeInOrder(ref rcvNxt, ref _received, environment.Memory);
        ReturnReassemblyIfEmpty(environment);
        RcvNxt = rcvNxt;
        if (rcvNxt != before)
            OnReceived(rcvNxt - before);
    }

    private void OnReceived(int bytes)
    {
        BytesReceived += bytes;
        if (!Discards)
            _buffer.OnReceived(bytes);
    }

    /// <summary>
    /// Appends payload to what is readable: in its frame, or copied. False when there is no memory for it.
    /// </summary>
    private bool TryDeliver(
        Block frame, int offset, int length, TcpStackOptions options, StackEnvironment environment, out bool kept)
    {
        kept = KeepsFrame(frame, length, options, environment.Frames);
        if (kept)
        {
            Keep(frame, offset, length, environment.Frames);
            return true;
        }
        ReadOnlySpan<byte> payload = frame.Span.Slice(offset, length);
        Block? fresh = null;
        int room = _received.Tail is { IsFrame: false } tail ? Math.Min(tail.Room, length) : 0;
        if (room < length)
        {
            fresh = environment.Memory.TryTake(length - room, Held);
            if (fresh is null)
            {
                kept = frame.IsFrame && environment.Memory.MayKeepFrameInstead;
                if (kept)
                    Keep(frame, offset, length, environment.Frames);
                return kept;
            }
        }
        environment.Counters.HeapCopies++;
        if (room > 0)
            _received.AppendToTail(payload[..room]);
        if (fresh is not null)
        {
            fresh.Append(payload[room..]);
            _received.Enqueue(fresh);
        }
        return true;
    }

    /// <summary>
    /// Small payloads join the block before them; larger ones stay in their frame as long as frames are plenty.
    /// </summary>
    private readonly bool KeepsFrame(Block frame, int length, TcpStackOptions options, FramePool frames) =>
        length > CopyBelow && frame.IsFrame && !options.ForceHeap
        && (_reassembly is null || _reassembly.Frames < options.FramesPerConnection)
        && _received.Bytes < (long)options.FramesPerConnection * Mss
        && 2 * (frames.ApplicationCount + frames.KeptAhead) < frames.FrameCount;

    private void Keep(Block frame, int offset, int length, FramePool frames)
    {
        frame.Start = offset;
        frame.Length = length;
        frames.Delivered(frame);
        _received.Enqueue(frame);
    }

    /// <summary>The segment carries a FIN, which counts once everything before it is here.</summary>
    /// <param name="packet">The segment.</param>
    /// <param name="isOpen">The peer may still send.</param>
    internal void NoteFin(in Packet packet, bool isOpen)
    {
        Acks.Owe();
        if (_finReceived || !isOpen)
            return;
        SeqNumber at = packet.Seq + packet.PayloadLength;
        // A FIN in order is the peer's own. One that was ahead before may have been somebody's guess.
        if (at <= _edge && (!_finIsAhead || at == RcvNxt))
            (_finAt, _finIsAhead) = (at, true);
    }

    /// <summary>True once: everything up to the peer's FIN is here.</summary>
    internal bool TryTakeFin(StackEnvironment environment)
    {
        if (!_finIsAhead || _finAt > RcvNxt)
            return false;
        _finIsAhead = false;
        if (_finAt < RcvNxt || _finReceived)
            return false;
        _finReceived = true;
        ClearReassembly(environment);
        RcvNxt += 1;
        Acks.Owe();
        return true;
    }

    // ---- what is announced

    /// <summary>The window field of the next segment. The edge moves with it.</summary>
    internal ushort Announce(ReceiveMemory memory)
    {
        ushort window = WindowField(memory);
        _edge = SeqNumber.Max(_edge, RcvNxt + (window << WindowShift));
        return window;
    }

    internal readonly ushort WindowField(ReceiveMemory memory) =>
        (ushort)Math.Min(Window(memory) >> WindowShift, ushort.MaxValue);

    /// <summary>
    /// RCV.WND. The right edge never moves back, and moves forward by a full segment or by half the buffer (RFC 1122,
    /// section 4.2.3.3). How far it may move forward is a question of memory, too.
    /// </summary>
    private readonly long Window(ReceiveMemory memory)
    {
        long announced = AnnouncedWindow;
        long room = Math.Clamp(_buffer.Room, 0, (long)ushort.MaxValue << WindowShift);
        int step = Math.Min(Mss, _buffer.Size / 2);
        // What is received and discarded takes no memory.
        if (room - announced >= Math.Max(step, 1) && !Discards)
            room = memory.Promise(room, Held, Mss);
        return room - announced >= Math.Max(step, 1) ? room : announced;
    }

    /// <summary>A gap or a duplicate is to be reported, which data cannot do.</summary>
    internal readonly bool OwesBareAck(bool hasSack) => Acks.IsDue && (HasGap || (hasSack && Acks.HasDuplicate));

    /// <summary>Adds SACK blocks to a bare ACK: what came twice first, then what is ahead of the gap.</summary>
    /// <param name="fields">The ACK.</param>
    /// <param name="most">Blocks there is room for.</param>
    internal void WriteSack(ref SegmentFields fields, int most)
    {
        Acks.WriteDuplicate(ref fields.Sack);
        _reassembly?.WriteSackBlocks(ref fields.Sack, most);
    }

    /// <summary>Everything up to RCV.NXT is acknowledged.</summary>
    internal void OnSent(bool settles)
    {
        Acks.OnSent(settles);
        LastAckSent = RcvNxt;
    }

    /// <inheritdoc cref="OnSent"/>
    internal void OnSentWithinBatch()
    {
        Acks.OnSentWithinBatch();
        LastAckSent = RcvNxt;
    }

    // ---- the reassembly queue, which is lent

    internal void ClearReassembly(StackEnvironment environment)
    {
        _reassembly?.Clear(environment.Memory);
        ReturnReassemblyIfEmpty(environment);
    }

    private void ReturnReassemblyIfEmpty(StackEnvironment environment)
    {
        if (_reassembly is not { IsEmpty: true } empty)
            return;
        _reassembly = null;
        environment.Memory.Return(empty);
    }
}

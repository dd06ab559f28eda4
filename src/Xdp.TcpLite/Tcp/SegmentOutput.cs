namespace Xdp.TcpLite;

/// <summary>What has become of an attempt to write a segment.</summary>
internal enum WriteResult
{
    /// <summary>There is none to be sent now.</summary>
    Nothing,

    Written,

    /// <summary>There is one, and no frame for it.</summary>
    Starved,
}

/// <summary>The parts of a connection that have their say in each of its segments. Valid for one call.</summary>
internal readonly ref struct SegmentSources(
    StackEnvironment environment, TcpStackOptions options, Route route, ref readonly FlowKey flow,
    ref Receiver receiver, ref Sender sender, ref readonly Timestamps timestamps, ref Ecn ecn, Instant now)
{
    internal readonly StackEnvironment Environment = environment;
    internal readonly TcpStackOptions Options = options;
    internal readonly Route Route = route;
    internal readonly ref readonly FlowKey Flow = ref flow;
    internal readonly ref Receiver Receiver = ref receiver;
    internal readonly ref Sender Sender = ref sender;
    internal readonly ref readonly Timestamps Timestamps = ref timestamps;
    internal readonly ref Ecn Ecn = ref ecn;
    internal readonly Instant Now = now;
}

/// <summary>
/// Writes a connection's segments into frames: takes a frame where the payload does not lie in one, fills in the
/// headers, and tells the <see cref="Sender"/> and the <see cref="Receiver"/> what was sent. What is sent next is the
/// sender's decision. Owns the IPv4 identification and the number of segments.
/// </summary>
internal struct SegmentOutput
{
    private ushort _ipId;

    /// <summary>Segments written, RSTs not counted.</summary>
    internal uint Count { get; private set; }

    /// <summary>Writes our SYN.</summary>
    /// <param name="from">The connection's parts.</param>
    /// <param name="opening">What the SYN offers.</param>
    /// <param name="answers">It is the SYN-ACK of a simultaneous open.</param>
    /// <param name="packet">The segment.</param>
    internal WriteResult WriteSyn(in SegmentSources from, ActiveOpen opening, bool answers, out TxPacket packet)
    {
        StackEnvironment environment = from.Environment;
        FramePool frames = environment.Frames;
        packet = default;
        if (frames.TryTakeForSegment() is not { } frame)
            return WriteResult.Starved;
        opening.OnSent();
        SegmentFields fields = SynOptions.Fields(
            environment.Options, frames.PayloadCapacity, from.Flow, opening.Options, from.Route, answers,
            from.Now);
        fields.Seq = from.Sender.SndUna;
        fields.Ack = from.Receiver.RcvNxt;
        Submit(from, frame, length: 0, fields, out packet);
        frame.FreeOnCompletion = true;
        return WriteResult.Written;
    }

    /// <summary>Writes what the sender has decided on; else the probe or the ACK that is due.</summary>
    internal WriteResult WriteNext(in SegmentSources from, in SendDecision next, out TxPacket packet)
    {
        if (next.IsRetransmission)
            return WriteAgain(from, next.Retransmission, out packet);
        if (next.IsNew)
            return WriteNew(from, next, out packet);
        return from.Sender.ProbeIsDue
            ? WriteBare(from, from.Sender.SndUna - 1, out packet)
            : WriteAckIfDue(from, out packet);
    }

    internal WriteResult WriteAckIfDue(in SegmentSources from, out TxPacket packet)
    {
        packet = default;
        return from.Receiver.Acks.IsDue
            ? WriteBare(from, from.Sender.SndNxt, out packet)
            : WriteResult.Nothing;
    }

    /// <summary>
    /// Queues an ACK while more of the same batch is to come. One ACK for all of the batch would leave the sender
    /// without its clock, and a whole flight without an answer if that ACK is lost.
    /// </summary>
    internal void AckWithinBatch(in SegmentSources from)
    {
        NextFields(from, from.Sender.SndNxt, length: 0, TcpFlags.Ack, retransmission: false, out SegmentFields fields);
        if (!from.Environment.Reply(from.Route.Value, from.Flow, fields))
            return;
        from.Receiver.OnSentWithinBatch();
        Count++;
    }

    /// <summary>Queues a RST.</summary>
    internal static void Reset(in SegmentSources from)
    {
        var reset = new SegmentFields
        {
            Seq = from.Sender.SndNxt,
            Ack = from.Receiver.RcvNxt,
            Flags = TcpFlags.Rst | TcpFlags.Ack,
        };
        from.Environment.Reply(from.Route.Value, from.Flow, reset);
    }

    private WriteResult WriteAgain(in SegmentSources from, int index, out TxPacket packet)
    {
        if (!TryWriteQueued(from, index, retransmission: true, out packet))
            return WriteResult.Starved;
        from.Sender.OnRetransmitted(index, from.Options, from.Timestamps, from.Environment.Counters, from.Now);
        return WriteResult.Written;
    }

    private WriteResult WriteNew(in SegmentSources from, in SendDecision next, out TxPacket packet)
    {
        int index = from.Sender.Cut(next, from.Environment, from.Now);
        if (!TryWriteQueued(from, index, retransmission: false, out packet))
        {
            from.Sender.Uncut(from.Environment);
            return WriteResult.Starved;
        }
        from.Sender.OnSent(index, next, from.Options, from.Now);
        return WriteResult.Written;
    }

    /// <summary>A segment without payload: an ACK, or with a number from before the window a probe.</summary>
    private WriteResult WriteBare(in SegmentSources from, SeqNumber seq, out TxPacket packet)
    {
        packet = default;
        if (from.Environment.Frames.TryTakeForSegment() is not { } frame)
            return WriteResult.Starved;
        Seal(from, frame, seq, length: 0, TcpFlags.Ack, retransmission: false, out packet);
        frame.FreeOnCompletion = true;
        from.Sender.ProbeIsDue = false;
        return WriteResult.Written;
    }

    /// <summary>
    /// Writes a segment of the send queue: where its payload lies, or into a fresh frame. False when there is none.
    /// </summary>
    private bool TryWriteQueued(in SegmentSources from, int index, bool retransmission, out TxPacket packet)
    {
        SendQueue queue = from.Sender.Flight!.Queue;
        ref SentSegment segment = ref queue[index];
        Block frame;
        if (segment.Length > 0 && SendQueue.IsInPlace(segment))
        {
            frame = segment.Block!;
        }
        else
        {
            if (from.Environment.Frames.TryTakeForSegment() is not { } fresh)
            {
                packet = default;
                return false;
            }
            frame = fresh;
            SendQueue.CopyPayload(segment, frame.Span[FramePool.PayloadStart..]);
        }
        TcpFlags flags = TcpFlags.Ack;
        if (segment.Has(SentFlags.Fin))
            flags |= TcpFlags.Fin;
        if (segment.Length > 0 && (segment.Length < from.Sender.Mss || queue.UnsentBytes == 0))
            flags |= TcpFlags.Psh;
        Seal(from, frame, segment.Seq, segment.Length, flags, retransmission, out packet);
        if (!ReferenceEquals(frame, segment.Block))
            frame.FreeOnCompletion = true;
        return true;
    }

    private void Seal(
        in SegmentSources from, Block frame, SeqNumber seq, int length, TcpFlags flags, bool retransmission,
        out TxPacket packet)
    {
        NextFields(from, seq, length, flags, retransmission, out SegmentFields fields);
        if (length > 0 && !retransmission)
            from.Receiver.Acks.OnDataSent(from.Options.DelayedAck, from.Now);
        from.Receiver.OnSent(settles: length == 0 || !from.Receiver.OwesBareAck(from.Sender.HasSack));
        from.Environment.Counters.BytesOut += length;
        Submit(from, frame, length, fields, out packet);
    }

    /// <summary>Writes the headers in front of the payload.</summary>
    private void Submit(
        in SegmentSources from, Block frame, int length, in SegmentFields fields, out TxPacket packet)
    {
        Route route = from.Route;
        route.IsUsed = true;
        int start = SegmentWriter.Write(
            frame.Span, FramePool.PayloadStart, length, route.Value, from.Flow, fields,
            from.Options.HopsOf(from.Flow));
        Count++;
        from.Environment.Submit(frame, start, FramePool.PayloadStart - start + length, route.Value, out packet);
    }

    private void NextFields(
        in SegmentSources from, SeqNumber seq, int length, TcpFlags flags, bool retransmission,
        out SegmentFields fields)
    {
        ref readonly Timestamps timestamps = ref from.Timestamps;
        fields = default;
        fields.Seq = seq;
        fields.Ack = from.Receiver.RcvNxt;
        fields.Flags = flags;
        fields.Window = from.Receiver.Announce(from.Environment.Memory);
        fields.IpId = _ipId++;
        fields.MayFragment = from.Route.IsMtuLocked;
        if (timestamps.Enabled)
        {
            fields.HasTimestamps = true;
            fields.TsVal = timestamps.At(from.Now);
            fields.TsEcr = timestamps.Recent;
        }
        if (from.Sender.HasSack && length == 0)
            from.Receiver.WriteSack(ref fields, most: timestamps.Enabled ? 3 : 4);
        from.Ecn.Mark(ref fields, length, retransmission);
    }
}

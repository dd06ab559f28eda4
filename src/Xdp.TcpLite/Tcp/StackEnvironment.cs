namespace Xdp.TcpLite;

/// <summary>
/// What the parts of one stack share: settings, time, memory, counters, the flow table, the timer wheel, and the queue
/// of segments that no connection sends. It knows none of the parts, so they can be built and tested without the stack.
/// Called by whoever may call the stack.
/// </summary>
internal sealed class StackEnvironment
{
    /// <param name="options">Settings.</param>
    /// <param name="frames">The queue's UMEM.</param>
    /// <param name="blocks">Heap memory.</param>
    /// <param name="secret">32 random bytes.</param>
    /// <param name="now">The present.</param>
    internal StackEnvironment(
        TcpStackOptions options, FramePool frames, BlockPool blocks, ReadOnlySpan<byte> secret, Instant now)
    {
        Options = options;
        Frames = frames;
        Blocks = blocks;
        Memory = new ReceiveMemory(options, frames, blocks, Counters);
        Now = now;
        Wheel = new TimerWheel(now);
        Flows = new FlowTable(secret[..16]);
        Isn = new IsnGenerator(secret[16..32]);
        Replies = new ReplyQueue(options);
    }

    /// <summary>Settings. The MTU among them is the interface's present one: the stack sets it.</summary>
    internal TcpStackOptions Options { get; set; }
    internal TcpStackCounters Counters { get; } = new();
    internal FramePool Frames { get; }
    internal BlockPool Blocks { get; }
    internal LendingPool<Flight> Flights { get; } = new(Flight.MostSpare);
    internal ReceiveMemory Memory { get; }
    internal PathCache Paths { get; } = new();

    /// <summary>Null where the way that a packet came is the way back. The stack sets it.</summary>
    internal IRoutes? Routes { get; set; }

    internal FlowTable Flows { get; }
    internal TimerWheel Wheel { get; }
    internal IsnGenerator Isn { get; }
    internal ReplyQueue Replies { get; }

    /// <summary>
    /// While a segment is worked through that lies in several blocks: those behind the first. What is kept of them is
    /// taken out.
    /// </summary>
    internal BlockQueue FurtherParts;

    /// <summary>
    /// The time of the call that is being carried out, or of the last one that said. The stack sets it.
    /// </summary>
    internal Instant Now { get; set; }

    /// <summary>The way to the peer of a packet that has come; null while the host has to find out.</summary>
    /// <param name="packet">The packet.</param>
    /// <param name="ask">Does the host find out?</param>
    internal Route? RouteBack(in Packet packet, bool ask) =>
        Routes is { } routes ? routes.Find(packet.Flow, ask) : Paths.Share(packet.Path);

    internal void Drop(DropReason reason) => Counters[reason]++;

    /// <summary>Queues a segment that carries no payload and is never sent again.</summary>
    /// <returns>False when too many wait already; the segment is dropped then.</returns>
    internal bool Reply(in LinkPath path, in FlowKey flow, in SegmentFields fields)
    {
        if ((fields.Flags & TcpFlags.Rst) != 0)
            Counters.RstsSent++;
        return Replies.TryEnqueue(path, flow, fields);
    }

    /// <summary>Hands a written segment to the caller of <see cref="TcpStack.Emit"/>.</summary>
    internal void Submit(Block frame, int start, int length, in LinkPath path, out TxPacket packet)
    {
        Frames.Submitted(frame);
        Counters.SegmentsOut++;
        packet.Frame = frame;
        packet.Start = start;
        packet.Length = length;
        packet.LinkHeaderLength = path.HeaderLength;
    }
}

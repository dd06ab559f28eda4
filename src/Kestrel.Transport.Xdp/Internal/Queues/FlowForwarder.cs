using System.Collections.Concurrent;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Queues;

/// <summary>
/// Segments that came to a queue whose stack does not know their flow: RSS or the network has moved the flow, or nobody
/// knows it. They go to the queue that does, of whichever interface. Owns the segments that other queues have forwarded
/// to this one.
/// </summary>
internal sealed class FlowForwarder(
    IQueueOwner owner, XdpQueue queue, TcpStack stack, QueueRoutes routes, QueueCounters counters)
{
    /// <summary>
    /// Counts as so many visited queues: a queue of another interface has handed the packet over. No other is asked.
    /// </summary>
    internal const int HandedOver = 1 << 16;

    // Segments that wait here. More are dropped, as a full RX ring would drop them.
    private const int Limit = 1024;

    private readonly ConcurrentQueue<(BlockQueue Packet, int Visited)> _arrived = new();

    /// <summary>Other queues have forwarded segments to this one. Any thread.</summary>
    internal bool HasArrivals => !_arrived.IsEmpty;

    /// <summary>
    /// Does what is left to do with a packet that the stack has neither kept nor used, in a turn.
    /// </summary>
    /// <param name="result">What the stack said of it.</param>
    /// <param name="frame">The frame or block that it is in. Is returned.</param>
    /// <param name="start">Where it begins in there.</param>
    /// <param name="length">Its bytes.</param>
    /// <param name="flow">Its flow, seen from this host.</param>
    /// <param name="now">The present.</param>
    internal void Handle(ReceiveResult result, Block frame, int start, int length, in FlowKey flow, Instant now)
    {
        (frame.Start, frame.Length) = (start, length);
        BlockQueue packet = default;
        packet.Enqueue(frame);
        Handle(result, ref packet, flow, visited: 1, now);
    }

    /// <summary>The same for a packet that may lie in several blocks, which are all returned.</summary>
    /// <param name="result">What the stack said of it.</param>
    /// <param name="packet">The packet.</param>
    /// <param name="flow">Its flow, seen from this host.</param>
    /// <param name="visited">Queues that do not know the flow.</param>
    /// <param name="now">The present.</param>
    internal void Handle(ReceiveResult result, ref BlockQueue packet, in FlowKey flow, int visited, Instant now)
    {
        switch (result)
        {
            case ReceiveResult.UnknownFlow:
                Forward(packet, flow, visited, now);
                break;
            case ReceiveResult.RouteUnknown:
                Keep(packet, flow, visited);
                break;
            case ReceiveResult.Elsewhere:
                HandOver(packet, flow, again: visited >= HandedOver);
                break;
        }
        packet.ReturnAll();
    }

    /// <summary>A packet that is in heap blocks, and whose peer's route is known now. In the turn.</summary>
    internal void Arrive(in QueueRoutes.WaitingPacket waiting) => _arrived.Enqueue((waiting.Packet, waiting.Visited));

    /// <summary>
    /// A packet from another queue, as a copy in heap blocks. It is this queue's now, unless it has no room for it. Any
    /// thread.
    /// </summary>
    internal bool TryArrive(ref BlockQueue packet, int visited)
    {
        if (!HasRoom)
            return false;
        _arrived.Enqueue((packet, visited));
        packet = default;
        // It may have been closed, and cleared, just before.
        if (queue.IsClosed)
            Clear();
        queue.Wake();
        return true;
    }

    /// <summary>
    /// Forwards a segment. Its owner gets a copy, since frames stay with their queue. Handshakes and TIME-WAIT are in
    /// no directory, so a segment without an owner goes round once, past the queues that have none of either. Only when
    /// no queue knows it, it is answered with RST. In the turn.
    /// </summary>
    private void Forward(in BlockQueue packet, in FlowKey flow, int visited, Instant now)
    {
        XdpQueue? target = OwnerOf(flow) ?? NextToAsk(ref visited);
        if (target is null)
        {
            if (stack.RefuseChain(packet, now))
                counters.Refused++;
            else
                Keep(packet, flow, visited);
            return;
        }
        if (target.Forwarder.HasRoom && TryCopy(packet, out BlockQueue copy))
            Pass(target, ref copy, visited);
        else
            counters.ForwardedDropped++;
    }

    /// <summary>A packet is for a queue of the interface that answers it. It is a copy, and that queue's now.</summary>
    internal void HandOver(XdpQueue target, ref BlockQueue packet) => Pass(target, ref packet, HandedOver);

    private void Pass(XdpQueue target, ref BlockQueue copy, int visited)
    {
        // A link that has checksums left to complete has them completed for others.
        if (queue.Settings.AcceptPartialChecksum && !target.Settings.AcceptPartialChecksum
            && copy.Head is { Next: null } whole)
        {
            PartialChecksum.Complete(whole.Span.Slice(whole.Start, whole.Length));
        }
        if (target.Forwarder.TryArrive(ref copy, visited))
        {
            counters.Forwarded++;
            return;
        }
        counters.ForwardedDropped++;
        copy.ReturnAll();
    }

    // Until the way to its peer is known.
    private void Keep(in BlockQueue packet, in FlowKey flow, int visited)
    {
        if (TryCopy(packet, out BlockQueue copy) && routes.TryKeep(copy, visited, flow))
            return;
        copy.ReturnAll();
        counters.RouteDropped++;
    }

    private void HandOver(in BlockQueue packet, in FlowKey flow, bool again)
    {
        if (routes.Known(flow) is not { } route || !TryCopy(packet, out BlockQueue copy))
        {
            counters.RouteDropped++;
            return;
        }
        counters.HandedOver++;
        owner.HandOver(queue, flow, route, ref copy, again);
    }

    /// <summary>Hands what other queues have forwarded to the stack. In the turn.</summary>
    internal void Receive(Instant now)
    {
        long blocks = 0;
        while (blocks < QueueRings.ReceiveBudget && _arrived.TryDequeue(out var arrival))
        {
            (BlockQueue packet, int visited) = arrival;
            blocks += 1 + packet.Bytes / BlockPool.BlockSize;
            ReceiveResult result = stack.ReceiveChain(ref packet, now, out FlowKey flow);
            Handle(result, ref packet, flow, visited, now);
        }
    }

    /// <summary>The queue is closed: its blocks are the process's. Any thread.</summary>
    internal void Clear()
    {
        while (_arrived.TryDequeue(out (BlockQueue Packet, int) arrival))
            arrival.Packet.ReturnAll();
    }

    // All of it, or nothing. The headers stay in one block, as they were in one frame, which is smaller.
    private bool TryCopy(in BlockQueue packet, out BlockQueue copy)
    {
        copy = default;
        for (Block? block = packet.Head; block is not null; block = block.Next)
        {
            ReadOnlySpan<byte> bytes = block.Bytes;
            bytes = bytes[copy.AppendToTail(bytes)..];
            if (bytes.IsEmpty)
                continue;
            if (queue.Blocks.TryTake() is not { } fresh)
            {
                copy.ReturnAll();
                return false;
            }
            fresh.Append(bytes);
            copy.Enqueue(fresh);
        }
        return true;
    }

    // Counts the queues that need not be asked, and the one that is.
    private XdpQueue? NextToAsk(ref int visited)
    {
        for (XdpQueue candidate = queue; visited < owner.QueueCount; visited++)
        {
            if (owner.Next(candidate) is not { } next || next == queue)
                return null;
            candidate = next;
            if (candidate.ExpectsOtherSegments)
            {
                visited++;
                return candidate;
            }
        }
        return null;
    }

    private bool HasRoom => !queue.IsClosed && _arrived.Count < Limit;

    private XdpQueue? OwnerOf(in FlowKey flow) =>
        owner.Flows.Find(flow)?.Host is XdpQueue found && found != queue ? found : null;
}

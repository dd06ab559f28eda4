using System.Collections.Concurrent;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Queues;

/// <summary>
/// Segments that came to a queue whose stack does not know their flow: RSS has moved the flow, or nobody knows it. They
/// go to the queue that does. Owns the segments that other queues have forwarded to this one.
/// </summary>
internal sealed class FlowForwarder(IQueueOwner owner, XdpQueue queue, TcpStack stack, QueueCounters counters)
{
    // Segments that wait here. More are dropped, as a full RX ring would drop them.
    private const int Limit = 1024;

    private readonly ConcurrentQueue<(BlockQueue Packet, int Visited)> _arrived = new();

    /// <summary>Other queues have forwarded segments to this one. Any thread.</summary>
    internal bool HasArrivals => !_arrived.IsEmpty;

    /// <summary>
    /// Forwards a segment. Its owner gets a copy, since frames stay with their queue. Handshakes and TIME-WAIT are in
    /// no directory, so a segment without an owner goes round once, past the queues that have none of either. Only when
    /// no queue knows it, it is answered with RST. In the turn.
    /// </summary>
    /// <param name="segment">The frame or block that it is in. Is returned.</param>
    /// <param name="start">Where it begins in there.</param>
    /// <param name="length">Its bytes.</param>
    /// <param name="flow">Its flow, seen from this host.</param>
    /// <param name="visited">Queues that do not know the flow.</param>
    /// <param name="now">The present.</param>
    internal void Forward(Block segment, int start, int length, in FlowKey flow, int visited, Instant now)
    {
        (segment.Start, segment.Length) = (start, length);
        BlockQueue packet = default;
        packet.Enqueue(segment);
        Forward(ref packet, flow, visited, now);
    }

    /// <summary>The same for a segment that may lie in several blocks, which are all returned.</summary>
    internal void Forward(ref BlockQueue packet, in FlowKey flow, int visited, Instant now)
    {
        XdpQueue? target = OwnerOf(flow) ?? NextToAsk(ref visited);
        if (target is null)
        {
            counters.Refused++;
            stack.RefuseChain(packet, now);
        }
        else if (target.Forwarder.HasRoom && TryCopy(packet, out BlockQueue copy))
        {
            counters.Forwarded++;
            target.Forwarder._arrived.Enqueue((copy, visited));
            // It may have been closed, and cleared, just before.
            if (target.IsClosed)
                target.Forwarder.Clear();
            target.Wake();
        }
        else
        {
            counters.ForwardedDropped++;
        }
        packet.ReturnAll();
    }

    /// <summary>Hands what other queues have forwarded to the stack. In the turn.</summary>
    internal void Receive(Instant now)
    {
        long blocks = 0;
        while (blocks < QueueRings.ReceiveBudget && _arrived.TryDequeue(out var arrival))
        {
            (BlockQueue packet, int visited) = arrival;
            blocks += 1 + packet.Bytes / BlockPool.BlockSize;
            if (stack.ReceiveChain(ref packet, now, out FlowKey flow) == ReceiveResult.UnknownFlow)
                Forward(ref packet, flow, visited, now);
            packet.ReturnAll();
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

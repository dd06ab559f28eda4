namespace Xdp.TcpLite;

/// <summary>
/// RSTs for segments that belong to no connection (RFC 9293, section 3.5.2). Owns their rate. Linux has none: each
/// answers a segment that was no smaller. It leaves a flood of spoofed segments less of the stack's time. It is high
/// enough that a server which starts again soon tells the clients of its predecessor.
/// </summary>
internal sealed class ResetLimiter(StackEnvironment environment)
{
    private const int PerSecond = 50_000;
    internal const int Burst = 1000;

    private TokenBucket _bucket = new(PerSecond, Burst);

    /// <summary>Answers with a RST, unless the segment is one itself or the rate is used up.</summary>
    internal void Answer(in Packet packet)
    {
        if (packet.IsRst || environment.RouteBack(packet, ask: false) is not { Kind: not RouteKind.Refused } route
            || !_bucket.TryTake(environment.Now))
        {
            return;
        }
        environment.Reply(route.Value, packet.Flow, packet.IsAck
            ? new SegmentFields { Seq = packet.Ack, Flags = TcpFlags.Rst }
            : new SegmentFields { Ack = packet.Seq + packet.SegmentLength, Flags = TcpFlags.Rst | TcpFlags.Ack });
    }
}

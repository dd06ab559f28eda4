namespace Xdp.TcpLite;

/// <summary>
/// RSTs for segments that belong to no connection (RFC 9293, section 3.5.2). Owns their rate: without a limit, spoofed
/// segments would make the stack flood whoever they name as their sender.
/// </summary>
internal sealed class ResetLimiter(StackEnvironment environment)
{
    private const int PerSecond = 1000;
    internal const int Burst = 200;

    private TokenBucket _bucket = new(PerSecond, Burst);

    /// <summary>Answers with a RST, unless the segment is one itself or the rate is used up.</summary>
    internal void Answer(in Packet packet)
    {
        if (packet.IsRst || !_bucket.TryTake(environment.Now))
            return;
        environment.Reply(packet.Path, packet.Flow, packet.IsAck
            ? new SegmentFields { Seq = packet.Ack, Flags = TcpFlags.Rst }
            : new SegmentFields { Ack = packet.Seq + packet.SegmentLength, Flags = TcpFlags.Rst | TcpFlags.Ack });
    }
}

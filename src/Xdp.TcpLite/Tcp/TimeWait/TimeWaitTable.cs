namespace Xdp.TcpLite;

/// <summary>
/// Connections in TIME-WAIT (RFC 9293, section 3.6.1). Owns their order of entry and their number, which is bounded:
/// the oldest are forgotten first. The records themselves are in the flow table and the timer wheel, until they are
/// forgotten.
/// </summary>
internal sealed class TimeWaitTable(StackEnvironment environment)
{
    private EntryList<TimeWait> _list;

    internal int Count { get; private set; }

    /// <param name="timeWait">The connection's, whose 4-tuple is free.</param>
    /// <param name="owesAck">The segment that brought the connection here is not acknowledged yet.</param>
    /// <param name="now">The present.</param>
    internal void Add(TimeWait timeWait, bool owesAck, Instant now)
    {
        if (!environment.Flows.TryAdd(timeWait))
            return;
        _list.Add(timeWait);
        Count++;
        environment.Wheel.Schedule(timeWait, now + environment.Options.TimeWait);
        if (owesAck)
            Answer(timeWait, now);
        while (Count > environment.Options.MaxTimeWait && _list.Oldest is { } oldest)
            Forget(oldest);
    }

    /// <summary>Arrival of a segment that opens no new connection (RFC 9293, section 3.10.7.4).</summary>
    /// <remarks>
    /// A RST at RCV.NXT ends TIME-WAIT, as in Linux while tcp_rfc1337 is off. It is what the peer answers when its SYN
    /// was too old and met our ACK. If it were ignored, as RFC 1337 has it, that peer could not connect for as long as
    /// TIME-WAIT lasts. Hosts behind a NAT share ports, so an old SYN need not be a duplicate.
    /// </remarks>
    internal void Receive(TimeWait timeWait, in Packet packet, Instant now)
    {
        if (packet.IsRst && packet.Seq == timeWait.RcvNxt && !environment.Options.IgnoreResetsInTimeWait)
        {
            environment.Counters.RstsReceived++;
            Forget(timeWait);
            return;
        }
        environment.Drop(DropReason.TimeWaitSegment);
        if (packet.IsRst)
            return;
        if (DeservesAnswer(timeWait, packet, now))
            Answer(timeWait, now);
        if (packet.IsFin && packet.End == timeWait.RcvNxt)
            environment.Wheel.Schedule(timeWait, now + environment.Options.TimeWait);
    }

    /// <summary>The time is over, or another connection takes the 4-tuple.</summary>
    internal void Forget(TimeWait timeWait)
    {
        environment.Flows.Remove(timeWait.Key);
        environment.Wheel.Cancel(timeWait);
        _list.Remove(timeWait);
        Count--;
    }

    /// <summary>
    /// Data and FIN are always answered: an ACK may have been lost. The rest is answered at a limited rate, or two
    /// hosts that disagree would answer each other for ever.
    /// </summary>
    private static bool DeservesAnswer(TimeWait timeWait, in Packet packet, Instant now)
    {
        if (packet.SegmentLength > 0 && !packet.IsSyn)
        {
            timeWait.Answers.Note(now);
            return true;
        }
        return (packet.IsSyn || packet.Seq != timeWait.RcvNxt) && timeWait.Answers.TryTake(now);
    }

    private void Answer(TimeWait timeWait, Instant now) =>
        environment.Reply(timeWait.Route.Value, timeWait.Key, new SegmentFields
        {
            Seq = timeWait.SndNxt,
            Ack = timeWait.RcvNxt,
            Flags = TcpFlags.Ack,
            Window = timeWait.Window,
            HasTimestamps = timeWait.Timestamps,
            TsVal = TsClock.At(now) + timeWait.TsOffset,
            TsEcr = timeWait.TsRecent,
        });
}

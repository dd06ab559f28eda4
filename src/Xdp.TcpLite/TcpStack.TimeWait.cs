namespace Xdp.TcpLite;

/// <summary>TIME-WAIT: bounded, reused by a newer SYN (RFC 6191), not cut short by a RST (RFC 1337).</summary>
public sealed partial class TcpStack
{
    private TimeWait? _oldestTimeWait, _newestTimeWait;

    internal void AddTimeWait(TimeWait timeWait, bool owesAck, Instant now)
    {
        if (!_flows.TryAdd(timeWait))
            return;
        if (_newestTimeWait is null)
            _oldestTimeWait = timeWait;
        else
            _newestTimeWait.Newer = timeWait;
        timeWait.Older = _newestTimeWait;
        _newestTimeWait = timeWait;
        TimeWaitCount++;
        Wheel.Schedule(timeWait, now + Options.TimeWait);
        if (owesAck)
            Answer(timeWait);
        while (TimeWaitCount > Options.MaxTimeWait && _oldestTimeWait is { } oldest)
            ForgetTimeWait(oldest);
    }

    private void ReceiveTimeWait(TimeWait timeWait, in Packet packet, Instant now)
    {
        if (packet.IsRst)
        {
            Drop(DropReason.TimeWaitSegment);
            return;
        }
        if (packet.IsSyn && !packet.IsAck && IsNewer(timeWait, packet) && FindListener(packet.Flow) is { } listener)
        {
            Counters.TimeWaitReused++;
            ReceiveSyn(listener, packet, now, timeWait);
            return;
        }
        // Data and FIN are always answered: an ACK may have been lost. The rest at a limited rate, lest two who disagree answer each other for ever.
        bool isData = packet.SegmentLength > 0 && !packet.IsSyn;
        if (isData || ((packet.IsSyn || packet.Seq != timeWait.RcvNxt) && now - timeWait.AnsweredAt >= TimeSpan.FromMilliseconds(TcpConnection.InvalidInterval)))
        {
            timeWait.AnsweredAt = now;
            Answer(timeWait);
        }
        if (packet.IsFin && packet.End == timeWait.RcvNxt)
            Wheel.Schedule(timeWait, now + Options.TimeWait);
        Drop(DropReason.TimeWaitSegment);
    }

    private static bool IsNewer(TimeWait timeWait, in Packet syn) =>
        timeWait.Timestamps && syn.HasTimestamps
            ? (int)(syn.TsVal - timeWait.TsRecent) > 0 || (syn.TsVal == timeWait.TsRecent && syn.Seq > timeWait.RcvNxt)
            : syn.Seq > timeWait.RcvNxt;

    private void Answer(TimeWait timeWait) => Reply(timeWait.Path.Value, timeWait.Key, new SegmentFields
    {
        Seq = timeWait.SndNxt,
        Ack = timeWait.RcvNxt,
        Flags = TcpFlags.Ack,
        Window = timeWait.Window,
        HasTimestamps = timeWait.Timestamps,
        TsVal = TimestampClock(Now) + timeWait.TsOffset,
        TsEcr = timeWait.TsRecent,
    });

    private void ForgetTimeWait(TimeWait timeWait)
    {
        if (timeWait.Forgotten)
            return;
        timeWait.Forgotten = true;
        _flows.Remove(timeWait.Key);
        Wheel.Cancel(timeWait);
        TimeWaitCount--;
        if (timeWait.Older is { } older)
            older.Newer = timeWait.Newer;
        else
            _oldestTimeWait = timeWait.Newer;
        if (timeWait.Newer is { } newer)
            newer.Older = timeWait.Older;
        else
            _newestTimeWait = timeWait.Older;
    }
}

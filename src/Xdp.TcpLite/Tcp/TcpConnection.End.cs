namespace Xdp.TcpLite;

/// <summary>
/// How a connection ends: the application closes or aborts it, the peer goes on for too long after that, time runs out,
/// or both sides are done.
/// </summary>
public sealed partial class TcpConnection
{
    /// <summary>Null until the application has closed, and once the connection has ended.</summary>
    private Orphan? _orphan;

    /// <summary>
    /// Nothing more will be read either. From here on received bytes are acknowledged and dropped, and do not turn the
    /// FIN into a RST. Written bytes are still delivered. Implies <see cref="Shutdown"/>. What a peer may do to make it
    /// last is bounded by <see cref="TcpStackOptions.AfterCloseBytes"/> and the options behind it.
    /// </summary>
    public void Close()
    {
        Shutdown();
        if (_rcv.Discards)
            return;
        _rcv.Discard(_stack.Environment);
        if (State == TcpState.Closed)
            return;
        _orphan = new Orphan(this, _rcv.BytesReceived);
        _rcv.Invite(_orphan.Late.Left(_rcv.BytesReceived, _options));
        bool isDone = State == TcpState.FinWait2;
        if (isDone)
            _orphan.OnFinAcknowledged(_options, _stack.Now);
        ArmWheel();
        _stack.AddOrphan(_orphan, _snd.Memory, isDone);
    }

    /// <summary>Ends the connection with a RST. Bytes not sent, or not taken, are dropped. Idempotent.</summary>
    public void Abort()
    {
        if (State == TcpState.Closed)
        {
            // After an end in good order, received bytes wait for the application. It does not want them.
            _rcv.ReturnReceived();
            return;
        }
        if (State != TcpState.SynSent)
            SendReset();
        Finish(TcpEvents.None);
    }

    // ---- after the application has closed

    private void OnOrphanProgress(Instant now)
    {
        if (_orphan is not { } orphan)
            return;
        orphan.OnProgress(_options, now);
        _stack.Orphans.Resize(orphan, _snd.Memory);
    }

    private void OnOrphanFinAcknowledged(Instant now)
    {
        if (_orphan is not { } orphan)
            return;
        orphan.OnFinAcknowledged(_options, now);
        _stack.Orphans.OnFinAcknowledged(orphan);
    }

    /// <summary>
    /// The peer sends data, and has done so for too long since the application closed. The connection is reset then.
    /// </summary>
    private bool IsTooLate(in Packet packet, Instant now)
    {
        if (_orphan is not { } orphan || packet.PayloadLength == 0 || !CanReceive || orphan.Late.TryTake(_options, now))
            return false;
        ResetLateSender();
        return true;
    }

    private void OnLateData(Instant now)
    {
        if (_orphan is not { } orphan || !CanReceive)
            return;
        _stack.Drop(DropReason.ClosedReceive);
        if (!_rcv.Invite(orphan.Late.Left(_rcv.BytesReceived, _options)))
            orphan.Late.OnUsedUp(_options, now);
    }

    private bool OrphanGivesUp(SenderTimeouts fired)
    {
        bool isRetry = (fired & (SenderTimeouts.Retransmission | SenderTimeouts.Persist)) != 0;
        if (!isRetry || _orphan is not { } orphan || orphan.MayTryAgain(_options))
            return false;
        _stack.Counters.OrphansTimedOut++;
        return true;
    }

    private void OnOrphanDeadline(Orphan orphan, Instant now)
    {
        if (orphan.Late.Deadline <= now)
            ResetLateSender();
        else
            Finish(TcpEvents.None);
    }

    private void ResetLateSender()
    {
        _stack.Counters.DataAfterCloseResets++;
        Abort();
    }

    // ---- the end

    private void TimeOut()
    {
        if (State == TcpState.Closed)
            return;
        SendReset();
        Finish(TcpEvents.TimedOut);
    }

    private void EnterTimeWait(Instant now)
    {
        var timeWait = new TimeWait(Key)
        {
            Path = _remote.Shared,
            SndNxt = SndNxt,
            RcvNxt = RcvNxt,
            Window = _rcv.WindowField(_stack.Environment.Memory),
            Timestamps = _timestamps.Enabled,
            TsOffset = _timestamps.Offset,
            TsRecent = _timestamps.Recent,
        };
        bool owesAck = _rcv.Acks.IsDue;
        Finish(TcpEvents.None, inOrder: true);
        _stack.AddTimeWait(timeWait, owesAck, now);
    }

    /// <summary>The connection is over: everything it holds goes home, and the stack forgets it.</summary>
    /// <param name="why">What ended it, if it was not the application.</param>
    /// <param name="inOrder">
    /// Both sides have closed. What was received is complete, and stays for the application to take. After any other
    /// end nobody would.
    /// </param>
    private void Finish(TcpEvents why, bool inOrder = false)
    {
        if (State == TcpState.Closed)
            return;
        State = TcpState.Closed;
        _opening = null;
        if (_orphan is { } orphan)
            _stack.Orphans.Remove(orphan);
        _orphan = null;
        _snd.ReturnFlight(_stack.Environment);
        _rcv.ClearReassembly(_stack.Environment);
        if (!inOrder)
            _rcv.ReturnReceived();
        _stack.Forget(this);
        Raise(why | TcpEvents.Closed);
    }
}

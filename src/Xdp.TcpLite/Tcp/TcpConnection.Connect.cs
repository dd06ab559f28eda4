namespace Xdp.TcpLite;

/// <summary>Active open (RFC 9293, section 3.10.7.3), simultaneous open included.</summary>
public sealed partial class TcpConnection
{
    /// <summary>SYNs that are sent again before giving up (Linux's tcp_syn_retries).</summary>
    private const int SynRetries = 6;

    internal void StartActive(Instant now)
    {
        SndNxt = SndUna + 1;
        BorrowFlight();
        _flight.NoneLostBefore = SndNxt;
        _flight.FirstUnackedAt = now;
        State = TcpState.SynSent;
        _flight.SynToSend = true;
        Arm(ref _flight.RetransmitDeadline, now + _options.InitialRto);
        RequestEmit();
    }

    private bool ReceiveInSynSent(in Packet packet, Instant now)
    {
        bool acceptableAck = packet.IsAck && packet.Ack == SndNxt;
        if (packet.IsAck && !acceptableAck)
        {
            _stack.Reset(packet);
            _stack.Drop(DropReason.BadAck);
            return false;
        }
        if (packet.IsRst)
        {
            if (acceptableAck)
                Finish(TcpEvents.Reset);
            else
                _stack.Drop(DropReason.BadRst);
            return false;
        }
        if (!packet.IsSyn)
        {
            _stack.Drop(DropReason.BadSyn);
            return false;
        }
        RcvNxt = packet.Seq + 1;
        _lastAckSent = RcvNxt;
        _rcvAdvertised = RcvNxt + TcpStack.InitialWindow(_options);
        _tsRecentAt = new CoarseInstant(now);
        _path = _stack.Paths.Share(packet.Path);
        byte ourShift = _negotiated.RcvWndShift;
        uint tsOffset = _negotiated.TsOffset;
        _negotiated = TcpStack.Negotiate(packet, ourShift, tsOffset);
        UpdateMss();
        _congestion.Start(_sndMss);
        StartWindowUnscaled(packet);
        if (acceptableAck)
        {
            State = TcpState.SynReceived;
            OnSynAcknowledged(packet, now);
            ReturnFlightIfDone();
            _ackNow = true;
        }
        else
        {
            State = TcpState.SynReceived;
            _flight.SynToSend = true;
        }
        RequestEmit();
        return false;
    }

    /// <summary>The other side of a simultaneous open has seen our SYN (RFC 9293, section 3.5, figure 8). Its own SYN lies left of the window by now.</summary>
    private bool IsSimultaneousSynAck(in Packet packet) =>
        packet.IsSyn && packet.IsAck && !packet.IsRst && packet.Seq == RcvNxt - 1 && packet.Ack == SndNxt;

    private bool ReceiveSimultaneousSynAck(in Packet packet, Instant now)
    {
        StartWindowUnscaled(packet);
        _negotiated.TsRecent = packet.HasTimestamps ? packet.TsVal : _negotiated.TsRecent;
        OnSynAcknowledged(packet, now);
        ReturnFlightIfDone();
        AckNow();
        return false;
    }

    /// <summary>The window of a SYN or SYN-ACK is not scaled.</summary>
    private void StartWindowUnscaled(in Packet packet)
    {
        SndWnd = packet.Window;
        MaxSndWnd = SndWnd;
        SndWl1 = packet.Seq;
        SndWl2 = packet.Ack;
    }

    private void OnSynAcknowledged(in Packet packet, Instant now)
    {
        StartRtt(packet, _flight.Backoff == 0 ? _flight.FirstUnackedAt : null, _flight.Backoff, now);
        _flight.Backoff = 0;
        _flight.RetransmitDeadline = Instant.Never;
        SndUna = SndNxt;
        _flight.SynToSend = false;
        State = TcpState.Established;
        StartKeepAlive(now);
        Raise(TcpEvents.Established);
    }

    /// <summary>What the handshake tells about the path.</summary>
    /// <param name="packet">The ACK of our SYN.</param>
    /// <param name="sentAt">When our SYN was sent, if it was sent once: else only a timestamp can tell which one this answers (Karn).</param>
    /// <param name="retransmits">One lost SYN says little about the path; after more the window starts at one segment (RFC 6928, section 2).</param>
    /// <param name="now">The present.</param>
    private void StartRtt(in Packet packet, Instant? sentAt, int retransmits, Instant now)
    {
        if (sentAt is { } at)
            _rtt.Sample(now - at, now);
        else if (_negotiated.Timestamps && packet.HasTimestamps && packet.TsEcr != 0 && (int)(TsNow(now) - packet.TsEcr) is >= 0 and var elapsed)
            _rtt.Sample(TimeSpan.FromMilliseconds(Math.Max(elapsed, 1)), now);
        else
            _rtt.FallBack();
        if (retransmits > 1)
            _congestion.SetCwnd(_sndMss);
    }

    private void OnSynTimeout(Instant now)
    {
        if (_flight.Backoff >= SynRetries)
        {
            Finish(TcpEvents.TimedOut);
            return;
        }
        _flight.Backoff++;
        _flight.SynToSend = true;
        Arm(ref _flight.RetransmitDeadline, now + _rtt.Rto(_options, _flight.Backoff));
        RequestEmit();
    }

    private bool EmitSyn(Instant now, out TxPacket packet, out bool starved)
    {
        packet = default;
        Block? frame = _stack.Frames.TryTakeForSegment();
        starved = frame is null;
        if (frame is null)
            return false;
        _flight.SynToSend = false;
        bool answers = State == TcpState.SynReceived;
        SegmentFields fields = _stack.SynFields(Key, _negotiated, answers, now);
        fields.Seq = SndUna;
        fields.Ack = RcvNxt;
        int start = SegmentWriter.Write(frame.Span, FramePool.PayloadStart, 0, _path.Value, Key, fields);
        frame.FreeOnCompletion = true;
        _segmentsOut++;
        packet = _stack.Submit(frame, start, FramePool.PayloadStart - start);
        return true;
    }
}

namespace Xdp.TcpLite;

/// <summary>Segment arrival: the steps of RFC 9293, section 3.10.7.4, in their order, with RFC 5961 and RFC 7323 where they amend them.</summary>
public sealed partial class TcpConnection
{
    /// <summary>Challenge ACKs and answers to bare segments out of window, per connection: one in so many milliseconds (Linux's tcp_invalid_ratelimit).</summary>
    internal const int InvalidInterval = 500;

    /// <summary>Idle time after which TS.Recent is no longer held against a segment (RFC 7323, section 5.5).</summary>
    private static readonly TimeSpan s_pawsExpiry = TimeSpan.FromDays(24);

    internal SeqNumber RcvNxt { get; private set; }

    /// <summary>Right edge of the window as last announced. It never moves back.</summary>
    private SeqNumber _rcvAdvertised;

    /// <summary>Last.ACK.sent of RFC 7323.</summary>
    private SeqNumber _lastAckSent;

    private BlockQueue _received;

    /// <summary>Receive buffer: what the window is cut from, in bytes.</summary>
    private int _rcvBuffer;

    /// <summary>In-order bytes that count against the buffer: not yet examined by the application.</summary>
    private int _unreleased;
    private int _releasedSinceGrowth;
    private Instant _windowGrowthFrom;

    /// <summary>Largest payload seen: what a "full segment" is for delayed acknowledgements.</summary>
    private ushort _rcvMss;
    private int _bytesSinceAck;
    private byte _segmentsSinceAck;
    private bool _ackNow;

    /// <summary>ACKs still to be sent without delay.</summary>
    private byte _quickAcks;
    private SeqNumber _duplicateLeft, _duplicateRight;
    private bool _peerFin;
    private bool _discardReceived;
    private CoarseInstant _tsRecentAt;
    private CoarseInstant _heardAt;

    /// <summary>The last answer to what may be a blind attack, in milliseconds of <see cref="TcpStack.TimestampClock"/>.</summary>
    private uint _challengedAt;
    private long _bytesReceived;
    private uint _segmentsIn;

    /// <summary>A passive open completes: the segment that acknowledges our SYN has arrived.</summary>
    internal void StartPassive(HalfOpen half, in Packet packet, Instant now)
    {
        RcvNxt = half.Irs + 1;
        _lastAckSent = RcvNxt;
        _rcvAdvertised = RcvNxt + TcpStack.InitialWindow(_options);
        _tsRecentAt = new CoarseInstant(now);
        SndUna += 1;
        SndNxt = SndUna;
        State = TcpState.Established;
        StartRtt(packet, half is { Retransmits: 0, IsRepeated: false } ? half.SentAt : null, half.Retransmits, now);
        StartKeepAlive(now);
    }

    /// <summary>The last window was announced in a segment that is not scaled, or the peer's is: sets SND.WND from the segment that establishes.</summary>
    internal void StartWindow(in Packet packet)
    {
        SndWnd = packet.Window << _negotiated.SndWndShift;
        MaxSndWnd = SndWnd;
        SndWl1 = packet.Seq;
        SndWl2 = packet.Ack;
    }

    /// <returns>Whether the frame is kept.</returns>
    internal bool Receive(in Packet packet, Block frame, int start, Instant now)
    {
        _segmentsIn++;
        if (State == TcpState.SynSent)
            return ReceiveInSynSent(packet, now);
        if (State == TcpState.SynReceived && IsSimultaneousSynAck(packet))
            return ReceiveSimultaneousSynAck(packet, now);
        if (!CheckTimestamp(packet, now) || !CheckSequence(packet, now) || !CheckReset(packet, now) || !CheckSyn(packet, now) || !CheckAck(packet, now))
            return false;
        _heardAt = new CoarseInstant(now);
        _keepAliveTimer?.Heard(now);
        if (packet.Path != _path.Value)
            _path = _stack.Paths.Share(packet.Path);
        UpdateTsRecent(packet, now);
        NoteMark(packet);
        Acknowledge(packet, now);
        if (State is TcpState.Closed)
            return false;
        bool kept = packet.PayloadLength > 0 && ReceivePayload(packet, frame, start + packet.PayloadStart, now);
        if (packet.IsFin)
            NoteFin(packet);
        if (_finIsAhead)
            ReceiveFin(now);
        return kept;
    }

    // First: PAWS (RFC 7323, section 5.3).
    private bool CheckTimestamp(in Packet packet, Instant now)
    {
        if (!_negotiated.Timestamps || !packet.HasTimestamps || packet.IsRst)
            return true;
        if ((int)(packet.TsVal - _negotiated.TsRecent) >= 0 || _tsRecentAt.Age(now) > s_pawsExpiry)
            return true;
        _stack.Drop(DropReason.PawsFailed);
        AnswerInvalid(packet, now);
        return false;
    }

    // Second: is any of it in the window?
    private bool CheckSequence(in Packet packet, Instant now)
    {
        SeqNumber end = packet.Seq + packet.SegmentLength;
        int window = Math.Max(0, _rcvAdvertised - RcvNxt);
        bool acceptable = packet.SegmentLength == 0
            ? packet.Seq >= RcvNxt && packet.Seq <= RcvNxt + window
            : end > RcvNxt && packet.Seq < RcvNxt + window;
        // A window probe: nothing of it fits, but its acknowledgement counts (section 3.10.7.4, "special allowance").
        if (!acceptable && window == 0 && packet.Seq == RcvNxt)
        {
            AckNow();
            return true;
        }
        if (acceptable)
            return true;
        _stack.Drop(DropReason.OutOfWindow);
        if (packet.IsRst)
            return false;
        if (packet.SegmentLength > 0 && !packet.IsSyn && end <= RcvNxt)
            NoteDuplicate(packet.Seq, end);
        AnswerInvalid(packet, now);
        return false;
    }

    // Third: RST, exact or challenged (RFC 5961, section 3.2).
    private bool CheckReset(in Packet packet, Instant now)
    {
        if (!packet.IsRst)
            return true;
        if (packet.Seq == RcvNxt)
        {
            _stack.Counters.RstsReceived++;
            Finish(TcpEvents.Reset);
        }
        else
        {
            _stack.Drop(DropReason.BadRst);
            Challenge(now);
        }
        return false;
    }

    // Fourth: SYN is always challenged (RFC 5961, section 4.2).
    private bool CheckSyn(in Packet packet, Instant now)
    {
        if (!packet.IsSyn)
            return true;
        _stack.Drop(DropReason.BadSyn);
        Challenge(now);
        return false;
    }

    // Fifth: ACK, within (SND.UNA - MAX.SND.WND) and SND.NXT (RFC 5961, section 5.2).
    private bool CheckAck(in Packet packet, Instant now)
    {
        if (!packet.IsAck)
        {
            _stack.Drop(DropReason.MissingAck);
            return false;
        }
        if (State == TcpState.SynReceived && packet.Ack != SndNxt)
        {
            _stack.Drop(DropReason.BadAck);
            _stack.Reset(packet);
            return false;
        }
        if (packet.Ack > SndNxt)
        {
            _stack.Drop(DropReason.BadAck);
            AnswerInvalid(packet, now);
            return false;
        }
        if (packet.Ack < SndUna && (uint)(SndUna - packet.Ack) > MaxSndWnd)
        {
            _stack.Drop(DropReason.BadAck);
            Challenge(now);
            return false;
        }
        return true;
    }

    // Seventh: the payload. Urgent data is read in line, as RFC 6093 advises.
    private bool ReceivePayload(in Packet packet, Block frame, int offset, Instant now)
    {
        if (!CanReceive)
            return false;
        SeqNumber seq = packet.Seq;
        int length = packet.PayloadLength;
        int stale = RcvNxt - seq;
        if (stale > 0)
        {
            NoteDuplicate(seq, RcvNxt);
            AckNow();
            if (stale >= length)
                return false;
            seq += stale;
            offset += stale;
            length -= stale;
        }
        length = Math.Min(length, _rcvAdvertised - seq);
        if (length <= 0)
        {
            AckNow();
            return false;
        }
        if (_segmentsSinceAck >= SegmentsPerAck && _ackNow)
            AckWithinBatch(now);
        if (_segmentsSinceAck < byte.MaxValue)
            _segmentsSinceAck++;
        return seq == RcvNxt
            ? ReceiveInOrder(frame, offset, length, now)
            : ReceiveAhead(seq, frame, offset, length, now);
    }

    private bool ReceiveInOrder(Block frame, int offset, int length, Instant now)
    {
        bool kept = false;
        if (!_discardReceived && !Deliver(frame, offset, length, out kept))
        {
            // Not acknowledged, so it comes again, when there may be memory.
            _stack.Drop(DropReason.NoMemory);
            return false;
        }
        RcvNxt += length;
        Arrived(length);
        if (!_reassembly.IsEmpty)
        {
            TakeFromReassembly();
            AckNow();
        }
        _bytesSinceAck += length;
        _rcvMss = (ushort)Math.Clamp(length, _rcvMss, ushort.MaxValue);
        if (_bytesSinceAck >= 2 * _rcvMss || _quickAcks > 0)
            AckNow();
        else
            ArmDelayedAck(now);
        return kept;
    }

    private bool ReceiveAhead(SeqNumber seq, Block frame, int offset, int length, Instant now)
    {
        _stack.Counters.OutOfOrderSegments++;
        _quickAcks = QuickAcksAfterLoss;
        if (_ackNow && !_negotiated.Sack && _duplicateAcks < MaxDuplicateAcks)
            _duplicateAcks++;
        AckNow();
        if (_discardReceived)
            return false;
        if (_reassembly.Memory > 2L * _options.ReceiveBufferMax)
        {
            _stack.Drop(DropReason.ReassemblyFull);
            return false;
        }
        if (_reassembly.IsEmpty)
            _reassembly = _stack.Reassemblies.Borrow();
        DropReason reason = _reassembly.Insert(seq, frame, offset, length, _stack.Frames, _stack.Blocks, KeepsFrame(frame, length), out bool kept, out var duplicate);
        ReturnReassemblyIfEmpty();
        if (duplicate is { } d)
            NoteDuplicate(d.Left, d.Right);
        if (reason is not DropReason.None)
            _stack.Drop(reason);
        return kept;
    }

    /// <summary>A gap has been filled: what was behind it is in order now. Bytes that came twice are reported.</summary>
    private void TakeFromReassembly()
    {
        SeqNumber before = RcvNxt;
        SeqNumber rcvNxt = RcvNxt;
        if (_reassembly.First is var (left, right) && left < before)
            NoteDuplicate(left, SeqNumber.Min(right, before));
        _reassembly.TakeInOrder(ref rcvNxt, ref _received, _stack.Frames);
        ReturnReassemblyIfEmpty();
        RcvNxt = rcvNxt;
        if (rcvNxt != before)
            Arrived(rcvNxt - before);
    }

    private void ClearReassembly()
    {
        if (_reassembly.IsEmpty)
            return;
        _reassembly.Clear(_stack.Frames);
        ReturnReassemblyIfEmpty();
    }

    private void ReturnReassemblyIfEmpty()
    {
        if (!_reassembly.IsEmpty)
            return;
        _reassembly.DropLargeRuns();
        _stack.Reassemblies.Return(_reassembly);
        _reassembly = ReassemblyQueue.None;
    }

    private void Arrived(int bytes)
    {
        _bytesReceived += bytes;
        if (_discardReceived)
            return;
        _unreleased += bytes;
        Raise(TcpEvents.Readable);
    }

    /// <summary>Small payloads join the block before them; larger ones stay in their frame as long as frames are plenty.</summary>
    private bool KeepsFrame(Block frame, int length) =>
        length > CopyBelow && frame.IsFrame && !_options.ForceHeap
        && _reassembly.Frames < _options.FramesPerConnection && _received.Bytes < (long)_options.FramesPerConnection * _rcvMss
        && 2 * (_stack.Frames.ApplicationCount + _stack.Frames.KeptAhead) < _stack.Frames.FrameCount;

    private const int CopyBelow = 256;

    /// <summary>Segments of a batch that share an ACK: twice RFC 5681's, since an ACK costs a system call's worth of work in copy mode.</summary>
    private const int SegmentsPerAck = 4;

    /// <summary>
    /// A sender that repairs a loss has a small window: it must not wait for a delayed ACK. As many as Linux sends (its TCP_MAX_QUICKACKS).
    /// </summary>
    private const byte QuickAcksAfterLoss = 16;

    /// <summary>Enough for fast retransmit, and no amplifier.</summary>
    private const int MaxDuplicateAcks = 4;

    private bool Deliver(Block frame, int offset, int length, out bool kept)
    {
        kept = KeepsFrame(frame, length);
        if (kept)
        {
            Keep(frame, offset, length);
            return true;
        }
        ReadOnlySpan<byte> payload = frame.Span.Slice(offset, length);
        Block? fresh = null;
        int room = _received.Tail is { IsFrame: false } tail ? Math.Min(tail.Room, length) : 0;
        if (room < length)
        {
            // A payload can exceed a block only when it came in one that is larger still.
            fresh = length - room <= BlockPool.BlockSize ? _stack.Blocks.TryTake() : _stack.Blocks.Take(length - room);
            if (fresh is null)
            {
                kept = frame.IsFrame;
                if (kept)
                    Keep(frame, offset, length);
                return kept;
            }
        }
        _stack.Counters.HeapCopies++;
        if (room > 0)
            _received.AppendToTail(payload[..room]);
        if (fresh is not null)
        {
            fresh.Append(payload[room..]);
            _received.Enqueue(fresh);
        }
        return true;
    }

    private void Keep(Block frame, int offset, int length)
    {
        frame.Start = offset;
        frame.Length = length;
        _stack.Frames.Delivered(frame);
        _received.Enqueue(frame);
    }

    // Eighth: FIN, which counts once everything before it is here.
    private SeqNumber _finAt;
    private bool _finIsAhead;

    private void NoteFin(in Packet packet)
    {
        if (_peerFin || !CanReceive)
        {
            AckNow();
            return;
        }
        SeqNumber at = packet.Seq + packet.PayloadLength;
        // A FIN in order is the peer's own; what was said before may have been somebody's guess.
        if (at <= _rcvAdvertised && (!_finIsAhead || at == RcvNxt))
        {
            _finAt = at;
            _finIsAhead = true;
        }
        AckNow();
    }

    private void ReceiveFin(Instant now)
    {
        if (_finAt > RcvNxt)
            return;
        _finIsAhead = false;
        if (_finAt < RcvNxt || _peerFin)
            return;
        _peerFin = true;
        ClearReassembly();
        RcvNxt += 1;
        AckNow();
        Raise(TcpEvents.PeerClosed);
        switch (State)
        {
            case TcpState.Established:
                State = TcpState.CloseWait;
                break;
            case TcpState.FinWait1:
                // Had our FIN been acknowledged, the state would be FIN-WAIT-2 by now.
                State = TcpState.Closing;
                break;
            case TcpState.FinWait2:
                EnterTimeWait(now);
                break;
        }
    }

    // ---- answers

    private void AckNow()
    {
        _ackNow = true;
        RequestEmit();
    }

    /// <summary>Answers a segment that is not acceptable: always when it carries data (a lost ACK or a probe), else at a limited rate.</summary>
    private void AnswerInvalid(in Packet packet, Instant now)
    {
        if (packet.SegmentLength > 0 && !packet.IsSyn)
            AckNow();
        else
            Challenge(now);
    }

    private void Challenge(Instant now)
    {
        uint clock = TcpStack.TimestampClock(now);
        if (clock - _challengedAt < InvalidInterval)
            return;
        _challengedAt = clock;
        _stack.Counters.ChallengeAcks++;
        AckNow();
    }

    private void NoteDuplicate(SeqNumber left, SeqNumber right)
    {
        _duplicateLeft = left;
        _duplicateRight = right;
    }

    private void UpdateTsRecent(in Packet packet, Instant now)
    {
        if (!packet.HasTimestamps || !_negotiated.Timestamps || packet.Seq > _lastAckSent)
            return;
        if ((int)(packet.TsVal - _negotiated.TsRecent) >= 0 || _tsRecentAt.Age(now) > s_pawsExpiry)
        {
            _negotiated.TsRecent = packet.TsVal;
            _tsRecentAt = new CoarseInstant(now);
        }
    }

    // ---- the window we announce

    /// <summary>RCV.WND: what the buffer has room for, without moving the right edge back or by crumbs (RFC 1122, section 4.2.3.3).</summary>
    private long ReceiveWindow()
    {
        long announced = Math.Max(0, _rcvAdvertised - RcvNxt);
        long room = Math.Clamp((long)_rcvBuffer - _unreleased, 0, (long)ushort.MaxValue << _negotiated.RcvWndShift);
        if (room <= announced || room - announced < Math.Min(_rcvMss, _rcvBuffer / 2))
            return announced;
        return room;
    }

    private ushort AdvertisedWindow() => (ushort)Math.Min(ReceiveWindow() >> _negotiated.RcvWndShift, ushort.MaxValue);

    /// <summary>Enough room has come free that the peer should hear of it before it is blocked.</summary>
    private bool WorthAnnouncing()
    {
        GrowReceiveBuffer();
        long announced = Math.Max(0, _rcvAdvertised - RcvNxt);
        long window = ReceiveWindow();
        return window > announced && window >= 2 * announced;
    }

    /// <summary>The buffer follows what the application reads within a round trip, so that the window never limits a reader who keeps up.</summary>
    private void GrowReceiveBuffer()
    {
        Instant now = _stack.Now;
        TimeSpan rtt = _rtt.HasSample ? _rtt.Srtt : _options.InitialRto;
        if (now - _windowGrowthFrom < rtt)
            return;
        long wanted = 4L * _releasedSinceGrowth;
        if (wanted > _rcvBuffer)
            _rcvBuffer = (int)Math.Min(Math.Min(wanted, 2L * _rcvBuffer), _options.ReceiveBufferMax);
        _releasedSinceGrowth = 0;
        _windowGrowthFrom = now;
    }
}

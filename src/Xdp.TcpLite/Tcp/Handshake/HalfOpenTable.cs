namespace Xdp.TcpLite;

/// <summary>
/// The half-open connections of all listeners: SYN-RECEIVED after a passive open (RFC 9293, section 3.10.7). Owns their
/// number. The records themselves are in the flow table and the timer wheel, until they are forgotten.
/// </summary>
/// <remarks>
/// No connection is made here. When a handshake is complete the record leaves, and the caller makes the connection.
/// </remarks>
internal sealed class HalfOpenTable(StackEnvironment environment, ResetLimiter resets)
{
    private readonly int _window = SynOptions.InitialWindow(environment.Options);

    internal int Count { get; private set; }

    /// <summary>Opens a connection: keeps a record of the SYN and answers it.</summary>
    /// <param name="listener">Who accepts it.</param>
    /// <param name="syn">The peer's SYN. Its 4-tuple is free.</param>
    /// <param name="route">The way to the peer.</param>
    /// <param name="lowestIss">Where to start at least, after an older connection with this 4-tuple.</param>
    /// <param name="now">The present.</param>
    internal void Open(Listener listener, in Packet syn, Route route, SeqNumber? lowestIss, Instant now)
    {
        SeqNumber iss = environment.Isn.Next(syn.Flow, now);
        var half = new HalfOpen(syn.Flow, listener)
        {
            Route = route,
            Iss = lowestIss is { } lowest ? SeqNumber.Max(iss, lowest) : iss,
            Irs = syn.Seq,
            Options = SynOptions.Negotiate(environment.Options, syn, environment.Isn.TimestampOffset(syn.Flow)),
            SentAt = now,
        };
        environment.Flows.TryAdd(half);
        listener.HalfOpenAdded();
        Count++;
        SendSynAck(half, now);
        environment.Wheel.Schedule(half, now + environment.Options.InitialRto);
    }

    /// <summary>
    /// Arrival of a segment in SYN-RECEIVED (RFC 9293, section 3.10.7.4), with RFC 5961 and RFC 7323. Each check drops
    /// and answers what does not pass it.
    /// </summary>
    /// <returns>
    /// True when the segment completes the handshake. The record is forgotten then: the 4-tuple is free for the
    /// connection.
    /// </returns>
    internal bool Receive(HalfOpen half, in Packet packet, Instant now)
    {
        if (!CheckListener(half, packet)
            || !CheckReset(half, packet, now)
            || !CheckSyn(half, packet, now)
            || !CheckSequence(half, packet, now)
            || !CheckAckFlag(packet)
            || !CheckTimestamp(half, packet, now)
            || !CheckAck(half, packet)
            || !CheckAcceptQueue(half))
        {
            return false;
        }
        Forget(half);
        return true;
    }

    /// <summary>Time is up for the peer's ACK: sends the SYN-ACK again, or gives up.</summary>
    internal void OnDeadline(HalfOpen half, Instant now)
    {
        if (half.Listener.IsClosed || half.Retransmits >= environment.Options.SynAckRetries)
        {
            Forget(half);
            return;
        }
        half.Retransmits++;
        if (environment.Routes?.Find(half.Key, ask: true) is { Kind: RouteKind.Link } route)
            half.Route = route;
        SendSynAck(half, now);
        // Nothing has been measured of the path.
        TimeSpan wait = default(RttEstimator).Rto(environment.Options, half.Retransmits);
        environment.Wheel.Schedule(half, now + wait);
    }

    // ---- the checks, in the order of Receive

    private bool CheckListener(HalfOpen half, in Packet packet)
    {
        if (!half.Listener.IsClosed)
            return true;
        Forget(half);
        resets.Answer(packet);
        return false;
    }

    /// <summary>RFC 5961, section 3.2: only a RST exactly at RCV.NXT ends the handshake.</summary>
    private bool CheckReset(HalfOpen half, in Packet packet, Instant now)
    {
        if (!packet.IsRst)
            return true;
        SeqNumber rcvNxt = half.Irs + 1;
        if (packet.Seq == rcvNxt)
        {
            Forget(half);
            return false;
        }
        environment.Drop(DropReason.BadRst);
        if (packet.Seq > rcvNxt && packet.Seq - rcvNxt < _window)
            Challenge(half, now);
        return false;
    }

    /// <summary>
    /// The same SYN again is answered with the same SYN-ACK. Any other is challenged (RFC 5961, section 4): a peer that
    /// has started afresh answers with a RST, and its next SYN is heard.
    /// </summary>
    private bool CheckSyn(HalfOpen half, in Packet packet, Instant now)
    {
        if (!packet.IsSyn)
            return true;
        if (packet.Seq == half.Irs && !packet.IsAck)
        {
            half.IsRepeated = true;
            SendSynAck(half, now);
            return false;
        }
        environment.Drop(DropReason.BadSyn);
        Challenge(half, now);
        return false;
    }

    private bool CheckSequence(HalfOpen half, in Packet packet, Instant now)
    {
        SeqNumber rcvNxt = half.Irs + 1;
        if (packet.Seq >= rcvNxt && packet.Seq - rcvNxt <= _window)
            return true;
        environment.Drop(DropReason.OutOfWindow);
        Challenge(half, now);
        return false;
    }

    private bool CheckAckFlag(in Packet packet)
    {
        if (packet.IsAck)
            return true;
        environment.Drop(DropReason.MissingAck);
        return false;
    }

    /// <summary>
    /// PAWS (RFC 7323, section 5.3). As for Linux a TS.Recent of 0 says nothing: some hosts send it in their SYN.
    /// </summary>
    private bool CheckTimestamp(HalfOpen half, in Packet packet, Instant now)
    {
        uint recent = half.Options.TsRecent;
        bool isOld = recent != 0 && (int)(packet.TsVal - recent) < 0;
        if (!half.Options.Timestamps || !packet.HasTimestamps || !isOld)
            return true;
        environment.Drop(DropReason.PawsFailed);
        Challenge(half, now);
        return false;
    }

    /// <summary>An ACK of anything but our SYN is answered with a RST.</summary>
    private bool CheckAck(HalfOpen half, in Packet packet)
    {
        if (packet.Ack == half.Iss + 1)
            return true;
        environment.Drop(DropReason.BadAck);
        resets.Answer(packet);
        return false;
    }

    /// <summary>
    /// Where there is no room the ACK counts as lost. The SYN-ACK is sent again, and so the ACK comes again.
    /// </summary>
    private bool CheckAcceptQueue(HalfOpen half)
    {
        if (half.Listener.HasRoomForWaiting)
            return true;
        environment.Drop(DropReason.AcceptQueueFull);
        return false;
    }

    // ---- answers

    private void SendSynAck(HalfOpen half, Instant now)
    {
        SegmentFields fields = SynOptions.Fields(
            environment.Options, environment.Frames.PayloadCapacity, half.Key, half.Options, half.Route, answers: true,
            now);
        fields.Seq = half.Iss;
        fields.Ack = half.Irs + 1;
        environment.Reply(half.Route.Value, half.Key, fields);
    }

    /// <summary>
    /// An ACK for what may be a blind attack, or a peer that has started afresh (RFC 5961, sections 3 and 4).
    /// </summary>
    private void Challenge(HalfOpen half, Instant now)
    {
        if (!half.Challenges.TryTake(now))
            return;
        environment.Counters.ChallengeAcks++;
        environment.Reply(half.Route.Value, half.Key, new SegmentFields
        {
            Seq = half.Iss + 1,
            Ack = half.Irs + 1,
            Flags = TcpFlags.Ack,
            Window = (ushort)(_window >> half.Options.RcvWndShift),
            HasTimestamps = half.Options.Timestamps,
            TsVal = TsClock.At(now) + half.Options.TsOffset,
            TsEcr = half.Options.TsRecent,
        });
    }

    private void Forget(HalfOpen half)
    {
        environment.Flows.Remove(half.Key);
        environment.Wheel.Cancel(half);
        half.Listener.HalfOpenRemoved();
        Count--;
    }
}

namespace Xdp.TcpLite;

/// <summary>What becomes of a segment that has been checked.</summary>
internal enum ArrivalVerdict
{
    /// <summary>It is worked through.</summary>
    Accept,

    /// <summary>It is passed over in silence.</summary>
    Ignore,

    /// <summary>It is answered with an ACK.</summary>
    Acknowledge,

    /// <summary>It is answered with an ACK, as often as the limit allows (RFC 5961, section 7).</summary>
    Challenge,

    /// <summary>It is answered with a RST.</summary>
    Refuse,

    /// <summary>It is the peer's RST, and ends the connection.</summary>
    Reset,
}

/// <summary>
/// May a segment be worked through? The checks of RFC 9293, section 3.10.7.4, in its order, with RFC 5961 and RFC 7323
/// where they amend it. They read the connection's parts. The one thing they change is the <see cref="Receiver"/>'s
/// account of what it owes an ACK for.
/// </summary>
internal static class ArrivalCheck
{
    /// <param name="packet">The segment, in any state from SYN-RECEIVED on.</param>
    /// <param name="state">The connection's.</param>
    /// <param name="receiver">The RCV variables.</param>
    /// <param name="sender">The SND variables.</param>
    /// <param name="timestamps">TS.Recent.</param>
    /// <param name="now">The present.</param>
    /// <param name="reason">Under which the segment counts as dropped, if it does.</param>
    internal static ArrivalVerdict Run(
        in Packet packet, TcpState state, ref Receiver receiver, in Sender sender, in Timestamps timestamps,
        Instant now, out DropReason reason)
    {
        // First: PAWS (RFC 7323, section 5.3).
        if (timestamps.IsOld(packet, now))
        {
            reason = DropReason.PawsFailed;
            return AnswerTo(packet);
        }
        if (packet.IsRst && IsExactReset(packet, state, receiver.RcvNxt))
        {
            reason = DropReason.None;
            return ArrivalVerdict.Reset;
        }
        ArrivalVerdict verdict = CheckSequence(packet, ref receiver, out reason);
        if (verdict != ArrivalVerdict.Accept)
            return verdict;
        if (packet.IsRst)
        {
            reason = DropReason.BadRst;
            return ArrivalVerdict.Challenge;
        }
        // Fourth: SYN is always challenged (RFC 5961, section 4.2).
        if (packet.IsSyn)
        {
            reason = DropReason.BadSyn;
            return ArrivalVerdict.Challenge;
        }
        return CheckAck(packet, state, sender, out reason);
    }

    // Second: is any of it in the window?
    private static ArrivalVerdict CheckSequence(in Packet packet, ref Receiver receiver, out DropReason reason)
    {
        reason = DropReason.None;
        if (receiver.IsAcceptable(packet))
            return ArrivalVerdict.Accept;
        if (receiver.IsWindowProbe(packet))
        {
            receiver.Acks.Owe();
            return ArrivalVerdict.Accept;
        }
        reason = DropReason.OutOfWindow;
        if (packet.IsRst)
            return ArrivalVerdict.Ignore;
        if (packet.SegmentLength > 0 && !packet.IsSyn && packet.End <= receiver.RcvNxt)
            receiver.Acks.OnDuplicate(packet.Seq, packet.End);
        return AnswerTo(packet);
    }

    /// <summary>
    /// Third: a RST at RCV.NXT ends the connection; any other in the window is challenged (RFC 5961, section 3.2). A
    /// host that aborts after its FIN may not count the FIN in its RST, as macOS does not. So one below RCV.NXT is
    /// exact as well, once the FIN is here: Linux's tcp_reset_check.
    /// </summary>
    private static bool IsExactReset(in Packet packet, TcpState state, SeqNumber rcvNxt) =>
        packet.Seq == rcvNxt
        || (packet.Seq == rcvNxt - 1 && state is (TcpState.CloseWait or TcpState.Closing or TcpState.LastAck));

    // Fifth: ACK, within (SND.UNA - MAX.SND.WND) and SND.NXT (RFC 5961, section 5.2).
    private static ArrivalVerdict CheckAck(
        in Packet packet, TcpState state, in Sender sender, out DropReason reason)
    {
        reason = DropReason.MissingAck;
        if (!packet.IsAck)
            return ArrivalVerdict.Ignore;
        reason = DropReason.BadAck;
        if (state == TcpState.SynReceived && packet.Ack != sender.SndNxt)
            return ArrivalVerdict.Refuse;
        if (packet.Ack > sender.SndNxt)
            return AnswerTo(packet);
        if (packet.Ack < sender.SndUna && (uint)(sender.SndUna - packet.Ack) > sender.MaxSndWnd)
            return ArrivalVerdict.Challenge;
        reason = DropReason.None;
        return ArrivalVerdict.Accept;
    }

    /// <summary>
    /// The answer to a segment that is not acceptable. With data it is always given, since an ACK of ours may have been
    /// lost, or the segment is a probe.
    /// </summary>
    private static ArrivalVerdict AnswerTo(in Packet packet) =>
        packet.SegmentLength > 0 && !packet.IsSyn ? ArrivalVerdict.Acknowledge : ArrivalVerdict.Challenge;
}

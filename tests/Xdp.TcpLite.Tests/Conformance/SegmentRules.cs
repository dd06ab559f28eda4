namespace Xdp.TcpLite.Tests.Conformance;

/// <summary>The segments of the matrix.</summary>
public enum SegmentKind
{
    Syn,
    SynAck,
    SynFin,
    Ack,
    Fin,
    FinAck,
    Rst,
    RstAck,
}

/// <summary>
/// Where a segment's sequence number lies: one below RCV.NXT, at RCV.NXT, in the middle of the window, at its last
/// byte, or beyond it. CLOSED and LISTEN have no window: there these are five arbitrary numbers. SYN-SENT has no
/// receive window yet: there it is the ACK number that is placed, below SND.UNA (ISS), at it, inside what was sent, at
/// SND.NXT, or beyond it. As only a SYN was sent, "inside" and "right edge" then mean the same.
/// </summary>
public enum Position
{
    Below,
    LeftEdge,
    Inside,
    RightEdge,
    Outside,
}

/// <summary>What the stack must send.</summary>
public enum Answer
{
    Nothing,

    /// <summary>SEQ = SND.NXT, ACK = RCV.NXT.</summary>
    Ack,

    /// <summary>The same, after RCV.NXT has moved over the FIN.</summary>
    AckOfFin,
    SynAck,

    /// <summary>SEQ = SEG.ACK, no ACK.</summary>
    ResetFromAck,

    /// <summary>SEQ = 0, ACK = SEG.SEQ + SEG.LEN.</summary>
    ResetFromSeq,
}

/// <param name="Answer">What is sent.</param>
/// <param name="Next">The state afterwards.</param>
/// <param name="Rule">Where it says so.</param>
public readonly record struct Reaction(Answer Answer, TcpState Next, string Rule);

/// <summary>
/// What a stack does with one bare segment in one state, by RFC 9293, section 3.10.7, as amended by RFC 5961. Written
/// from the text, rule by rule in the text's order. Where this project departs from a rule, the rule here says so, and
/// why.
/// </summary>
internal static class SegmentRules
{
    public static Reaction For(TcpState state, SegmentKind kind, Position position) => state switch
    {
        TcpState.Closed => Closed(kind),
        TcpState.Listen => Listen(kind),
        TcpState.SynSent => SynSent(kind, position),
        TcpState.TimeWait => TimeWait(kind, position),
        _ => Synchronised(state, kind, position),
    };

    private static bool HasAck(SegmentKind kind) =>
        kind is SegmentKind.SynAck or SegmentKind.Ack or SegmentKind.FinAck or SegmentKind.RstAck;
    private static bool HasSyn(SegmentKind kind) => kind is SegmentKind.Syn or SegmentKind.SynAck or SegmentKind.SynFin;
    private static bool HasFin(SegmentKind kind) => kind is SegmentKind.SynFin or SegmentKind.Fin or SegmentKind.FinAck;
    private static bool HasRst(SegmentKind kind) => kind is SegmentKind.Rst or SegmentKind.RstAck;

    /// <summary>Section 3.10.7.1.</summary>
    private static Reaction Closed(SegmentKind kind)
    {
        const string rule = "RFC 9293, section 3.10.7.1";
        if (HasRst(kind))
            return new(Answer.Nothing, TcpState.Closed, $"{rule}: an incoming segment containing a RST is discarded");
        return HasAck(kind)
            ? new(Answer.ResetFromAck, TcpState.Closed, $"{rule}: <SEQ=SEG.ACK><CTL=RST>")
            : new(Answer.ResetFromSeq, TcpState.Closed, $"{rule}: <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>");
    }

    /// <summary>Section 3.10.7.2.</summary>
    private static Reaction Listen(SegmentKind kind)
    {
        const string rule = "RFC 9293, section 3.10.7.2";
        if (HasRst(kind))
            return new(Answer.Nothing, TcpState.Listen, $"{rule}, first: RST is ignored");
        if (HasAck(kind))
            return new(Answer.ResetFromAck, TcpState.Listen, $"{rule}, second: any acknowledgment is bad in LISTEN");
        if (kind == SegmentKind.SynFin)
            return new(
                Answer.Nothing,
                TcpState.Listen,
                $"{rule}, third, departed from as Linux does: a SYN with FIN is no peer's, but a scanner's");
        return HasSyn(kind)
            ? new(Answer.SynAck, TcpState.SynReceived, $"{rule}, third: SYN")
            : new(Answer.Nothing, TcpState.Listen, $"{rule}, fourth: drop the segment");
    }

    /// <summary>Section 3.10.7.3.</summary>
    private static Reaction SynSent(SegmentKind kind, Position position)
    {
        const string rule = "RFC 9293, section 3.10.7.3";
        bool acceptable = position is Position.Inside or Position.RightEdge; // SND.UNA < SEG.ACK =< SND.NXT
        if (HasAck(kind) && !acceptable)
        {
            return HasRst(kind)
                ? new(Answer.Nothing, TcpState.SynSent,
                    $"{rule}, first: unless the RST bit is set, if so drop the segment")
                : new(Answer.ResetFromAck, TcpState.SynSent, $"{rule}, first: <SEQ=SEG.ACK><CTL=RST>");
        }
        if (HasRst(kind))
        {
            return HasAck(kind)
                ? new(Answer.Nothing, TcpState.Closed, $"{rule}, second: connection reset")
                : new(Answer.Nothing, TcpState.SynSent, $"{rule}, second: no ACK, drop the segment");
        }
        if (HasSyn(kind))
        {
            return HasAck(kind)
                ? new(Answer.Ack, TcpState.Established, $"{rule}, fourth: our SYN has been acknowledged")
                : new(Answer.SynAck, TcpState.SynReceived,
                    $"{rule}, fourth: otherwise enter SYN-RECEIVED; its FIN is queued for after, and comes again");
        }
        return new(Answer.Nothing, TcpState.SynSent, $"{rule}, fifth: neither SYN nor RST, drop the segment");
    }

    /// <summary>Section 3.10.7.4 for TIME-WAIT, with the choice of section 3.6.1.</summary>
    private static Reaction TimeWait(SegmentKind kind, Position position)
    {
        const string rule = "RFC 9293, section 3.10.7.4";
        if (HasRst(kind))
        {
            return position == Position.LeftEdge
                ? new(Answer.Nothing, TcpState.Closed,
                    $"{rule}, second: RST, enter CLOSED (RFC 1337 is not followed, as by Linux)")
                : new(Answer.Nothing, TcpState.TimeWait, "RFC 5961, section 3.2: outside the window, silently drop");
        }
        bool isNewer = position is not (Position.Below or Position.LeftEdge);
        if (kind == SegmentKind.Syn)
        {
            return !isNewer
                ? new(Answer.Ack, TcpState.TimeWait,
                    "RFC 9293, section 3.6.1: only a SYN beyond the last sequence number opens anew; "
                    + "RFC 5961, section 4.2: challenged")
                : new(Answer.SynAck, TcpState.SynReceived,
                    "RFC 9293, section 3.6.1 (MAY-2), RFC 6191, section 2: a newer SYN opens anew");
        }
        if (kind == SegmentKind.SynFin)
        {
            return !isNewer
                ? new(Answer.Ack, TcpState.TimeWait, "RFC 5961, section 4.2: challenged")
                : new(Answer.Nothing, TcpState.TimeWait,
                    $"{rule}, departed from as in LISTEN: a SYN with FIN opens nothing");
        }
        if (kind == SegmentKind.SynAck)
            return new(Answer.Ack, TcpState.TimeWait, "RFC 5961, section 4.2: challenged");
        // Nothing can follow the peer's FIN: RCV.WND counts as 0.
        if (kind == SegmentKind.Ack && position == Position.LeftEdge)
            return new(Answer.Nothing, TcpState.TimeWait, $"{rule}, first: acceptable, and there is nothing to say");
        return new(Answer.Ack, TcpState.TimeWait, HasFin(kind)
            ? $"{rule}, eighth: a FIN is acknowledged"
            : $"{rule}, first: not acceptable, send an acknowledgment");
    }

    /// <summary>Section 3.10.7.4, for SYN-RECEIVED and the synchronised states.</summary>
    private static Reaction Synchronised(TcpState state, SegmentKind kind, Position position)
    {
        const string rule = "RFC 9293, section 3.10.7.4";
        bool inWindow = position is not (Position.Below or Position.Outside);

        // First, the sequence number; SYN and RST as RFC 5961 has them.
        if (HasRst(kind))
        {
            if (position == Position.Below && state is (TcpState.CloseWait or TcpState.Closing or TcpState.LastAck))
            {
                return new(Answer.Nothing, TcpState.Closed,
                    $"{rule}, second, extended as by Linux: who aborts after a FIN may not have counted it, reset");
            }
            if (!inWindow)
                return new(Answer.Nothing, state, "RFC 5961, section 3.2: outside the window, silently drop");
            return position == Position.LeftEdge
                ? new(Answer.Nothing, state == TcpState.SynReceived ? TcpState.Listen : TcpState.Closed,
                    "RFC 5961, section 3.2: exactly the next expected sequence number, reset")
                : new(Answer.Ack, state, "RFC 5961, section 3.2: in the window, but not at RCV.NXT: challenge ACK");
        }
        if (state == TcpState.SynReceived && position == Position.Below
            && kind is (SegmentKind.Syn or SegmentKind.SynFin))
        {
            return new(Answer.SynAck, state, "RFC 9293, section 3.8.3: the same SYN again is answered as before");
        }
        if (HasSyn(kind))
        {
            return new(Answer.Ack, state,
                "RFC 5961, section 4.2: irrespective of the sequence number, challenge ACK "
                + "(in SYN-RECEIVED, too, rather than back to LISTEN: a blind SYN must not)");
        }
        if (!inWindow)
            return new(Answer.Ack, state, $"{rule}, first: not acceptable, send an acknowledgment");

        // Fifth, the ACK.
        if (!HasAck(kind))
            return new(Answer.Nothing, state, $"{rule}, fifth: the ACK bit is off, drop the segment");
        TcpState next = state switch
        {
            TcpState.SynReceived => TcpState.Established,
            TcpState.FinWait1 => TcpState.FinWait2,
            TcpState.Closing => TcpState.TimeWait,
            TcpState.LastAck => TcpState.Closed,
            _ => state,
        };

        // Eighth, the FIN.
        if (!HasFin(kind) || next == TcpState.Closed)
            return new(Answer.Nothing, next, $"{rule}, fifth: the ACK");
        if (next is TcpState.CloseWait or TcpState.TimeWait)
            return new(Answer.Ack, next, $"{rule}, eighth: remain in the state; a FIN is answered");
        if (position != Position.LeftEdge)
        {
            return new(Answer.Ack, next,
                $"{rule}, eighth, and section 3.10.7.4, first: a FIN beyond a gap is held or dropped, "
                + "and RCV.NXT acknowledged");
        }
        return new(Answer.AckOfFin, next == TcpState.Established ? TcpState.CloseWait : TcpState.TimeWait,
            $"{rule}, eighth: advance RCV.NXT over the FIN and acknowledge it");
    }
}

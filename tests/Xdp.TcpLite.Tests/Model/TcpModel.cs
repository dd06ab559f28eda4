namespace Xdp.TcpLite.Tests.Model;

/// <summary>Is a segment answered?</summary>
internal enum Answer
{
    /// <summary>Something else may be sent as well, or instead.</summary>
    Perhaps,
    Must,
    MustNot,
}

/// <summary>
/// RFC 9293, section 3.10.7.4, as it is written and as RFC 5961 amends it, for one connection from ESTABLISHED on.
/// Bytes are in arrays, no timer runs but that of data after close, and speed does not matter. What the RFC leaves to
/// the sender (how much to send, how large a window to announce) the model learns from the wire.
/// </summary>
internal sealed class TcpModel
{
    /// <summary>RFC 5961, section 7: challenge ACKs at a limited rate.</summary>
    private static readonly TimeSpan s_challengeInterval = TimeSpan.FromMilliseconds(500);

    private readonly SortedDictionary<uint, byte> _ahead = [];
    private readonly SeqNumber _irs;
    private SeqNumber _wl1, _wl2;
    private SeqNumber? _finAt;
    private SeqNumber _ourFin;
    private bool _ourFinSent;
    private bool _discards;

    /// <summary>
    /// Data after close: where it begins and ends, when it must have ended, and when the peer is reset although none
    /// comes.
    /// </summary>
    private SeqNumber _lateFrom;
    private SeqNumber _lastInvited;
    private Instant _lateEnd = Instant.Never;
    private Instant _lateDeadline = Instant.Never;

    /// <summary>The longest payload in order: less is not invited after close.</summary>
    private int _segment = 536;
    private Instant _challengedAt = new(0);

    internal TcpModel(SeqNumber irs, SeqNumber sndNxt, SeqNumber edge, SeqNumber wl1, SeqNumber wl2, long window)
    {
        _irs = irs;
        RcvNxt = irs + 1;
        SndUna = SndNxt = sndNxt;
        Edge = edge;
        (_wl1, _wl2) = (wl1, wl2);
        SndWnd = MaxSndWnd = window;
    }

    internal TcpState State { get; private set; } = TcpState.Established;
    internal SeqNumber RcvNxt { get; private set; }
    internal SeqNumber SndUna { get; private set; }
    internal SeqNumber SndNxt { get; private set; }

    /// <summary>RCV.NXT + RCV.WND, as announced.</summary>
    internal SeqNumber Edge { get; private set; }
    internal long SndWnd { get; private set; }
    internal long MaxSndWnd { get; private set; }
    internal List<byte> Delivered { get; } = [];
    internal List<byte> Written { get; } = [];
    internal bool Shut { get; private set; }
    internal bool HasMoreToSend => SndNxt - FirstByte < Written.Count || (Shut && !_ourFinSent);
    internal required TcpStackOptions Options { get; init; }
    internal bool Over => State is TcpState.Closed or TcpState.TimeWait;

    /// <summary>The first byte of ours.</summary>
    internal SeqNumber FirstByte { get; init; }

    private bool CanReceive => State is TcpState.Established or TcpState.FinWait1 or TcpState.FinWait2;

    // ---- calls

    internal void Shutdown() => Shut |= State is TcpState.Established or TcpState.CloseWait;

    internal void Close()
    {
        Shutdown();
        if (!_discards)
        {
            _lateFrom = RcvNxt;
            _lastInvited = SeqNumber.Max(Edge, RcvNxt + Options.AfterCloseBytes);
        }
        _discards = true;
        _ahead.Clear();
    }

    /// <summary>Time has passed: a peer that has sent enough after close, and acknowledges nothing, is reset.</summary>
    internal bool Pass(Instant now)
    {
        if (_lateDeadline > now || Over)
            return false;
        State = TcpState.Closed;
        return true;
    }

    internal void Abort() => State = TcpState.Closed;

    // ---- what the stack has sent

    internal void Sent(SeqNumber seq, ReadOnlySpan<byte> payload, TcpFlags flags, SeqNumber ack, int window)
    {
        if ((flags & TcpFlags.Rst) != 0)
            return;
        Require(ack == RcvNxt, $"acknowledges {ack}, where RCV.NXT is {RcvNxt}");
        Require(ack + window >= Edge, $"shrinks the window from {Edge} to {ack + window}");
        Edge = SeqNumber.Max(Edge, ack + window);
        // The peer's FIN takes a number, too.
        SeqNumber last = CanReceive ? _lastInvited : _lastInvited + 1;
        Require(!_discards || Edge <= last, $"invites up to {Edge} after close, beyond {last}");
        for (int i = 0; i < payload.Length; i++)
            Require(payload[i] == Written[seq + i - FirstByte], $"byte {seq + i} is not what was written");
        SeqNumber end = seq + payload.Length;
        if ((flags & TcpFlags.Fin) != 0)
        {
            Require(Shut && end - FirstByte == Written.Count, "the FIN is out of place");
            _ourFin = end;
            if (!_ourFinSent)
                State = State == TcpState.CloseWait ? TcpState.LastAck : TcpState.FinWait1;
            _ourFinSent = true;
            end += 1;
        }
        SndNxt = SeqNumber.Max(SndNxt, end);
    }

    private static void Require(bool holds, string what)
    {
        if (!holds)
            throw new DisagreementException($"the stack {what}");
    }

    // ---- segment arrives

    internal Answer Receive(
        SeqNumber seq, SeqNumber ack, TcpFlags flags, ReadOnlySpan<byte> payload, int window, Instant now)
    {
        bool syn = (flags & TcpFlags.Syn) != 0, fin = (flags & TcpFlags.Fin) != 0;
        int length = payload.Length + (syn ? 1 : 0) + (fin ? 1 : 0);
        bool hasData = length > 0 && !syn;

        // Linux: who aborts after a FIN may not have counted it.
        if ((flags & TcpFlags.Rst) != 0 && seq == RcvNxt - 1
            && State is (TcpState.CloseWait or TcpState.Closing or TcpState.LastAck))
        {
            State = TcpState.Closed;
            return Answer.MustNot;
        }

        // First: the sequence number. A bare segment at the right edge passes, as in Linux, because it may follow data
        // that fills the window.
        int rcvWnd = Math.Max(0, Edge - RcvNxt);
        bool acceptable = length == 0
            ? seq >= RcvNxt && seq <= RcvNxt + rcvWnd
            : seq + length > RcvNxt && seq < RcvNxt + rcvWnd;
        bool probe = !acceptable && rcvWnd == 0 && seq == RcvNxt;
        if (!acceptable && !probe)
        {
            if ((flags & TcpFlags.Rst) != 0)
                return Answer.MustNot;
            return hasData ? Answer.Must : Challenge(now);
        }
        Answer answer = probe ? Answer.Must : Answer.MustNot;

        // Second: RST.
        if ((flags & TcpFlags.Rst) != 0)
        {
            if (seq != RcvNxt)
                return Max(answer, Challenge(now));
            State = TcpState.Closed;
            return Answer.MustNot;
        }

        // Fourth: SYN.
        if (syn)
            return Max(answer, Challenge(now));

        // Fifth: ACK.
        if ((flags & TcpFlags.Ack) == 0)
            return answer;
        if (ack > SndNxt)
            return hasData ? Answer.Must : Max(answer, Challenge(now));
        if (ack < SndUna && (uint)(SndUna - ack) > MaxSndWnd)
            return Max(answer, Challenge(now));
        if (ack >= SndUna && (_wl1 < seq || (_wl1 == seq && _wl2 <= ack)))
        {
            (_wl1, _wl2) = (seq, ack);
            SndWnd = window;
            MaxSndWnd = Math.Max(MaxSndWnd, window);
        }
        if (ack > SndUna && _lateDeadline != Instant.Never)
            _lateDeadline = Instant.Min(_lateEnd, now + Options.AfterCloseSilence);
        SndUna = SeqNumber.Max(SndUna, ack);
        if (_ourFinSent && SndUna > _ourFin)
        {
            State = State switch
            {
                TcpState.FinWait1 => TcpState.FinWait2,
                TcpState.Closing => TcpState.TimeWait,
                TcpState.LastAck => TcpState.Closed,
                TcpState other => other,
            };
            if (Over)
                return Answer.Perhaps;
        }

        // Seventh: the payload.
        if (payload.Length > 0)
        {
            if (!CanReceive)
                return Answer.Perhaps;
            answer = Answer.Must;
            if (_discards && _lateEnd == Instant.Never)
                _lateEnd = now + Options.AfterCloseTime;
            if (_lateEnd <= now)
            {
                State = TcpState.Closed;
                return Answer.Must;
            }
            if (seq <= RcvNxt)
                _segment = Math.Max(_segment, SeqNumber.Min(seq + payload.Length, Edge) - RcvNxt);
            for (int i = 0; i < payload.Length; i++)
            {
                SeqNumber at = seq + i;
                if (at >= RcvNxt && at < Edge && (!_discards || at == RcvNxt))
                    _ahead[(at - _irs - 1).GetUInt()] = payload[i];
                TakeInOrder();
            }
        }

        if (_discards && payload.Length > 0 && _lateDeadline == Instant.Never
            && Options.AfterCloseBytes - (RcvNxt - _lateFrom) < _segment)
        {
            _lateDeadline = Instant.Min(_lateEnd, now + Options.AfterCloseSilence);
        }

        // Eighth: FIN.
        if (fin)
        {
            answer = Answer.Must;
            SeqNumber finAt = seq + payload.Length;
            if (CanReceive && finAt <= Edge && (_finAt is null || finAt == RcvNxt))
                _finAt = finAt;
        }
        if (_finAt is { } there && there < RcvNxt)
            _finAt = null;
        if (_finAt == RcvNxt && CanReceive)
        {
            answer = Answer.Must;
            RcvNxt += 1;
            _finAt = null;
            _ahead.Clear();
            State = State switch
            {
                TcpState.Established => TcpState.CloseWait,
                TcpState.FinWait1 => TcpState.Closing,
                _ => TcpState.TimeWait,
            };
        }
        return answer;
    }

    private void TakeInOrder()
    {
        while (_ahead.Remove((RcvNxt - _irs - 1).GetUInt(), out byte next))
        {
            if (!_discards)
                Delivered.Add(next);
            RcvNxt += 1;
        }
    }

    private Answer Challenge(Instant now)
    {
        if (now - _challengedAt < s_challengeInterval)
            return Answer.MustNot;
        _challengedAt = now;
        return Answer.Must;
    }

    private static Answer Max(Answer left, Answer right) => left == Answer.Must ? left : right;
}

internal sealed class DisagreementException(string message) : Exception(message);

internal static class IntExtensions
{
    internal static uint GetUInt(this int value) => unchecked((uint)value);
}

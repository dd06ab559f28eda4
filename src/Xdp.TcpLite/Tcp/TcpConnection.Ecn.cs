namespace Xdp.TcpLite;

/// <summary>
/// Explicit congestion notification (RFC 3168). As Linux by default: granted to a peer who asks, not asked for. Data carries ECT(0); retransmissions
/// and bare ACKs carry nothing.
/// </summary>
public sealed partial class TcpConnection
{
    private const byte Ect0 = 2;
    private const byte CongestionExperienced = 3;

    /// <summary>A packet of the peer's was marked: say so in every ACK until the peer has answered with CWR.</summary>
    private bool _echoCongestion;

    /// <summary>The window has been reduced: the next new data says so.</summary>
    private bool _sendCwr;

    /// <summary>SND.NXT at the last reduction: echoes up to here are of the same event.</summary>
    private SeqNumber _cwrEnd;
    private bool _cwrEndValid;

    private void NoteMark(in Packet packet)
    {
        if (!_negotiated.Ecn)
            return;
        if (packet.Has(TcpFlags.Cwr))
            _echoCongestion = false;
        if (packet.Ecn == CongestionExperienced && packet.PayloadLength > 0)
        {
            _echoCongestion = true;
            AckNow();
        }
    }

    /// <summary>The peer echoes a mark: once a window it counts as a loss, though nothing needs to be sent again.</summary>
    private void ReactToEcho(in Packet packet, long priorFlight, Instant now)
    {
        if (!_negotiated.Ecn || !packet.Has(TcpFlags.Ece) || _flight.Recovery != Recovery.Open)
            return;
        if (_cwrEndValid && packet.Ack <= _cwrEnd)
            return;
        _cwrEnd = SndNxt;
        _cwrEndValid = true;
        _sendCwr = true;
        _congestion.OnCongestion(_flight.CwndLimited ? _congestion.Cwnd : priorFlight, now);
        _congestion.OnRecoveryExit(now);
    }

    private void MarkOutgoing(ref SegmentFields fields, int length, bool retransmission)
    {
        if (!_negotiated.Ecn)
            return;
        if (_echoCongestion)
            fields.Flags |= TcpFlags.Ece;
        if (length == 0 || retransmission)
            return;
        fields.Ecn = Ect0;
        if (_sendCwr)
        {
            fields.Flags |= TcpFlags.Cwr;
            _sendCwr = false;
        }
    }
}

using System.Runtime.InteropServices;

namespace Xdp.TcpLite;

/// <summary>
/// Explicit congestion notification (RFC 3168). As Linux by default: granted to a peer who asks, not asked for. Data
/// carries ECT(0); retransmissions and bare ACKs carry nothing.
/// </summary>
[StructLayout(LayoutKind.Auto)]
internal struct Ecn(bool enabled)
{
    private const byte Ect0 = 2;
    private const byte CongestionExperienced = 3;

    /// <summary>A packet of the peer's was marked: say so in every ACK until the peer has answered with CWR.</summary>
    private bool _echoes;

    /// <summary>The window has been reduced: the next new data says so.</summary>
    private bool _owesCwr;

    /// <summary>SND.NXT at the last reduction: echoes up to here are of the same event.</summary>
    private SeqNumber _reducedAt;

    /// <summary>
    /// An ACK up to there has not come yet. Afterwards the number says nothing: it would be ahead again once 2 GiB have
    /// been sent.
    /// </summary>
    private bool _hasReduced;

    /// <summary>Takes note of marks. True when the peer should get an ACK at once.</summary>
    internal bool Receive(in Packet packet)
    {
        if (!enabled)
            return false;
        if (packet.Has(TcpFlags.Cwr))
            _echoes = false;
        if (packet.Ecn != CongestionExperienced || packet.PayloadLength == 0)
            return false;
        _echoes = true;
        return true;
    }

    /// <summary>
    /// Does the ACK echo a mark that has not been answered yet? Once for each flight it counts as a loss. From then on
    /// it counts as answered.
    /// </summary>
    /// <param name="packet">The ACK.</param>
    /// <param name="recovering">The window is being reduced for a loss anyway.</param>
    /// <param name="sndNxt">SND.NXT.</param>
    internal bool TryTakeEcho(in Packet packet, bool recovering, SeqNumber sndNxt)
    {
        if (!enabled)
            return false;
        if (_hasReduced && packet.Ack > _reducedAt)
            _hasReduced = false;
        if (!packet.Has(TcpFlags.Ece) || recovering || _hasReduced)
            return false;
        _reducedAt = sndNxt;
        _hasReduced = true;
        _owesCwr = true;
        return true;
    }

    /// <summary>Marks a segment that is about to be sent.</summary>
    internal void Mark(ref SegmentFields fields, int length, bool retransmission)
    {
        if (!enabled)
            return;
        if (_echoes)
            fields.Flags |= TcpFlags.Ece;
        if (length == 0 || retransmission)
            return;
        fields.Ecn = Ect0;
        if (_owesCwr)
        {
            fields.Flags |= TcpFlags.Cwr;
            _owesCwr = false;
        }
    }
}

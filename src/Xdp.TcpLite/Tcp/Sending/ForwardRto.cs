namespace Xdp.TcpLite;

/// <summary>
/// F-RTO (RFC 5682, section 3): was a time-out needless? Once the first segment is sent again, new data goes out rather
/// than more retransmissions. An ACK of a segment that was sent only once, before the time-out, then shows that nothing
/// was lost. With timestamps the first ACK tells already, so this is for peers without.
/// </summary>
internal struct ForwardRto
{
    /// <summary>SND.NXT at the time-out.</summary>
    private SeqNumber _sentBefore;

    private bool _isRunning;

    // Of the present ACK.
    private bool _hasOriginal;
    private bool _hasRetransmission;
    private bool _hasSacked;

    /// <summary>New data may tell more than the next retransmission.</summary>
    internal bool PrefersNewData { get; private set; }

    internal void Begin(SeqNumber sndNxt) => this = new ForwardRto { _sentBefore = sndNxt, _isRunning = true };

    internal void End() => this = default;

    /// <summary>The ACK tells that a segment has arrived.</summary>
    internal void OnDelivered(in SentSegment segment, bool bySack)
    {
        if (segment.Has(SentFlags.EverRetransmitted))
            _hasRetransmission = true;
        else if (segment.EndSeq <= _sentBefore)
            _hasOriginal = true;
        _hasSacked |= bySack;
    }

    /// <summary>The ACK has been worked through. True when the time-out was needless.</summary>
    /// <param name="state">The sender.</param>
    /// <param name="advanced">The ACK moved SND.UNA.</param>
    /// <param name="isDuplicate">It is a duplicate ACK of a peer without SACK.</param>
    internal bool Conclude(in SendState state, bool advanced, bool isDuplicate)
    {
        if (!_isRunning)
            return false;
        // Without SACK, what follows a hole is acknowledged with it: that says nothing about when it arrived.
        bool needless = _hasOriginal && (state.HasSack || !_hasRetransmission);
        bool isHole = state.SndNxt > _sentBefore && (_hasSacked || isDuplicate);
        if (needless || isHole || state.SndUna >= _sentBefore)
        {
            End();
            return needless;
        }
        PrefersNewData |= advanced;
        _hasOriginal = _hasRetransmission = _hasSacked = false;
        return false;
    }

    /// <summary>True when no new data could be sent, so that there is nothing to wait for.</summary>
    internal bool TryGiveUp(SeqNumber sndNxt)
    {
        if (!PrefersNewData || sndNxt > _sentBefore)
            return false;
        End();
        return true;
    }
}

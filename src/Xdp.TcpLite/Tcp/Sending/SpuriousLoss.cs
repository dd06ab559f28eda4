namespace Xdp.TcpLite;

/// <summary>
/// Was it a loss at all? Keeps what shows that retransmissions were needless: a timestamp older than the first of them
/// (Eifel, RFC 3522), or a D-SACK for each (RFC 3708).
/// </summary>
internal struct SpuriousLoss
{
    private int _retransmits;

    /// <summary>An episode is under way, and can be undone.</summary>
    internal bool MayUndo { get; private set; }

    /// <summary>
    /// TSval of the episode's first retransmission: an ACK that echoes less was caused by an original.
    /// </summary>
    internal uint FirstRetransmitTsVal { get; private set; }

    internal void Begin(uint tsVal) => (MayUndo, _retransmits, FirstRetransmitTsVal) = (true, 0, tsVal);

    /// <summary>The episode was undone, or cannot be.</summary>
    internal void End() => MayUndo = false;

    internal void OnRetransmitted() => _retransmits++;

    /// <summary>The peer had one of the retransmitted segments already. True when that holds for all of them.</summary>
    internal bool OnDuplicateReported() => MayUndo && _retransmits > 0 && --_retransmits == 0;
}

namespace Xdp.TcpLite;

/// <summary>
/// Was it a loss at all? Counts what shows that retransmissions were needless: a D-SACK for each of an episode (RFC
/// 3708). The reports may come when the recovery is over and nothing is in flight any more. So the last episode can be
/// undone until the next one.
/// </summary>
internal struct SpuriousLoss
{
    /// <summary>Retransmissions that have not been reported, and one; 0 when nothing can be undone.</summary>
    private ushort _unreported;

    /// <summary>The last episode can be undone.</summary>
    internal readonly bool MayUndo => _unreported > 0;

    /// <summary>An episode begins.</summary>
    /// <param name="inFlight">Retransmissions in flight, which may be reported as well (Linux's tcp_init_undo).</param>
    internal void Begin(int inFlight = 0) => _unreported = (ushort)(inFlight + 1);

    /// <summary>The episode was undone, or cannot be.</summary>
    internal void End() => _unreported = 0;

    /// <summary>More than can be counted are not undone.</summary>
    internal void OnRetransmitted()
    {
        if (MayUndo)
            _unreported++;
    }

    /// <summary>
    /// The peer had so many of the retransmitted segments already. True when that holds for all of them.
    /// </summary>
    internal bool OnDuplicateReported(int segments = 1)
    {
        if (_unreported <= 1)
            return false;
        _unreported = (ushort)Math.Max(1, _unreported - segments);
        return _unreported == 1;
    }
}

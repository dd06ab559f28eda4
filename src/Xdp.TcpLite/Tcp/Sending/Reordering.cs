namespace Xdp.TcpLite;

/// <summary>
/// What is known of reordering on the path, and how long a segment may therefore be late: RACK.reo_wnd (RFC 8985,
/// section 6.2, step 4).
/// </summary>
internal struct Reordering
{
    private const int DupThresh = 3;

    /// <summary>Recoveries for which a widened window is kept after the last D-SACK.</summary>
    private const byte ReoWndPersist = 16;

    private const byte MostReoWndMult = 16;

    private const byte SeenBit = 0x80;

    private byte _reoWndMult;

    /// <summary>
    /// RACK.reo_wnd_persist, and whether reordering was seen. Each connection has one, so bits count.
    /// </summary>
    private byte _persistAndSeen;

    /// <summary>RACK.reordering_seen.</summary>
    internal readonly bool Seen => (_persistAndSeen & SeenBit) != 0;

    internal void OnSeen() => _persistAndSeen |= SeenBit;

    /// <summary>A D-SACK says that a retransmission was needless: segments get another quarter of the RTT.</summary>
    internal void OnDuplicateReported()
    {
        if (_reoWndMult < MostReoWndMult)
            _reoWndMult++;
        _persistAndSeen = (byte)(_persistAndSeen & SeenBit | ReoWndPersist);
    }

    internal void OnRecoveryExit()
    {
        if ((_persistAndSeen & ~SeenBit) > 0 && (--_persistAndSeen & ~SeenBit) == 0)
            _reoWndMult = 0;
    }

    /// <param name="minRtt">Smallest RTT seen of late.</param>
    /// <param name="srtt">Smoothed RTT, the upper bound.</param>
    /// <param name="recovering">In recovery. No time is allowed for reordering then, unless it has been seen.</param>
    /// <param name="sackedSegments">Segments that are SACKed now.</param>
    internal readonly TimeSpan Window(TimeSpan minRtt, TimeSpan srtt, bool recovering, int sackedSegments)
    {
        if (!Seen && (recovering || sackedSegments >= DupThresh))
            return TimeSpan.Zero;
        TimeSpan window = (_reoWndMult + 1) * (minRtt / 4);
        return window < srtt ? window : srtt;
    }
}

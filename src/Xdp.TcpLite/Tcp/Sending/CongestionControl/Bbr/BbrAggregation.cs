namespace Xdp.TcpLite;

/// <summary>
/// How much more than the bandwidth suggests is acknowledged at once (BBR.extra_acked; section 5.5.9): receivers, radio
/// links and middleboxes hold ACKs back. The window is larger by as much, so that sending goes on meanwhile.
/// </summary>
internal struct BbrAggregation
{
    /// <summary>Half of BBR.ExtraAckedFilterLen: the maximum is of this slot of rounds and the one before.</summary>
    private const int RoundsPerSlot = 5;

    private SlottedMax _extra;
    private int _rounds;
    private Instant _start;
    private long _acked;

    internal readonly long Extra => _extra.Value;

    /// <summary>Nothing was in flight: what is acknowledged counts from now on.</summary>
    internal void Restart(Instant now) => (_start, _acked) = (now, 0);

    /// <param name="acked">Bytes of this ACK.</param>
    /// <param name="bandwidth">Bytes a second.</param>
    /// <param name="cwnd">The window: no more than that is extra.</param>
    /// <param name="roundStarted">The ACK begins a round trip.</param>
    /// <param name="isStartup">The bandwidth still grows, so only the last round trip counts.</param>
    /// <param name="now">The present.</param>
    internal void OnAck(long acked, long bandwidth, long cwnd, bool roundStarted, bool isStartup, Instant now)
    {
        if (roundStarted && ++_rounds >= (isStartup ? 1 : RoundsPerSlot))
        {
            _rounds = 0;
            _extra.Advance();
        }
        double expected = bandwidth * (now - _start).TotalSeconds;
        if (_acked <= expected)
        {
            Restart(now);
            expected = 0;
        }
        _acked += acked;
        _extra.Add(Math.Min((long)(_acked - expected), cwnd));
    }
}

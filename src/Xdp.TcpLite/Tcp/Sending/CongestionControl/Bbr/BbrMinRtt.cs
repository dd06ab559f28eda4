namespace Xdp.TcpLite;

/// <summary>
/// The path's round trip without queues: the least of ten seconds (BBR.min_rtt; section 5.3.4.3). When the least of
/// five seconds has not been seen again, it is time to drain the queue and look.
/// </summary>
internal struct BbrMinRtt
{
    /// <summary>BBR.MinRTTFilterLen.</summary>
    private static readonly TimeSpan s_filterLength = TimeSpan.FromSeconds(10);

    /// <summary>BBR.ProbeRTTInterval.</summary>
    private static readonly TimeSpan s_probeInterval = TimeSpan.FromSeconds(5);

    private TimeSpan _probed;
    private Instant _probedAt;
    private Instant _at;

    /// <summary>Zero when unknown.</summary>
    internal TimeSpan Value { get; private set; }

    /// <summary>No round trip as short as the least was seen for five seconds, before the present ACK.</summary>
    internal bool IsProbeDue { get; private set; }

    /// <param name="rtt">What this ACK has measured; zero for nothing.</param>
    /// <param name="least">The least that the connection knows, the handshake's included; zero when unknown.</param>
    /// <param name="now">The present.</param>
    internal void OnAck(TimeSpan rtt, TimeSpan least, Instant now)
    {
        if (Value == TimeSpan.Zero)
        {
            Value = _probed = least;
            _at = _probedAt = now;
        }
        IsProbeDue = now > _probedAt + s_probeInterval;
        if (rtt > TimeSpan.Zero && (rtt < _probed || IsProbeDue))
            (_probed, _probedAt) = (rtt, now);
        if (_probed < Value || now > _at + s_filterLength)
            (Value, _at) = (_probed, _probedAt);
    }

    /// <summary>The queue was drained: the next time is five seconds from now.</summary>
    internal void OnProbed(Instant now) => _probedAt = now;
}

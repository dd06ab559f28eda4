namespace Xdp.TcpLite;

/// <summary>
/// How much a connection may have in flight. Bytes throughout; one call per ACK. A loss episode begins with <see cref="OnCongestion"/> or
/// <see cref="OnRto"/> and ends with <see cref="OnRecoveryExit"/> or <see cref="Undo"/>, one of which must follow: while it lasts, the slow-start threshold does not
/// fall again, except by a time-out after another one.
/// </summary>
internal interface ICongestionControl
{
    /// <summary>At least one MSS.</summary>
    long Cwnd { get; }

    /// <summary><see cref="LossBasedControl.Unlimited"/> until the first loss.</summary>
    long Ssthresh { get; }

    /// <summary>The handshake is done: the initial window (RFC 6928).</summary>
    void Start(int mss);

    void OnMssChanged(int mss);

    /// <summary>Bytes a second at which segments should leave; 0 while that cannot be told.</summary>
    /// <param name="srtt">Smoothed round trip; zero when unknown.</param>
    long PacingRate(TimeSpan srtt);

    /// <summary>New data was acknowledged, in recovery too.</summary>
    void OnAck(in AckSample sample);

    /// <summary>Loss was detected, or ECN echoed: lowers <see cref="Ssthresh"/>. The window is brought down by <see cref="SetCwnd"/> (PRR) until <see cref="OnRecoveryExit"/>.</summary>
    void OnCongestion(long flightSize, Instant now);

    /// <summary>Recovery's own window; never below one MSS.</summary>
    void SetCwnd(long cwnd);

    /// <summary>All that was outstanding when the episode began is acknowledged: after fast recovery the window is the threshold, after a time-out it stays what it has become.</summary>
    void OnRecoveryExit(Instant now);

    /// <summary>
    /// The retransmission timer fired: one segment, and slow start. Not for the back-offs of one segment, whose threshold holds (RFC 5681, section 3.1): those
    /// call <see cref="SetCwnd"/>.
    /// </summary>
    void OnRto(long flightSize, Instant now);

    /// <summary>Nothing was sent for <paramref name="idle"/>, more than an RTO: the window decays towards the initial one (RFC 2861).</summary>
    void OnIdle(TimeSpan idle, TimeSpan rto, Instant now);

    /// <summary>The episode was needless: back to before it, unless the window has grown beyond that.</summary>
    void Undo();
}

namespace Xdp.TcpLite;

/// <summary>
/// How much a connection may have in flight, in bytes; one call for each ACK. A loss episode begins with
/// <see cref="OnCongestion"/> or <see cref="OnRto"/> and must end with <see cref="OnRecoveryExit"/> or
/// <see cref="Undo"/>. While it lasts, only another time-out lowers the slow-start threshold again. The threshold is a
/// share of the window, as in Linux, and not of what was in flight (RFC 5681, section 3.1): the loss of a small answer
/// says nothing against a window that the path has carried before.
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

    /// <summary>
    /// The algorithm sets the window in fast recovery itself. False leaves that to rate reduction, which calls
    /// <see cref="SetCwnd"/>.
    /// </summary>
    bool SetsWindowInRecovery { get; }

    /// <summary>
    /// It sends less than the path carries, on purpose: the rate that is measured meanwhile says nothing of the path.
    /// </summary>
    bool HoldsBack { get; }

    /// <summary>Something is sent while nothing was in flight.</summary>
    void OnFirstSent(Instant now);

    /// <summary>A segment is taken for lost. The calls for an ACK come before those below.</summary>
    void OnLost(in LossSample sample);

    /// <summary>New data was acknowledged, in recovery too.</summary>
    void OnAck(in AckSample sample);

    /// <summary>
    /// A loss was detected, or ECN was echoed: lowers <see cref="Ssthresh"/>. Until <see cref="OnRecoveryExit"/>
    /// recovery brings the window down with <see cref="SetCwnd"/> (PRR), unless <see cref="SetsWindowInRecovery"/>.
    /// </summary>
    void OnCongestion(Instant now);

    /// <summary>Recovery's own window; never below one MSS.</summary>
    void SetCwnd(long cwnd);

    /// <summary>
    /// All that was outstanding when the episode began is acknowledged. After fast recovery the window becomes the
    /// threshold; after a time-out it stays what it has grown to.
    /// </summary>
    void OnRecoveryExit(Instant now);

    /// <summary>
    /// The retransmission timer has fired: one segment, and slow start. Not called for the next time-outs of the same
    /// segment, at which the threshold holds (RFC 5681, section 3.1): those call <see cref="SetCwnd"/>.
    /// </summary>
    void OnRto(Instant now);

    /// <summary>
    /// Nothing was sent for <paramref name="idle"/>, which is more than an RTO: the window decays towards the initial
    /// one (RFC 2861).
    /// </summary>
    void OnIdle(TimeSpan idle, TimeSpan rto, Instant now);

    /// <summary>
    /// The losses were none: back to the state before the last episode, unless the window has grown beyond it. The
    /// episode may be over, but not when there was an idle time since.
    /// </summary>
    void Undo();
}

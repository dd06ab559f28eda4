namespace Xdp.TcpLite;

/// <summary>What happened to a connection since its events were last taken.</summary>
[Flags]
public enum TcpEvents : ushort
{
    None = 0,

    /// <summary>An active open has completed, or a passive one was accepted.</summary>
    Established = 1,

    /// <summary>There are in-order bytes to take.</summary>
    Readable = 2,

    /// <summary>
    /// Written bytes were sent for the first time: <see cref="TcpConnection.UnsentBytes"/> has fallen.
    /// </summary>
    Sent = 4,

    /// <summary>The peer's FIN has arrived in order: nothing follows what is readable now.</summary>
    PeerClosed = 8,

    /// <summary>The peer has reset the connection. What was received and not taken is gone.</summary>
    Reset = 16,

    /// <summary>
    /// Retransmission, keepalive, persist or the user timeout gave up. What was received and not taken is gone.
    /// </summary>
    TimedOut = 32,

    /// <summary>All that was written has been acknowledged, the FIN too if there was one.</summary>
    AllAcknowledged = 64,

    /// <summary>
    /// The stack has forgotten the connection (TIME-WAIT may go on without it). The last event. Where both sides have
    /// closed, what was received stays to be taken.
    /// </summary>
    Closed = 128,

    /// <summary>
    /// The peer has been silent for long. The way to it may have changed, as when a router fails over. A host that
    /// knows its neighbours sets <see cref="TcpConnection.Route"/>. Otherwise the way of the next segment that arrives
    /// is taken, unless there is <see cref="IRoutes"/>.
    /// </summary>
    PathSuspect = 256,

    /// <summary>
    /// An active open has ended: our SYN could not be delivered, says the network or the peer's host (ICMP).
    /// </summary>
    Unreachable = 512,
}

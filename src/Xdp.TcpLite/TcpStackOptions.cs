namespace Xdp.TcpLite;

/// <summary>
/// Settings of a stack and of its connections. Where a peer can see the difference, the defaults are Linux's.
/// </summary>
public sealed record TcpStackOptions
{
    /// <summary>What packets begin with, in both directions.</summary>
    public LinkType Link { get; init; } = LinkType.Ethernet;

    /// <summary>Largest IP packet, in bytes, of the interface.</summary>
    public int Mtu { get; init; } = 1500;

    /// <summary>
    /// Largest IP packet, in bytes, that may be received, where that is more than <see cref="Mtu"/>: packets may lie in
    /// several frames (<see cref="TcpStack.ReceiveChain"/>). Null: they may not.
    /// </summary>
    public int? ReceiveMtu { get; init; }

    /// <summary>
    /// Accept segments whose checksum field holds only the pseudo-header sum, as virtual devices (veth, tap, lo)
    /// deliver local traffic, and generic XDP what the kernel has put together of segments that it has checked (GRO).
    /// Nowhere else: it lets one in 65536 corrupted segments through.
    /// </summary>
    public bool AcceptPartialChecksum { get; init; }

    /// <summary>Copy every payload to heap blocks at once instead of keeping frames.</summary>
    public bool ForceHeap { get; init; }

    /// <summary>
    /// Of each listener, the most established connections that wait for <see cref="TcpStack.TryAccept"/>, and the most
    /// half-open ones.
    /// </summary>
    public int Backlog { get; init; } = 512;

    /// <summary>
    /// True sends small segments at once. False collects them while data is unacknowledged (Nagle's algorithm).
    /// </summary>
    public bool NoDelay { get; init; } = true;

    /// <summary>Hops that IPv4 packets may take, 1 to 255. Linux's ip_default_ttl.</summary>
    public byte TimeToLive { get; init; } = 64;

    /// <summary>Hops that IPv6 packets may take, 1 to 255. Linux's hop_limit of an interface.</summary>
    public byte HopLimit { get; init; } = 64;

    /// <summary>Timestamps are agreed on with peers that have them. Linux's tcp_timestamps.</summary>
    public bool Timestamps { get; init; } = true;

    /// <summary>Selective acknowledgements are agreed on with peers that have them. Linux's tcp_sack.</summary>
    public bool Sack { get; init; } = true;

    /// <summary>
    /// Window scaling is agreed on with peers that have it. Without it no window exceeds 65535 bytes. Linux's
    /// tcp_window_scaling.
    /// </summary>
    public bool WindowScaling { get; init; } = true;

    /// <summary>ECN is granted to peers that ask for it. Linux's tcp_ecn.</summary>
    public bool Ecn { get; init; } = true;

    /// <summary>
    /// SYNs that find no room for a half-open record are answered with a cookie. False drops them. Linux's
    /// tcp_syncookies.
    /// </summary>
    public bool SynCookies { get; init; } = true;

    /// <summary>
    /// SYN-ACKs that are sent again before a half-open record is forgotten. Linux's tcp_synack_retries.
    /// </summary>
    public int SynAckRetries { get; init; } = 5;

    /// <summary>
    /// The congestion window decays while nothing is sent. Linux's tcp_slow_start_after_idle.
    /// </summary>
    public bool SlowStartAfterIdle { get; init; } = true;

    /// <summary>
    /// Connections in TIME-WAIT ignore RSTs, as RFC 1337 has it. Linux's tcp_rfc1337.
    /// </summary>
    public bool IgnoreResetsInTimeWait { get; init; }

    /// <summary>Decides how much a connection may have in flight.</summary>
    public CongestionAlgorithm CongestionControl { get; init; } = CongestionAlgorithm.Cubic;

    /// <summary>
    /// Segments are spread over the round trip, where that is 2 ms or more. False sends what the windows allow at once.
    /// </summary>
    public bool Pacing { get; init; } = true;

    /// <summary>Bytes up to which a connection's receive buffer grows.</summary>
    public int ReceiveBufferMax { get; init; } = 6 << 20;

    /// <summary>Bytes of the receive buffer that a connection starts with.</summary>
    public int ReceiveBufferInitial { get; init; } = 128 << 10;

    /// <summary>
    /// The most bytes that a connection has in flight, and the most that <see cref="TcpConnection.SendBuffer"/> grows
    /// to.
    /// </summary>
    public int SendBufferMax { get; init; } = 4 << 20;

    /// <summary>
    /// Frames that the received payload of one connection may occupy, until the application has read it. Beyond that,
    /// payload is copied to the heap.
    /// </summary>
    public int FramesPerConnection { get; init; } = 64;

    /// <summary>
    /// Bytes in order that each connection may hold whatever the memory in use (Linux: the first value of tcp_rmem).
    /// They are taken in even beyond the budget of the <see cref="BlockPool"/>.
    /// </summary>
    public int ReceiveMinimum { get; init; } = 4096;

    /// <summary>
    /// The fraction of the <see cref="BlockPool"/>'s budget in use below which memory is no longer short. The three
    /// marks are those of tcp_mem in Linux.
    /// </summary>
    public double MemoryLow { get; init; } = 0.5;

    /// <summary>
    /// The fraction of the budget in use from which memory counts as short: no window is renewed beyond
    /// <see cref="ReceiveMinimum"/>.
    /// </summary>
    public double MemoryPressure { get; init; } = 0.7;

    /// <summary>
    /// The fraction of the budget in use from which payload is refused beyond <see cref="ReceiveMinimum"/>. The rest is
    /// for the minimum, and for what is written.
    /// </summary>
    public double MemoryHigh { get; init; } = 0.9;

    public TimeSpan MinRto { get; init; } = TimeSpan.FromMilliseconds(200);
    public TimeSpan MaxRto { get; init; } = TimeSpan.FromSeconds(120);
    public TimeSpan InitialRto { get; init; } = TimeSpan.FromSeconds(1);
    public TimeSpan DelayedAck { get; init; } = TimeSpan.FromMilliseconds(40);

    /// <summary>
    /// A connection is given up when the peer has acknowledged nothing, or kept its window shut, for this long.
    /// </summary>
    public TimeSpan UserTimeout { get; init; } = TimeSpan.FromMinutes(15);

    /// <summary>How long a connection stays in TIME-WAIT.</summary>
    public TimeSpan TimeWait { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>
    /// How long a connection that the application has closed waits in FIN-WAIT-2 for the peer's FIN. Linux's
    /// tcp_fin_timeout.
    /// </summary>
    public TimeSpan FinWait2 { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>
    /// Of a connection that the application has closed, the bytes that the peer may still send. They are acknowledged
    /// and dropped, so that the end of the response arrives at a peer that is still sending. After them the window is
    /// not renewed.
    /// </summary>
    public int AfterCloseBytes { get; init; } = 16 << 20;

    /// <summary>
    /// Once the peer has sent <see cref="AfterCloseBytes"/>, it has so long to acknowledge something new. Then the
    /// connection is reset. The default is that of nginx's lingering_timeout.
    /// </summary>
    public TimeSpan AfterCloseSilence { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>
    /// A peer that still sends so long after its first byte since the application closed is reset. A peer that sends
    /// nothing is not, however long it takes to read the response. The default is that of nginx's lingering_time.
    /// </summary>
    public TimeSpan AfterCloseTime { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// The most connections of the stack that the application has closed and that still go on. Beyond that some are
    /// reset: first those that only wait for the peer's FIN, then those that hold the most (Linux: tcp_max_orphans).
    /// </summary>
    public int MaxOrphans { get; init; } = 65536;

    /// <summary>
    /// The most bytes of memory that such connections may hold, of data that their peers have not acknowledged. Beyond
    /// that, the largest are reset, and of those the oldest.
    /// </summary>
    public long OrphanMemory { get; init; } = 64 << 20;

    /// <summary>
    /// How often in a row such a connection sends again, or probes a shut window, while the peer acknowledges nothing
    /// new. Then it is reset. The default is Linux's for tcp_orphan_retries: more than 100 seconds.
    /// </summary>
    public int OrphanRetries { get; init; } = 8;

    /// <summary>The most connections in TIME-WAIT. Beyond that, the oldest are forgotten.</summary>
    public int MaxTimeWait { get; init; } = 65536;

    /// <summary>Idle time before the first keepalive probe; null sends none. Linux's tcp_keepalive_time.</summary>
    public TimeSpan? KeepAlive { get; init; }

    /// <summary>Time between keepalive probes that are not answered. Linux's tcp_keepalive_intvl.</summary>
    public TimeSpan KeepAliveInterval { get; init; } = TimeSpan.FromSeconds(75);

    /// <summary>
    /// Unanswered probes after which a connection is given up, an interval after the last. Linux's
    /// tcp_keepalive_probes.
    /// </summary>
    public int KeepAliveCount { get; init; } = 9;

    /// <summary>Hops that the flow's packets may take.</summary>
    internal byte HopsOf(in FlowKey flow) => flow.Local.IsIPv4 ? TimeToLive : HopLimit;
}

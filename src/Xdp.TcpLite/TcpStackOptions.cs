namespace Xdp.TcpLite;

/// <summary>Settings of a stack and defaults for its connections. Where a peer can see the difference, the defaults are Linux's.</summary>
public sealed record TcpStackOptions
{
    /// <summary>What packets begin with, in both directions.</summary>
    public LinkType Link { get; init; } = LinkType.Ethernet;

    /// <summary>Largest IP packet, in bytes, of the interface.</summary>
    public int Mtu { get; init; } = 1500;

    /// <summary>
    /// Accept segments whose checksum field holds only the pseudo-header sum, as virtual devices (veth, tap, lo) deliver
    /// local traffic. Never on a physical device: it would let corrupted segments through.
    /// </summary>
    public bool AcceptPartialChecksum { get; init; }

    /// <summary>Copy every payload to heap blocks at once instead of keeping frames.</summary>
    public bool ForceHeap { get; init; }

    /// <summary>Established connections that wait for <see cref="TcpStack.TryAccept"/>, and half-open ones, per listener.</summary>
    public int Backlog { get; init; } = 512;

    /// <summary>Send small segments at once (true) or collect them while data is unacknowledged, as Nagle has it (false).</summary>
    public bool NoDelay { get; init; } = true;

    /// <summary>How much a connection may have in flight, and how that changes.</summary>
    public CongestionAlgorithm CongestionControl { get; init; } = CongestionAlgorithm.Cubic;

    /// <summary>Bytes up to which a connection's receive buffer grows.</summary>
    public int ReceiveBufferMax { get; init; } = 6 << 20;

    /// <summary>Bytes of the receive buffer that a connection starts with.</summary>
    public int ReceiveBufferInitial { get; init; } = 128 << 10;

    /// <summary>Bytes that a connection has in flight, unacknowledged, at the most.</summary>
    public int SendBufferMax { get; init; } = 4 << 20;

    /// <summary>Frames that one connection's undelivered and application-held payload may occupy; beyond it payload is copied to the heap.</summary>
    public int FramesPerConnection { get; init; } = 64;

    public TimeSpan MinRto { get; init; } = TimeSpan.FromMilliseconds(200);
    public TimeSpan MaxRto { get; init; } = TimeSpan.FromSeconds(120);
    public TimeSpan InitialRto { get; init; } = TimeSpan.FromSeconds(1);
    public TimeSpan DelayedAck { get; init; } = TimeSpan.FromMilliseconds(40);

    /// <summary>How long an unacknowledged segment, or a window that stays shut, is put up with.</summary>
    public TimeSpan UserTimeout { get; init; } = TimeSpan.FromMinutes(15);

    /// <summary>How long a connection that both sides have closed is remembered.</summary>
    public TimeSpan TimeWait { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>How long a connection that the application has closed waits for the peer's FIN.</summary>
    public TimeSpan FinWait2 { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>Connections in TIME-WAIT that are remembered; beyond it the oldest are forgotten.</summary>
    public int MaxTimeWait { get; init; } = 65536;

    /// <summary>Idle time before the first keepalive probe; null sends none.</summary>
    public TimeSpan? KeepAlive { get; init; }
}

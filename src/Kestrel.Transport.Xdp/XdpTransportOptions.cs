using System.Net;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Xdp.Sockets;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp;

/// <summary>
/// Settings of the AF_XDP transport. They bind from the configuration section <c>Kestrel:Xdp</c>; code comes after it.
/// Properties that <see cref="SocketTransportOptions"/> has too are taken from there while they are null here, and
/// others from the settings of the network namespace (sysctl), as those of sockets are.
/// </summary>
public sealed class XdpTransportOptions
{
    /// <summary>
    /// Whether the transport serves anything. False leaves everything to the socket transport, whatever the other
    /// settings are.
    /// </summary>
    public bool Enabled { get; set; } = true;

    /// <summary>
    /// Names of the interfaces to serve on; alternative names are as good. Empty: those that own an endpoint's address
    /// and accept native XDP, without bridges, bonds and tunnels. In the host's initial network namespace none is taken
    /// unless it is named.
    /// </summary>
    public IList<string> Interfaces { get; } = [];

    /// <summary>
    /// Segments to which addresses are served on an interface. What is sent to others is the companion's.
    /// </summary>
    public LocalAddresses LocalAddresses { get; set; }

    /// <summary>
    /// How the XDP program is attached. Generic is never a silent fallback: where native is refused, the companion
    /// sockets serve.
    /// </summary>
    public AttachMode AttachMode { get; set; }

    /// <summary>How the queues' sockets exchange frames with the driver.</summary>
    public BindMode BindMode { get; set; }

    /// <summary>
    /// NIC queues to serve, by number; null is all of them. Name a subset only where RSS is restricted to it: what
    /// arrives on other queues is the companion's.
    /// </summary>
    public IList<int>? Queues { get; set; }

    /// <summary>
    /// Frames of 2048 bytes per queue; a power of two is not needed. Null: as many as both rings and the work between
    /// them take, within <see cref="MemoryBudget"/>.
    /// </summary>
    public int? FramesPerQueue { get; set; }

    /// <summary>
    /// Bytes of frames over all queues of the process. Queues that would exceed it get fewer frames, down to a minimum,
    /// then none.
    /// </summary>
    public long MemoryBudget { get; set; } = 512L << 20;

    /// <summary>
    /// Entries of the RX and the FILL ring, a power of two. Smaller rings lose packets in a garbage collection's pause.
    /// </summary>
    public int ReceiveRingSize { get; set; } = 8192;

    /// <summary>Entries of the TX ring, a power of two. The COMPLETION ring has twice as many.</summary>
    public int TransmitRingSize { get; set; } = 2048;

    /// <summary>
    /// How long a queue's thread looks for work before it sleeps. It costs a core; zero sleeps at once.
    /// </summary>
    public TimeSpan BusySpin { get; set; }

    /// <summary>
    /// An endpoint that AF_XDP cannot serve fails the start with <see cref="XdpUnavailableException"/>. False: sockets
    /// serve it, and a log line says why.
    /// </summary>
    public bool Required { get; set; }

    /// <summary>
    /// Which endpoints to serve; null is all of them but loopback. The others are left to the socket transport. Not
    /// from configuration.
    /// </summary>
    public Func<IPEndPoint, bool>? EndpointFilter { get; set; }

    /// <summary>
    /// When it has entries, only these sources, and loopback, may connect. The XDP program drops what others send, and
    /// the companion sockets refuse them. It stands in for the firewall rules that segments over AF_XDP do not meet.
    /// Follows the configuration while the app runs.
    /// </summary>
    public IList<IPNetwork> AllowedSources { get; } = [];

    /// <summary>
    /// These sources may not connect, allowed or not, loopback included. Follows the configuration while the app runs.
    /// </summary>
    public IList<IPNetwork> DeniedSources { get; } = [];

    /// <summary>
    /// How long the exit waits for peers to acknowledge what was sent to them. The time starts anew whenever one of
    /// them does.
    /// </summary>
    public TimeSpan ShutdownLinger { get; set; } = TimeSpan.FromSeconds(5);

    /// <summary>The longest that the exit waits, however steadily peers acknowledge.</summary>
    public TimeSpan ShutdownLingerMax { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// Bytes up to which a connection's receive buffer, and with it the window, grows. Null: the third value of
    /// net.ipv4.tcp_rmem.
    /// </summary>
    public int? ReceiveBufferMax { get; set; }

    /// <summary>
    /// Bytes that a connection holds for the peer until it has acknowledged them, at the most: its send buffer, which
    /// grows with the congestion window. What an application writes beyond it is bounded by
    /// <see cref="MaxWriteBufferSize"/>. Null: the third value of net.ipv4.tcp_wmem.
    /// </summary>
    public int? SendBufferMax { get; set; }

    /// <summary>
    /// What decides how fast connections send. Kernel sockets call it TCP_CONGESTION. Null: what
    /// net.ipv4.tcp_congestion_control names, or CUBIC where that is none of these.
    /// </summary>
    public CongestionAlgorithm? CongestionControl { get; set; }

    /// <summary>
    /// How long a connection is silent before its peer is asked whether it is still there (TCP keepalive); null never
    /// asks. Kernel sockets call it TCP_KEEPIDLE.
    /// </summary>
    public TimeSpan? KeepAliveTime { get; set; }

    /// <summary>
    /// Time between questions that are not answered. Kernel sockets call it TCP_KEEPINTVL. Null:
    /// net.ipv4.tcp_keepalive_intvl.
    /// </summary>
    public TimeSpan? KeepAliveInterval { get; set; }

    /// <summary>
    /// Unanswered questions after which a connection is taken for dead. Kernel sockets call it TCP_KEEPCNT. Null:
    /// net.ipv4.tcp_keepalive_probes.
    /// </summary>
    public int? KeepAliveCount { get; set; }

    /// <summary>
    /// How long data may stay unacknowledged, or the peer's window shut, before a connection is taken for dead. Kernel
    /// sockets call it TCP_USER_TIMEOUT. Null: the time that net.ipv4.tcp_retries2 stands for.
    /// </summary>
    public TimeSpan? UserTimeout { get; set; }

    /// <summary>See <see cref="SocketTransportOptions.Backlog"/>; null takes its value.</summary>
    public int? Backlog { get; set; }

    /// <summary>See <see cref="SocketTransportOptions.NoDelay"/>; null takes its value.</summary>
    public bool? NoDelay { get; set; }

    /// <summary>
    /// On a veth without a queueing discipline, segments of a connection that follow each other go as one packet, by a
    /// packet socket beside the AF_XDP socket (GSO). It is divided by whoever has to. False sends each on the TX ring.
    /// Default: true.
    /// </summary>
    public bool SegmentationOffload { get; set; } = true;

    /// <summary>
    /// See <see cref="SocketTransportOptions.MaxReadBufferSize"/>; null takes its value, 0 is unlimited.
    /// </summary>
    public long? MaxReadBufferSize { get; set; }

    /// <summary>
    /// See <see cref="SocketTransportOptions.MaxWriteBufferSize"/>; null takes its value, 0 is unlimited.
    /// </summary>
    public long? MaxWriteBufferSize { get; set; }

    /// <summary>See <see cref="SocketTransportOptions.UnsafePreferInlineScheduling"/>; null takes its value.</summary>
    public bool? UnsafePreferInlineScheduling { get; set; }
}

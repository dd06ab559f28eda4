namespace Xdp.TcpLite;

/// <summary>
/// Why a received packet, or a part of it, was not used. Each has its counter in <see cref="TcpStackCounters"/>.
/// </summary>
public enum DropReason
{
    None,

    // ---- parsing

    /// <summary>The frame ends inside its Ethernet, VLAN or IP header.</summary>
    TooShort,

    /// <summary>Neither IPv4 nor IPv6.</summary>
    NotIp,

    /// <summary>IP, but its payload is not TCP.</summary>
    NotTcp,

    /// <summary>Wrong version, header length, or an extension header that must not be passed over.</summary>
    BadIpHeader,

    /// <summary>The IP length is less than its header or more than the frame.</summary>
    BadIpLength,
    BadIpChecksum,
    Fragment,

    /// <summary>Multicast, broadcast, unspecified, loopback, IPv4-mapped, or the host's own.</summary>
    BadSourceAddress,

    /// <summary>Link-layer or IP multicast or broadcast, unspecified, loopback or IPv4-mapped.</summary>
    BadDestinationAddress,

    /// <summary>
    /// The segment is shorter than a TCP header, or the data offset lies within the fixed header or past the end.
    /// </summary>
    BadTcpHeader,
    BadTcpChecksum,
    PortZero,

    /// <summary>Source and destination are the same address and port.</summary>
    Land,

    /// <summary>
    /// ICMP that does not say that a segment was not delivered, or whose checksum or quoted segment is bad.
    /// </summary>
    BadIcmp,

    // ---- handshake

    NoListener,

    /// <summary>The host takes no packets from there, or has no way back.</summary>
    NoRoute,
    BacklogFull,
    AcceptQueueFull,
    SynCookieInvalid,

    /// <summary>A SYN with FIN or RST, or one that is out of place.</summary>
    BadSyn,

    // ---- connections

    /// <summary>Not one of its bytes lies in the receive window.</summary>
    OutOfWindow,

    /// <summary>Acknowledges what was never sent, or is older than the largest window.</summary>
    BadAck,

    /// <summary>No ACK flag where one must be.</summary>
    MissingAck,

    /// <summary>The timestamp is older than the last one (RFC 7323, section 5).</summary>
    PawsFailed,

    /// <summary>A RST that is not exactly at RCV.NXT.</summary>
    BadRst,

    /// <summary>All of its bytes had arrived before.</summary>
    Duplicate,

    /// <summary>Out of order, and the connection already holds as much of that as it may.</summary>
    ReassemblyFull,
    NoMemory,

    /// <summary>Data for an application that has stopped reading.</summary>
    ClosedReceive,

    /// <summary>A segment to a connection in TIME-WAIT that does not open a new one.</summary>
    TimeWaitSegment,

    /// <summary>
    /// ICMP about a segment that is not in flight, or with news that are none. Once a connection is established, that a
    /// segment could not be delivered is none: it is sent again.
    /// </summary>
    UnknownIcmp,
}

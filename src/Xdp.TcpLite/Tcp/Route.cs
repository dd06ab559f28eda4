namespace Xdp.TcpLite;

/// <summary>Who carries packets to a peer.</summary>
public enum RouteKind
{
    /// <summary>The stack's own link.</summary>
    Link,

    /// <summary>The host, by another link. Packets begin with IP.</summary>
    Elsewhere,

    /// <summary>
    /// Nobody: there is no way back, or the host takes nothing from this address. No connection is opened. One that is
    /// open already sends as with <see cref="Elsewhere"/>, and it is left to the host what becomes of that.
    /// </summary>
    Refused,
}

/// <summary>A way to peers. Connections that take the same one share it. It does not change.</summary>
/// <param name="path">On the link; <see cref="LinkPath.IpOnly"/> where another one carries the packets.</param>
/// <param name="kind">Who carries the packets.</param>
public class Route(in LinkPath path, RouteKind kind = RouteKind.Link)
{
    internal readonly LinkPath Value = path;

    public LinkPath Path => Value;

    public RouteKind Kind => kind;

    /// <summary>Bytes of the largest IP packet that is sent this way, if that is less than the link's MTU.</summary>
    public int Mtu { get; init; } = int.MaxValue;

    /// <summary>No router's word changes <see cref="Mtu"/>, and routers may fragment.</summary>
    public bool IsMtuLocked { get; init; }

    /// <summary>The most that our SYNs say the peer may send in a segment; null says what fits.</summary>
    public int? AdvertisedMss { get; init; }

    /// <summary>A connection has sent something this way. The stack sets it, the host clears it.</summary>
    public bool IsUsed { get; set; }
}

/// <summary>
/// The ways to peers, where a host knows better than to answer the way a packet came. Called in the stack's turns.
/// </summary>
public interface IRoutes
{
    /// <summary>
    /// The way to the flow's peer. The flow's local address is where its packets come in, so that the route is none
    /// where the host would not take them.
    /// </summary>
    /// <param name="flow">The flow.</param>
    /// <param name="ask">The host finds out what it does not know.</param>
    /// <returns>Null while it is not known.</returns>
    Route? Find(in FlowKey flow, bool ask);

    /// <summary>
    /// The host has so much to find out that new peers are better answered without: SYNs with cookies, the way they
    /// came, and strays not at all.
    /// </summary>
    bool IsBusy { get; }
}

using System.Net;

namespace Xdp.Sockets.Net;

/// <summary>A TCP flow, seen from this host, as the kernel's routing sees it.</summary>
public readonly record struct RoutedFlow(IPAddress Local, IPAddress Remote, ushort LocalPort, ushort RemotePort);

/// <summary>The way of a packet, by the kernel's routing tables (<c>ip route get</c>).</summary>
/// <param name="Ifindex">The interface that it leaves by.</param>
/// <param name="NextHop">Who gets it there: the peer itself when it is on the link.</param>
public sealed record KernelRoute(int Ifindex, IPAddress NextHop)
{
    /// <summary>Bytes of the largest packet; null where the route says none, and the interface's MTU holds.</summary>
    public int? Mtu { get; init; }

    /// <summary>No router's word changes the MTU (<c>mtu lock</c>).</summary>
    public bool IsMtuLocked { get; init; }

    /// <summary>The kernel puts packets into others on their way (<c>encap</c>).</summary>
    public bool IsEncapsulated { get; init; }

    /// <summary>
    /// It is this peer's alone, and for a time: a router has told of another path MTU or next hop. The MTU is the
    /// router's word then.
    /// </summary>
    public bool IsException { get; init; }

    /// <summary>The MSS that SYNs announce; null where the route says none.</summary>
    public int? AdvertisedMss { get; init; }
}

/// <summary>A prefix that the routing tables or rules mention.</summary>
/// <param name="Address">The prefix, with zeros behind it.</param>
/// <param name="Length">In bits.</param>
/// <param name="HasSeveralHops">The kernel chooses the next hop by the peer's address, or by the flow.</param>
public readonly record struct RoutePrefix(IPAddress Address, int Length, bool HasSeveralHops);

/// <summary>
/// What makes the kernel route one peer in another way than the next. Peers that lie in the same of these prefixes are
/// one to it.
/// </summary>
/// <param name="Prefixes">Of all tables and rules; null when there are too many to tell.</param>
/// <param name="DependsOnPorts">A rule goes by ports.</param>
public sealed record RouteDistinctions(IReadOnlyList<RoutePrefix>? Prefixes, bool DependsOnPorts);

using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Queues;

/// <summary>A way to peers, by the kernel's tables.</summary>
/// <param name="path">On the queue's link; <see cref="LinkPath.IpOnly"/> where the kernel carries the packets.</param>
/// <param name="kind">Who carries the packets.</param>
/// <param name="ifindex">The interface that they leave by; 0 for none.</param>
/// <param name="nextHop">Who gets them there.</param>
internal sealed class HostRoute(in LinkPath path, RouteKind kind, int ifindex = 0, IpAddr nextHop = default)
    : Route(path, kind)
{
    internal int Ifindex => ifindex;

    internal IpAddr NextHop => nextHop;

    internal bool IsSameAs(HostRoute other) =>
        (Path, Kind, Ifindex, NextHop, Mtu, IsMtuLocked, AdvertisedMss)
            == (other.Path, other.Kind, other.Ifindex, other.NextHop, other.Mtu, other.IsMtuLocked,
                other.AdvertisedMss);
}

/// <summary>What the kernel says of the way to one peer.</summary>
/// <param name="Route">Null when it could not be found out.</param>
/// <param name="HoldsForClass">It is that of all peers which the kernel routes as this one.</param>
internal readonly record struct RouteAnswer(HostRoute? Route, bool HoldsForClass);

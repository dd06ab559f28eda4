using System.Net;
using System.Net.Sockets;
using Xdp.Sockets.Net;
using NetworkNamespace = Xdp.Sockets.NetworkNamespace;

namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>Which interfaces an endpoint is served on, before anything is tried.</summary>
internal static class InterfaceSelector
{
    // Devices whose packets are somebody else's, or pass through another device of ours as well.
    private static readonly string[] UnsuitableKinds =
    [
        "bridge", "bond", "team", "dummy", "ifb", "vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "vrf", "vxlan",
        "geneve", "gre", "gretap", "ip6gre", "ip6gretap", "erspan", "sit", "ipip", "ip6tnl", "wireguard", "xfrm",
        "openvswitch", "nlmon", "vcan", "can", "ppp", "lowpan", "hsr", "batadv",
    ];

    /// <summary>Names, and why there are none when there are none.</summary>
    internal readonly record struct Selection(IReadOnlyList<string> Names, string? Reason);

    internal static Selection Select(XdpTransportOptions options, IPEndPoint endpoint) =>
        options.Interfaces.Count > 0
            ? Named(options, endpoint, NetworkInterfaceInfo.List())
            : NetworkNamespace.IsInitial
                ? new([], "no interface is named (XdpTransportOptions.Interfaces), "
                    + "and in the host's initial network namespace none is taken unasked")
                : ByDefault(endpoint, NetworkInterfaceInfo.List(), options.LocalAddresses);

    /// <summary>
    /// Named interfaces are all meant, also those that are missing now. Only when another interface has the endpoint's
    /// address, none of them is. An interface may be named more than once, and by any of its names.
    /// </summary>
    internal static Selection Named(
        XdpTransportOptions options, IPEndPoint endpoint, IReadOnlyList<NetworkInterfaceInfo> all)
    {
        string[] names =
            [.. options.Interfaces.Select(name => all.FirstOrDefault(i => i.IsNamed(name))?.Name ?? name).Distinct()];
        // What is kept where no packet arrives comes in through any interface.
        NetworkInterfaceInfo? owner = IsWildcard(endpoint.Address) || options.LocalAddresses == LocalAddresses.All
            ? null
            : all.FirstOrDefault(i => Owns(i, endpoint.Address) && !ReceivesNothing(i));
        if (owner is null)
            return new(names, null);
        return names.Contains(owner.Name)
            ? new([owner.Name], null)
            : new([], $"the address belongs to {owner.Name}, "
                + $"which is not among the named interfaces ({string.Join(", ", names)})");
    }

    internal static Selection ByDefault(
        IPEndPoint endpoint, IReadOnlyList<NetworkInterfaceInfo> all,
        LocalAddresses which = LocalAddresses.Interface)
    {
        var names = new List<string>();
        var refusals = new List<string>();
        bool explicitly = !IsWildcard(endpoint.Address) || which == LocalAddresses.All;
        foreach (NetworkInterfaceInfo device in all)
        {
            bool elsewhere =
                explicitly && Elsewhere(device, all, which).Any(a => Covers(endpoint.Address, a.Address));
            if (device.IsLoopback || !(elsewhere || Owns(device, endpoint.Address)))
                continue;
            if (Unsuitable(device) is { } refusal)
                refusals.Add($"{device.Name} {refusal}");
            else
                names.Add(device.Name);
        }
        return new(names, names.Count > 0 ? null
            : refusals.Count > 0
                ? string.Join("; ", refusals) + "; naming it (XdpTransportOptions.Interfaces) overrides this"
            : "no interface but loopback has the address");
    }

    /// <summary>
    /// Addresses of the machine that other interfaces have, and that segments on this one may be for: those that are
    /// kept on an interface where no packet arrives, or all.
    /// </summary>
    internal static IReadOnlyList<InterfaceAddress> Elsewhere(
        NetworkInterfaceInfo device, IReadOnlyList<NetworkInterfaceInfo> all, LocalAddresses which) =>
        OfOthers(device, all, other => which == LocalAddresses.All || ReceivesNothing(other));

    /// <summary>
    /// Addresses of other interfaces that are served. A host takes what is for one of its addresses by whichever
    /// interface it comes.
    /// </summary>
    internal static IReadOnlyList<InterfaceAddress> OfOthers(
        NetworkInterfaceInfo device, IReadOnlyList<NetworkInterfaceInfo> all, Func<int, bool> isServed) =>
        OfOthers(device, all, other => isServed(other.Index));

    // Loopback and link-local ones stay where they are.
    private static List<InterfaceAddress> OfOthers(
        NetworkInterfaceInfo device, IReadOnlyList<NetworkInterfaceInfo> all, Func<NetworkInterfaceInfo, bool> which) =>
    [
        .. all.Where(other => other.Index != device.Index && which(other)).SelectMany(static other => other.Addresses)
            .Where(static own => !IPAddress.IsLoopback(own.Address) && !own.Address.IsIPv6LinkLocal),
    ];

    private static bool ReceivesNothing(NetworkInterfaceInfo device) => device.IsLoopback || device.Kind == "dummy";

    private static string? Unsuitable(NetworkInterfaceInfo device)
    {
        if (!device.IsUp)
            return "is down";
        if (device.MasterIndex != 0)
            return "belongs to a bridge, bond or VRF";
        if (device.Kind is { } kind && UnsuitableKinds.Contains(kind))
            return $"is a {kind}";
        if (device.Name.StartsWith("docker", StringComparison.Ordinal)
            || device.Name.StartsWith("br-", StringComparison.Ordinal))
            return "is a container bridge";
        return device.Mac.GetAddressBytes().Length == 6 ? null : "is no Ethernet device";
    }

    internal static bool IsWildcard(IPAddress address) =>
        address.Equals(IPAddress.Any) || address.Equals(IPAddress.IPv6Any);

    private static bool Owns(NetworkInterfaceInfo device, IPAddress address) =>
        device.Addresses.Any(a => Covers(address, a.Address));

    /// <summary>
    /// Does a listener on <paramref name="address"/> get what is sent to <paramref name="local"/>? The IPv6 wildcard
    /// takes IPv4 too.
    /// </summary>
    internal static bool Covers(IPAddress address, IPAddress local) =>
        address.Equals(IPAddress.IPv6Any)
        || (address.Equals(IPAddress.Any) && local.AddressFamily == AddressFamily.InterNetwork)
        || address.Equals(local)
        || (address.IsIPv4MappedToIPv6 && address.MapToIPv4().Equals(local));
}

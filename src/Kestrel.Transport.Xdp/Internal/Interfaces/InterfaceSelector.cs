using System.Net;
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
                : ByDefault(endpoint, NetworkInterfaceInfo.List());

    /// <summary>
    /// Named interfaces are all meant, also those that are missing now. Only when another interface has the endpoint's
    /// address, none of them is.
    /// </summary>
    internal static Selection Named(
        XdpTransportOptions options, IPEndPoint endpoint, IReadOnlyList<NetworkInterfaceInfo> all)
    {
        if (IsWildcard(endpoint.Address))
            return new([.. options.Interfaces], null);
        NetworkInterfaceInfo? owner = all.FirstOrDefault(i => Owns(i, endpoint.Address));
        if (owner is null)
            return new([.. options.Interfaces], null);
        return options.Interfaces.Contains(owner.Name)
            ? new([owner.Name], null)
            : new([], $"the address belongs to {owner.Name}, "
                + $"which is not among the named interfaces ({string.Join(", ", options.Interfaces)})");
    }

    internal static Selection ByDefault(IPEndPoint endpoint, IReadOnlyList<NetworkInterfaceInfo> all)
    {
        var names = new List<string>();
        var refusals = new List<string>();
        foreach (NetworkInterfaceInfo device in all)
        {
            bool hasAddress = IsWildcard(endpoint.Address)
                ? device.Addresses.Count > 0
                : Owns(device, endpoint.Address);
            if (device.IsLoopback || !hasAddress)
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
        device.Addresses.Any(a =>
            a.Address.Equals(address) || (address.IsIPv4MappedToIPv6 && a.Address.Equals(address.MapToIPv4())));
}

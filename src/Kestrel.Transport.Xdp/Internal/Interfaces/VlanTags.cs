using Xdp.Sockets.Net;

namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>
/// A NIC that takes VLAN tags out of packets hides from the XDP program which packets are tagged. Those of VLANs would
/// be taken for the interface's own.
/// </summary>
internal static class VlanTags
{
    /// <summary>
    /// Why the interface cannot be served; null when all tags are seen, or nobody has VLANs on it, or on the bond or
    /// bridge that it belongs to.
    /// </summary>
    internal static string? WhyNot(NetworkInterfaceInfo device, IReadOnlyList<NetworkInterfaceInfo> all)
    {
        if (!device.StripsVlanTags)
            return null;
        string[] vlans =
        [
            .. all.Where(other => other.Kind == "vlan"
                    && (other.LowerIndex == device.Index
                        || (device.MasterIndex != 0 && other.LowerIndex == device.MasterIndex)))
                .Select(static other => other.Name),
        ];
        return vlans.Length == 0
            ? null
            : $"{device.Name} takes VLAN tags out of packets, so that those for {string.Join(", ", vlans)} could not "
                + $"be told from its own: ethtool -K {device.Name} rxvlan off";
    }
}

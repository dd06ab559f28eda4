using System.Globalization;

namespace Xdp.Sockets.Net;

/// <summary>
/// What the administrator has the kernel do with the segments of sockets: packet filters (nftables, which iptables-nft
/// is a part of, and the older iptables), traffic control, and IPsec. Segments over AF_XDP pass all of it by. It is
/// what one network namespace has at one moment.
/// </summary>
public sealed class HostPolicy
{
    private readonly NfTables _filters;
    private readonly IReadOnlyList<string> _olderFilters, _olderSourceNat;
    private readonly TrafficControl _traffic;
    private readonly IReadOnlyList<IpSecPolicy> _ipSec;
    private readonly Dictionary<string, int> _indices;
    private readonly (int First, int Last) _ephemeral;

    private HostPolicy()
    {
        _filters = NfTables.Read();
        _olderFilters = IpTables.PassedBy();
        _olderSourceNat = IpTables.MayTakePort();
        _traffic = TrafficControl.Read();
        _ipSec = IpSecPolicy.Read();
        _indices = NetworkInterfaceInfo.List().ToDictionary(link => link.Name, link => link.Index);
        _ephemeral = ReadEphemeralPorts();
    }

    /// <summary>
    /// Of the calling thread's network namespace. What the kernel does not tell is taken for not being there: it wants
    /// CAP_NET_ADMIN. Loads no kernel module.
    /// </summary>
    /// <exception cref="XdpException">The kernel does not tell about its interfaces.</exception>
    public static HostPolicy Read() => new();

    /// <summary>
    /// What may apply to the TCP segments of a port on an interface, each named as its own tool does:
    /// <c>inet filter input (drop)</c>, <c>tc qdisc tbf on eth0</c>. Rules that only accept are left out. A rule whose
    /// conditions are not understood is taken to apply.
    /// </summary>
    /// <param name="port">Of a listener on this machine.</param>
    /// <param name="interfaceName">Where its segments come and go.</param>
    public IReadOnlyList<string> PassedBy(int port, string interfaceName)
    {
        int index = _indices.GetValueOrDefault(interfaceName);
        return
        [
            .. _filters.PassedBy(port, interfaceName), .. _olderFilters, .. _traffic.PassedBy(index, interfaceName),
            .. _ipSec.Where(policy => policy.IsFor(port, index)).Select(policy => policy.ToString()).Distinct(),
        ];
    }

    /// <summary>
    /// The source NAT that may give the port to connections which this machine forwards. Their answers would be taken
    /// for segments to the listener.
    /// </summary>
    /// <param name="port">Of a listener on this machine.</param>
    public IReadOnlyList<string> SourceNatMayUse(int port) =>
    [
        .. _filters.MayTakePort(port, _ephemeral),
        .. port >= _ephemeral.First && port <= _ephemeral.Last ? _olderSourceNat : [],
    ];

    private static (int First, int Last) ReadEphemeralPorts()
    {
        try
        {
            string[] range = File.ReadAllText("/proc/sys/net/ipv4/ip_local_port_range")
                .Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
            return (Number(range[0]), Number(range[1]));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or FormatException)
        {
            return (32768, 60999);
        }

        static int Number(string text) => int.Parse(text, CultureInfo.InvariantCulture);
    }
}

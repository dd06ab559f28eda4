using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;

namespace Xdp.Sockets.Net;

/// <summary>
/// The older iptables, which have their own place in the kernel. Of them only the number of rules is looked at, not
/// which segments they are for.
/// </summary>
internal static class IpTables
{
    private const int PreRouting = 0, LocalIn = 1, LocalOut = 3, PostRouting = 4; // NF_INET_PRE_ROUTING, …

    // Where the segments of a socket pass. NAT looks at the first packet of a connection only: at none that we send.
    private static readonly Place[] s_places =
    [
        new("raw", PreRouting, "PREROUTING"), new("mangle", PreRouting, "PREROUTING"),
        new("nat", PreRouting, "PREROUTING"),
        new("mangle", LocalIn, "INPUT"), new("filter", LocalIn, "INPUT"), new("security", LocalIn, "INPUT"),
        new("nat", LocalIn, "INPUT"),
        new("raw", LocalOut, "OUTPUT"), new("mangle", LocalOut, "OUTPUT"), new("filter", LocalOut, "OUTPUT"),
        new("security", LocalOut, "OUTPUT"), new("mangle", PostRouting, "POSTROUTING"),
    ];

    private static readonly Place[] s_sourceNat = [new("nat", PostRouting, "POSTROUTING")];

    private sealed record Place(string Table, int Hook, string Chain);

    /// <summary>
    /// The chains that have rules, or a policy other than accept, named as in <c>ip filter INPUT</c>.
    /// </summary>
    internal static IReadOnlyList<string> PassedBy() => WithRules(s_places);

    /// <summary>The chains whose rules may give connections another source port.</summary>
    internal static IReadOnlyList<string> MayTakePort() => WithRules(s_sourceNat);

    /// <param name="info">
    /// struct ipt_getinfo: name (32 bytes), hooks (4), first entry by hook (20), policy by hook (20), entries, size.
    /// </param>
    /// <param name="hook">Of enum nf_inet_hooks.</param>
    internal static bool HasRules(ReadOnlySpan<byte> info, int hook)
    {
        const int Hooks = 32, Entries = 36, Policies = 56;
        // The policy is the last entry of its chain. That it says accept is in the entry, which is not read.
        return (MemoryMarshal.Read<uint>(info[Hooks..]) & 1 << hook) != 0
            && MemoryMarshal.Read<uint>(info[(Entries + hook * 4)..])
                != MemoryMarshal.Read<uint>(info[(Policies + hook * 4)..]);
    }

    private static List<string> WithRules(Place[] places)
    {
        var chains = new List<string>();
        AddWithRules(AddressFamily.InterNetwork);
        AddWithRules(AddressFamily.InterNetworkV6);
        return chains;

        void AddWithRules(AddressFamily family)
        {
            Dictionary<string, byte[]> tables = Tables(family);
            foreach (Place place in places)
            {
                if (tables.TryGetValue(place.Table, out byte[]? info) && HasRules(info, place.Hook))
                    chains.Add($"{Name(family)} {place.Table} {place.Chain}");
            }
        }
    }

    private static string Name(AddressFamily family) => family == AddressFamily.InterNetwork ? "ip" : "ip6";

    private static Dictionary<string, byte[]> Tables(AddressFamily family)
    {
        const int GetInfo = 64; // IPT_SO_GET_INFO, IP6T_SO_GET_INFO
        int level = family == AddressFamily.InterNetwork ? 0 : 41; // IPPROTO_IP, IPPROTO_IPV6
        var tables = new Dictionary<string, byte[]>();
        try
        {
            // Asking for a table that does not exist would create it.
            string[] names = File.ReadAllLines($"/proc/thread-self/net/{Name(family)}_tables_names");
            if (names.Length == 0)
                return tables;
            using var socket = new Socket(family, SocketType.Raw, ProtocolType.Raw);
            foreach (string name in names.Where(name => name.Length is > 0 and < 32))
            {
                byte[] info = new byte[84];
                Encoding.ASCII.GetBytes(name, info);
                if (socket.GetRawSocketOption(level, GetInfo, info) == info.Length)
                    tables[name] = info;
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or SocketException)
        {
            // They do not exist, or may not be read.
        }
        return tables;
    }
}

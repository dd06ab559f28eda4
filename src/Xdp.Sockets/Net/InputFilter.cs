using System.Buffers.Binary;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets.Net;

/// <summary>
/// The packet filter rules that a segment meets on its way to a socket of this host. A segment that AF_XDP takes does
/// not meet them. Covers nftables (which includes iptables-nft) and the older iptables, in the calling thread's network
/// namespace.
/// </summary>
public static class InputFilter
{
    private const int LocalIn = 1; // NF_INET_LOCAL_IN

    /// <summary>
    /// The chains at the input hook that have rules, or a policy other than accept, named as in <c>inet filter
    /// input</c>. Also empty where the kernel does not tell: it wants CAP_NET_ADMIN. Loads no kernel module.
    /// </summary>
    public static IReadOnlyList<string> Chains()
    {
        var chains = new List<string>();
        if (!OperatingSystem.IsLinux())
            return chains;
        if (IsLoaded("nf_tables"))
            AddNfTables(chains);
        AddIpTables(chains, AddressFamily.InterNetwork, "ip", level: 0);
        AddIpTables(chains, AddressFamily.InterNetworkV6, "ip6", level: 41);
        return chains;
    }

    /// <param name="body">A message NFT_MSG_NEWCHAIN: struct nfgenmsg, then attributes with big-endian numbers.</param>
    internal static string? ParseChain(ReadOnlySpan<byte> body)
    {
        const ushort Table = 1, Name = 3, Hook = 4, Policy = 5, Use = 6, HookNumber = 1;
        const uint Accept = 1;
        if (body.Length < 4 || FamilyName(body[0]) is not { } family)
            return null;
        string table = "", name = "";
        uint hook = uint.MaxValue, policy = Accept, rules = 0;
        var attributes = new NetlinkAttributes(body[4..]);
        while (attributes.MoveNext())
        {
            switch (attributes.Type)
            {
                case Table: table = attributes.Text; break;
                case Name: name = attributes.Text; break;
                case Policy: policy = Number(attributes.Value); break;
                case Use: rules = Number(attributes.Value); break;
                case Hook:
                    var nested = new NetlinkAttributes(attributes.Value);
                    while (nested.MoveNext())
                    {
                        if (nested.Type == HookNumber)
                            hook = Number(nested.Value);
                    }
                    break;
            }
        }
        return hook == LocalIn && (rules > 0 || policy != Accept) ? $"{family} {table} {name}" : null;
    }

    /// <param name="info">
    /// struct ipt_getinfo: name (32 bytes), hooks (4), first entry by hook (20), policy by hook (20), entries, size.
    /// </param>
    internal static bool HasInputRules(ReadOnlySpan<byte> info)
    {
        const int Entries = 36, Policies = 56;
        uint first = MemoryMarshal.Read<uint>(info[(Entries + LocalIn * 4)..]);
        uint policy = MemoryMarshal.Read<uint>(info[(Policies + LocalIn * 4)..]);
        return first != policy;
    }

    // A kernel without loadable modules has no list of them. Asking cannot load one there.
    private static bool IsLoaded(string module) =>
        Directory.Exists($"/sys/module/{module}") || !File.Exists("/proc/modules")
            || File.ReadAllText("/proc/modules").Length == 0;

    private static void AddNfTables(List<string> chains)
    {
        const ushort GetChain = 10 << 8 | 4; // NFNL_SUBSYS_NFTABLES, NFT_MSG_GETCHAIN
        try
        {
            using NetlinkSocket socket = NetlinkSocket.Open(protocol: NetlinkNative.NETLINK_NETFILTER);
            _ = socket.Request(NetlinkRequest.Create(GetChain, dump: true, familyHeader: 0), (_, body) =>
            {
                if (ParseChain(body) is { } chain)
                    chains.Add(chain);
            });
        }
        catch (XdpException)
        {
            // No nfnetlink.
        }
    }

    private static void AddIpTables(List<string> chains, AddressFamily family, string name, int level)
    {
        const int GetInfo = 64; // IPT_SO_GET_INFO, IP6T_SO_GET_INFO
        try
        {
            // Asking for a table that does not exist would create it.
            if (!File.ReadAllText($"/proc/thread-self/net/{name}_tables_names").Split('\n').Contains("filter"))
                return;
            using var socket = new Socket(family, SocketType.Raw, ProtocolType.Raw);
            byte[] info = new byte[84];
            Encoding.ASCII.GetBytes("filter", info);
            if (socket.GetRawSocketOption(level, GetInfo, info) == info.Length && HasInputRules(info))
                chains.Add($"{name} filter INPUT");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or SocketException)
        {
            // It does not exist, or may not be read.
        }
    }

    private static string? FamilyName(byte family) => family switch
    {
        1 => "inet",
        2 => "ip",
        10 => "ip6",
        _ => null,
    };

    private static uint Number(ReadOnlySpan<byte> value) =>
        value.Length == 4 ? BinaryPrimitives.ReadUInt32BigEndian(value) : 0;
}

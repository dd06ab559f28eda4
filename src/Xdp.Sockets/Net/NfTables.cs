using Xdp.Sockets.Interop;

namespace Xdp.Sockets.Net;

/// <summary>A chain of nftables, or of iptables on top of it, that is called at a hook.</summary>
/// <param name="Family">NFPROTO_INET, and so on.</param>
/// <param name="Hook">A number of enum nf_inet_hooks, or of nf_dev_hooks for the family netdev.</param>
/// <param name="Drops">What no rule decides on is dropped.</param>
/// <param name="Devices">The interfaces whose packets it sees, for hooks at an interface.</param>
internal sealed record NfChain(
    byte Family, string Table, string Name, string Type, uint Hook, bool Drops, IReadOnlyList<string> Devices)
{
    private const byte NFPROTO_INET = 1, NFPROTO_IPV4 = 2, NFPROTO_NETDEV = 5, NFPROTO_IPV6 = 10;

    private const uint NF_INET_PRE_ROUTING = 0, NF_INET_LOCAL_IN = 1, NF_INET_LOCAL_OUT = 3, NF_INET_POST_ROUTING = 4,
        NF_INET_INGRESS = 5, NF_NETDEV_INGRESS = 0, NF_NETDEV_EGRESS = 1;

    /// <summary>As nft writes it: <c>inet filter input</c>.</summary>
    public override string ToString() => $"{FamilyName} {Table} {Name}";

    /// <summary>
    /// The way of the segments that a socket's would meet it on; null when they do not. NAT looks at the first packet
    /// of a connection only, which our answers never are.
    /// </summary>
    internal SegmentDirection? Direction => (Family, Hook) switch
    {
        (NFPROTO_NETDEV, NF_NETDEV_INGRESS) => SegmentDirection.In,
        (NFPROTO_NETDEV, NF_NETDEV_EGRESS) => SegmentDirection.Out,
        (NFPROTO_NETDEV, _) => null,
        (NFPROTO_INET or NFPROTO_IPV4 or NFPROTO_IPV6, NF_INET_PRE_ROUTING or NF_INET_LOCAL_IN or NF_INET_INGRESS) =>
            SegmentDirection.In,
        (NFPROTO_INET or NFPROTO_IPV4 or NFPROTO_IPV6, NF_INET_LOCAL_OUT or NF_INET_POST_ROUTING) when Type != "nat" =>
            SegmentDirection.Out,
        _ => null,
    };

    /// <summary>Connections of others, that this host forwards or opens, get another source here.</summary>
    internal bool IsSourceNat => Type == "nat" && Hook == NF_INET_POST_ROUTING && FamilyName != "netdev";

    /// <summary>Does it see the packets of an interface?</summary>
    internal bool IsAt(string interfaceName) => Devices.Count == 0 || Devices.Contains(interfaceName);

    private string FamilyName => Family switch
    {
        NFPROTO_INET => "inet",
        NFPROTO_IPV4 => "ip",
        NFPROTO_IPV6 => "ip6",
        NFPROTO_NETDEV => "netdev",
        _ => $"family {Family}",
    };

    /// <param name="body">A message NFT_MSG_NEWCHAIN: struct nfgenmsg, then attributes with big-endian numbers.</param>
    /// <returns>Null for a chain that rules jump to.</returns>
    internal static NfChain? Parse(ReadOnlySpan<byte> body)
    {
        // NFTA_CHAIN_TABLE, and so on; NFTA_HOOK_HOOKNUM, _DEV, _DEVS; NFTA_DEVICE_NAME
        const ushort Table = 1, Name = 3, Hook = 4, Policy = 5, Type = 7;
        const ushort HookNumber = 1, Device = 3, Devices = 4, DeviceName = 1;
        const uint NF_DROP = 0;
        if (body.Length < 4)
            return null;
        string table = "", name = "", type = "";
        uint? hook = null, policy = null;
        var devices = new List<string>();
        var attributes = new NetlinkAttributes(body[4..]);
        while (attributes.MoveNext())
        {
            switch (attributes.Type)
            {
                case Table: table = attributes.Text; break;
                case Name: name = attributes.Text; break;
                case Type: type = attributes.Text; break;
                case Policy: policy = attributes.BigEndian; break;
                case Hook:
                    var parts = new NetlinkAttributes(attributes.Value);
                    while (parts.MoveNext())
                    {
                        if (parts.Type == HookNumber)
                            hook = parts.BigEndian;
                        else if (parts.Type == Device)
                            devices.Add(parts.Text);
                        else if (parts.Type == Devices)
                            AddNames(parts.Value, devices);
                    }
                    break;
            }
        }
        return hook is { } number && table.Length > 0 && name.Length > 0
            ? new NfChain(body[0], table, name, type, number, policy == NF_DROP, devices)
            : null;

        static void AddNames(ReadOnlySpan<byte> list, List<string> names)
        {
            var elements = new NetlinkAttributes(list);
            while (elements.MoveNext())
            {
                if (elements.Type == DeviceName && !names.Contains(elements.Text))
                    names.Add(elements.Text);
            }
        }
    }
}

/// <summary>The chains and rules of nftables in one network namespace, at one moment.</summary>
internal sealed class NfTables(IReadOnlyList<NfChain> chains, IReadOnlyList<NfRule> rules)
{
    internal static readonly NfTables None = new([], []);

    private readonly ILookup<ChainName, NfRule> _rules =
        rules.ToLookup(rule => new ChainName(rule.Family, rule.Table, rule.Chain));

    private sealed record ChainName(byte Family, string Table, string Chain);

    // A kernel without loadable modules has no list of them. Asking cannot load one there.
    internal static bool IsLoaded =>
        Directory.Exists("/sys/module/nf_tables") || !File.Exists("/proc/modules")
            || File.ReadAllText("/proc/modules").Length == 0;

    /// <summary>
    /// In the calling thread's network namespace. None where the kernel does not tell. Loads no module.
    /// </summary>
    internal static NfTables Read()
    {
        const ushort GetChain = 10 << 8 | 4, GetRule = 10 << 8 | 7; // NFNL_SUBSYS_NFTABLES, NFT_MSG_GET…
        if (!IsLoaded)
            return None;
        var chains = new List<NfChain>();
        var rules = new List<NfRule>();
        try
        {
            using NetlinkSocket socket = NetlinkSocket.Open(protocol: NetlinkNative.NETLINK_NETFILTER);
            _ = socket.Request(NetlinkRequest.Create(GetChain, dump: true, familyHeader: 0), (_, body) =>
            {
                if (NfChain.Parse(body) is { } chain)
                    chains.Add(chain);
            });
            if (chains.Count > 0)
            {
                _ = socket.Request(NetlinkRequest.Create(GetRule, dump: true, familyHeader: 0), (_, body) =>
                {
                    if (NfRule.Parse(body) is { } rule)
                        rules.Add(rule);
                });
            }
        }
        catch (XdpException)
        {
            // No nfnetlink.
        }
        return new NfTables(chains, rules);
    }

    /// <summary>
    /// The chains that do something to segments of the port, with what they do: <c>inet filter input (drop)</c>.
    /// </summary>
    internal IEnumerable<string> PassedBy(int port, string interfaceName)
    {
        foreach (NfChain chain in chains.Where(chain => chain.IsAt(interfaceName)))
        {
            if (chain.Direction is not { } direction)
                continue;
            var effects = new SortedSet<string>(StringComparer.Ordinal);
            var facts = new SegmentFacts(direction, port, interfaceName);
            foreach (NfRule rule in Reachable(chain, rule => Matches(rule, facts)))
            {
                if (rule.EffectOn(facts, out _) is { } effect)
                    effects.Add(effect);
            }
            if (chain.Drops)
                effects.Add("policy drop");
            if (effects.Count > 0)
                yield return $"{chain} ({string.Join(", ", effects)})";
        }
    }

    /// <summary>The chains whose source NAT may use the port for other connections.</summary>
    internal IEnumerable<string> MayTakePort(int port, (int First, int Last) ephemeral) =>
        chains.Where(chain => chain.IsSourceNat
                && Reachable(chain, static _ => true).Any(rule => rule.MayTakePort(port, ephemeral)))
            .Select(chain => chain.ToString());

    private static bool Matches(NfRule rule, in SegmentFacts facts)
    {
        rule.EffectOn(facts, out bool matches);
        return matches;
    }

    // The chain's rules, and those of the chains that its rules jump to.
    private IEnumerable<NfRule> Reachable(NfChain from, Func<NfRule, bool> follow)
    {
        var seen = new HashSet<string> { from.Name };
        var left = new Stack<string>(seen);
        while (left.TryPop(out string? chain))
        {
            foreach (NfRule rule in _rules[new(from.Family, from.Table, chain)])
            {
                yield return rule;
                if (rule.Target is { } target && follow(rule) && seen.Add(target))
                    left.Push(target);
            }
        }
    }
}

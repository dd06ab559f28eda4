using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;

namespace Xdp.Sockets.Net;

/// <summary>Which way the segments of a port go.</summary>
internal enum SegmentDirection
{
    /// <summary>To the port.</summary>
    In,

    /// <summary>From the port.</summary>
    Out,
}

/// <summary>The segments that rules are held against. What is not said of them may be anything.</summary>
internal readonly record struct SegmentFacts(SegmentDirection Direction, int Port, string Interface);

/// <summary>
/// One nftables rule, as its NFTA_RULE_EXPRESSIONS say. It is worked through as the kernel does, with what is known of
/// a segment. An expression that is not understood here may match.
/// </summary>
internal sealed class NfRule
{
    // Attributes of expressions are numbered alike in many of them: NFTA_META_DREG, NFTA_CMP_SREG, and so on.
    private const ushort First = 1, Second = 2, Third = 3, Fourth = 4, Fifth = 5, Seventh = 7;

    // Keys of meta, bases of payload, and operators of cmp: enums nft_meta_keys, nft_payload_bases, nft_cmp_ops.
    private const uint NFT_META_IIFNAME = 6, NFT_META_OIFNAME = 7, NFT_META_L4PROTO = 16,
        NFT_PAYLOAD_TRANSPORT_HEADER = 2, NFT_CMP_EQ = 0, NFT_CMP_NEQ = 1, NFT_CMP_LT = 2, NFT_CMP_LTE = 3,
        NFT_CMP_GT = 4, NFT_CMP_GTE = 5;

    private const int NF_DROP = 0, NF_ACCEPT = 1, NFT_CONTINUE = -1, NFT_JUMP = -3, NFT_GOTO = -4, NFT_RETURN = -5;

    private const byte IPPROTO_TCP = 6;

    private readonly List<(string Name, byte[] Data)> _expressions = [];

    /// <summary>Of its table: NFPROTO_INET, NFPROTO_IPV4, and so on.</summary>
    internal required byte Family { get; init; }

    internal required string Table { get; init; }

    internal required string Chain { get; init; }

    /// <param name="body">A message NFT_MSG_NEWRULE: struct nfgenmsg, then attributes with big-endian numbers.</param>
    internal static NfRule? Parse(ReadOnlySpan<byte> body)
    {
        const ushort Expressions = 4; // NFTA_RULE_EXPRESSIONS, after NFTA_RULE_TABLE, _CHAIN and _HANDLE
        if (body.Length < 4)
            return null;
        string table = "", chain = "";
        ReadOnlySpan<byte> list = default;
        var attributes = new NetlinkAttributes(body[4..]);
        while (attributes.MoveNext())
        {
            switch (attributes.Type)
            {
                case First: table = attributes.Text; break;
                case Second: chain = attributes.Text; break;
                case Expressions: list = attributes.Value; break;
            }
        }
        if (table.Length == 0 || chain.Length == 0)
            return null;
        var rule = new NfRule { Family = body[0], Table = table, Chain = chain };
        var elements = new NetlinkAttributes(list);
        while (elements.MoveNext())
        {
            // NFTA_EXPR_NAME, NFTA_EXPR_DATA
            string name = "";
            byte[] data = [];
            var parts = new NetlinkAttributes(elements.Value);
            while (parts.MoveNext())
            {
                if (parts.Type == First)
                    name = parts.Text;
                else if (parts.Type == Second)
                    data = parts.Value.ToArray();
            }
            rule._expressions.Add((name, data));
        }
        return rule;
    }

    /// <summary>The chain that it jumps or goes to; null when it stays.</summary>
    internal string? Target => _expressions.Select(e => e.Name == "immediate" ? Verdict(e.Data).Chain : null)
        .FirstOrDefault(chain => chain is not null);

    /// <summary>Source NAT may give the port to a connection that is not the endpoint's.</summary>
    /// <param name="port">Of an endpoint.</param>
    /// <param name="ephemeral">The ports that hosts choose from: net.ipv4.ip_local_port_range.</param>
    internal bool MayTakePort(int port, (int First, int Last) ephemeral) => _expressions.Any(expression =>
    {
        // NAT keeps the port that the connection had. By these flags it chooses one.
        const uint NF_NAT_RANGE_PROTO_RANDOM = 4, NF_NAT_RANGE_PROTO_RANDOM_FULLY = 16, NFT_NAT_SNAT = 0;
        (string name, byte[] data) = expression;
        bool isMasquerade = name == "masq", isSource = name == "nat" && Number(data, First) == NFT_NAT_SNAT;
        if (name == "target" && Text(data, First) is "MASQUERADE" or "SNAT")
            return port >= ephemeral.First && port <= ephemeral.Last;
        if (!isMasquerade && !isSource)
            return false;
        uint flags = Number(data, isMasquerade ? First : Seventh) ?? 0;
        bool random = (flags & (NF_NAT_RANGE_PROTO_RANDOM | NF_NAT_RANGE_PROTO_RANDOM_FULLY)) != 0;
        bool hasRange = Find(data, isMasquerade ? Second : Fifth).Value.Length > 0;
        return random || hasRange ? port >= 1024 : port >= ephemeral.First && port <= ephemeral.Last;
    });

    /// <summary>
    /// What it does to such segments, in a word; null when it does nothing, or does not match. Accepting is nothing:
    /// that is what becomes of them anyhow.
    /// </summary>
    /// <param name="facts">Of the segments.</param>
    /// <param name="matches">It may match, so that a jump in it may be taken.</param>
    internal string? EffectOn(in SegmentFacts facts, out bool matches)
    {
        var registers = new Dictionary<uint, byte[]?>();
        string? effect = null;
        matches = false;
        foreach ((string name, byte[] data) in _expressions)
        {
            switch (name)
            {
                case "meta" when Number(data, First) is { } register:
                    registers[register] = Meta(Number(data, Second), facts);
                    break;
                case "payload" when Number(data, First) is { } register:
                    registers[register] =
                        Payload(Number(data, Second), Number(data, Third), Number(data, Fourth), facts);
                    break;
                case "cmp":
                    if (!MayCompare(Load(registers, data), Number(data, Second), Value(data, Third)))
                        return effect;
                    break;
                case "range":
                    if (!MayBeInRange(
                        Load(registers, data), Number(data, Second), Value(data, Third), Value(data, Fourth)))
                        return effect;
                    break;
                case "match":
                    if (!MayMatch(Text(data, First), Find(data, Third).Value, facts))
                        return effect;
                    break;
                case "bitwise" or "byteorder" or "ct" or "rt" or "fib" or "socket" or "hash" or "numgen" or "exthdr"
                    or "osf" or "tunnel" or "xfrm" when LoadsRegister(name, data):
                    registers[Number(data, Second) ?? 0] = null;
                    registers[Number(data, First) ?? 0] = null;
                    break;
                case "lookup" when Number(data, Third) == 0: // NFTA_LOOKUP_DREG is the verdict
                    effect = "verdict map";
                    break;
                case "lookup" or "counter" or "connlimit" or "limit" or "quota" or "last" or "objref":
                    break;
                case "immediate" when Number(data, First) is not null and not 0:
                    registers[Number(data, First)!.Value] = null;
                    break;
                case "immediate":
                    (int code, _) = Verdict(data);
                    if (code == NF_DROP)
                        effect = "drop";
                    else if (code is not (NF_ACCEPT or NFT_CONTINUE or NFT_RETURN or NFT_JUMP or NFT_GOTO))
                        effect = "queue";
                    break;
                case "target":
                    string target = Text(data, First);
                    effect = target is "ACCEPT" or "RETURN" ? effect : target;
                    break;
                default:
                    effect = name switch { "redir" => "redirect", "masq" => "masquerade", _ => name };
                    break;
            }
        }
        matches = true;
        return effect;
    }

    // Of ct, meta, exthdr and payload there are forms that write to the packet, and have no NFTA_*_DREG.
    private static bool LoadsRegister(string name, byte[] data) =>
        name is not ("ct" or "exthdr") || Number(data, First) is not null;

    private static byte[]? Meta(uint? key, in SegmentFacts facts)
    {
        bool isIn = facts.Direction == SegmentDirection.In;
        return key switch
        {
            NFT_META_L4PROTO => [IPPROTO_TCP],
            NFT_META_IIFNAME when isIn => Padded(facts.Interface),
            NFT_META_OIFNAME when !isIn => Padded(facts.Interface),
            // No interface has been entered, or is chosen yet.
            NFT_META_IIFNAME or NFT_META_OIFNAME => Padded(""),
            _ => null,
        };
    }

    private static byte[] Padded(string name)
    {
        byte[] padded = new byte[16]; // IFNAMSIZ
        Encoding.UTF8.GetBytes(name.AsSpan(0, Math.Min(name.Length, 15)), padded);
        return padded;
    }

    private static byte[]? Payload(uint? header, uint? offset, uint? length, in SegmentFacts facts)
    {
        uint port = facts.Direction == SegmentDirection.In ? 2u : 0;
        if (header != NFT_PAYLOAD_TRANSPORT_HEADER || offset != port || length != 2)
            return null;
        byte[] value = new byte[2];
        BinaryPrimitives.WriteUInt16BigEndian(value, (ushort)facts.Port);
        return value;
    }

    private static byte[]? Load(Dictionary<uint, byte[]?> registers, byte[] data) =>
        Number(data, First) is { } register ? registers.GetValueOrDefault(register) : null;

    // Names of interfaces may be compared by their beginning. Numbers that are compared by size are big-endian.
    private static bool MayCompare(byte[]? loaded, uint? operation, ReadOnlySpan<byte> value)
    {
        if (loaded is null || value.Length == 0 || value.Length > loaded.Length)
            return true;
        int order = loaded.AsSpan(0, value.Length).SequenceCompareTo(value);
        return operation switch
        {
            NFT_CMP_EQ => order == 0,
            NFT_CMP_NEQ => order != 0,
            NFT_CMP_LT => order < 0,
            NFT_CMP_LTE => order <= 0,
            NFT_CMP_GT => order > 0,
            NFT_CMP_GTE => order >= 0,
            _ => true,
        };
    }

    private static bool MayBeInRange(
        byte[]? loaded, uint? operation, ReadOnlySpan<byte> from, ReadOnlySpan<byte> to)
    {
        const uint NFT_RANGE_EQ = 0;
        if (loaded is null || from.Length != loaded.Length || to.Length != loaded.Length)
            return true;
        bool within = loaded.AsSpan().SequenceCompareTo(from) >= 0 && loaded.AsSpan().SequenceCompareTo(to) <= 0;
        return within == (operation == NFT_RANGE_EQ);
    }

    /// <param name="name">Of a match of iptables.</param>
    /// <param name="info">struct xt_tcp: source ports, destination ports (from and to, in host order), …</param>
    /// <param name="facts">Of the segments.</param>
    private static bool MayMatch(string name, ReadOnlySpan<byte> info, in SegmentFacts facts)
    {
        const int InvertedFlags = 11;
        if (name is "udp" or "icmp" or "icmp6" or "sctp" or "dccp")
            return false;
        if (name != "tcp" || info.Length <= InvertedFlags)
            return true;
        bool isIn = facts.Direction == SegmentDirection.In;
        ReadOnlySpan<ushort> ports = MemoryMarshal.Cast<byte, ushort>(info[..8]).Slice(isIn ? 2 : 0, 2);
        bool inverted = (info[InvertedFlags] & (isIn ? 2 : 1)) != 0; // XT_TCP_INV_DSTPT, XT_TCP_INV_SRCPT
        return (facts.Port >= ports[0] && facts.Port <= ports[1]) != inverted;
    }

    // NFTA_IMMEDIATE_DATA > NFTA_DATA_VERDICT > NFTA_VERDICT_CODE, NFTA_VERDICT_CHAIN
    private static (int Code, string? Chain) Verdict(byte[] data)
    {
        ReadOnlySpan<byte> verdict = Find(Find(data, Second).Value, Second).Value;
        NetlinkAttributes chain = Find(verdict, Second);
        return ((int?)Find(verdict, First).BigEndian ?? NFT_CONTINUE, chain.Value.IsEmpty ? null : chain.Text);
    }

    // A nested NFTA_DATA_VALUE.
    private static ReadOnlySpan<byte> Value(byte[] data, ushort attribute) =>
        Find(Find(data, attribute).Value, First).Value;

    private static string Text(byte[] data, ushort attribute) => Find(data, attribute).Text;

    private static uint? Number(byte[] data, ushort attribute) => Find(data, attribute).BigEndian;

    // An empty one when there is none.
    private static NetlinkAttributes Find(ReadOnlySpan<byte> data, ushort attribute)
    {
        var attributes = new NetlinkAttributes(data);
        while (attributes.MoveNext())
        {
            if (attributes.Type == attribute)
                return attributes;
        }
        return default;
    }
}

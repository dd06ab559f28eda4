using Xdp.Sockets.Net;

namespace Xdp.Sockets.Tests.Net;

public class HostPolicyTests
{
    private const int Port = 8080;
    private const string Device = "pol0";

    [SkippableFact]
    public void NfTables_OnlyChainsThatDoSomething()
    {
        TestNetwork.Require("nft");
        using var network = new TestNetwork();
        Assert.Empty(PassedBy(network));
        foreach (string command in (string[])
        [
            "add table inet filter",
            "add chain inet filter idle '{ type filter hook input priority 0; }'",
            "add chain inet filter forward '{ type filter hook forward priority 0; policy drop; }'",
            "add chain inet filter helper",
            "add rule inet filter helper drop",
            "add chain inet filter welcome '{ type filter hook input priority 1; }'",
            "add rule inet filter welcome tcp dport 8080 counter accept",
        ])
            network.Exec($"nft {command}");
        Assert.Empty(PassedBy(network));

        network.Exec("nft add rule inet filter idle jump helper");
        network.Exec("nft add chain inet filter input '{ type filter hook input priority 0; }'");
        network.Exec("nft add rule inet filter input tcp dport 8080 drop");
        network.Exec("nft add table ip strict");
        network.Exec("nft add chain ip strict in '{ type filter hook input priority 5; policy drop; }'");
        Assert.Equal(
            ["inet filter idle (drop)", "inet filter input (drop)", "ip strict in (policy drop)"],
            PassedBy(network).Order());
    }

    /// <summary>Each rule alone, in a chain at the hook that is named.</summary>
    [SkippableTheory]
    [InlineData("inet", "type filter hook prerouting priority raw", "tcp dport 8080 drop", "drop")]
    [InlineData("ip", "type nat hook prerouting priority dstnat", "tcp dport 8080 redirect to :15006", "redirect")]
    [InlineData("ip", "type nat hook prerouting priority dstnat", "tcp dport 8080 dnat to 10.9.9.9", "nat")]
    [InlineData("inet", "type filter hook input priority 0", "meta l4proto tcp reject", "reject")]
    [InlineData("inet", "type filter hook input priority 0", "tcp dport 8000-8100 limit rate 10/second drop", "drop")]
    [InlineData("inet", "type filter hook input priority 0", "tcp dport { 80, 8080 } drop", "drop")]
    [InlineData("inet", "type filter hook input priority 0", "ip saddr 192.0.2.0/24 drop", "drop")]
    [InlineData("inet", "type filter hook input priority 0", "iifname pol0 tcp dport != 22 drop", "drop")]
    [InlineData("inet", "type filter hook input priority 0", "iifname \"pol*\" drop", "drop")]
    [InlineData("inet", "type filter hook input priority 0", "tcp dport vmap { 8080 : drop }", "verdict map")]
    [InlineData("inet", "type filter hook input priority 0", "tcp dport 8080 ct state new meta mark set 1", "meta")]
    [InlineData("inet", "type filter hook output priority 0", "tcp sport 8080 ip dscp set 1", "payload")]
    [InlineData("inet", "type route hook output priority 0", "meta mark set 7", "meta")]
    [InlineData("inet", "type filter hook postrouting priority 0", "oifname pol0 counter drop", "drop")]
    [InlineData("netdev", "type filter hook ingress device pol0 priority 0", "tcp dport 8080 drop", "drop")]
    [InlineData("netdev", "type filter hook egress device pol0 priority 0", "tcp sport 8080 drop", "drop")]
    [InlineData("inet", "type filter hook ingress device pol0 priority 0", "drop", "drop")]
    public void NfTables_RuleForThePort_IsNamed(string family, string hook, string rule, string effect)
    {
        using TestNetwork network = WithRule(family, hook, rule);
        Assert.Equal([$"{family} t c ({effect})"], PassedBy(network));
    }

    [SkippableTheory]
    [InlineData("inet", "type filter hook input priority 0", "tcp dport 81 drop")]
    [InlineData("inet", "type filter hook input priority 0", "tcp dport != 8080 drop")]
    [InlineData("inet", "type filter hook input priority 0", "tcp dport 1-1023 drop")]
    [InlineData("inet", "type filter hook input priority 0", "tcp dport > 9000 drop")]
    [InlineData("inet", "type filter hook input priority 0", "udp dport 8080 drop")]
    [InlineData("inet", "type filter hook input priority 0", "iifname lo drop")]
    [InlineData("inet", "type filter hook input priority 0", "ip saddr 192.0.2.1 tcp dport 8080 accept")]
    [InlineData("inet", "type filter hook forward priority 0", "tcp dport 8080 drop")]
    [InlineData("inet", "type filter hook output priority 0", "tcp sport 81 drop")]
    [InlineData("inet", "type filter hook output priority 0", "oifname lo drop")]
    [InlineData("ip", "type nat hook output priority -100", "tcp dport 53 dnat to 127.0.0.11")]
    [InlineData("ip", "type nat hook postrouting priority srcnat", "masquerade")]
    [InlineData("netdev", "type filter hook ingress device pol1 priority 0", "drop")]
    public void NfTables_RuleForOthers_IsNotNamed(string family, string hook, string rule)
    {
        using TestNetwork network = WithRule(family, hook, rule);
        Assert.Empty(PassedBy(network));
    }

    [SkippableTheory]
    [InlineData("-A INPUT -p tcp --dport 8080 -j DROP", "ip filter INPUT (drop)")]
    [InlineData("-A INPUT -p tcp --dport 81 -j DROP", null)]
    [InlineData("-A INPUT -p tcp -m multiport --dports 81,8080 -j REJECT", "ip filter INPUT (reject)")]
    [InlineData("-P INPUT DROP", "ip filter INPUT (policy drop)")]
    [InlineData("-A OUTPUT -p tcp --sport 8080 -j DROP", "ip filter OUTPUT (drop)")]
    [InlineData(
        "-t nat -A PREROUTING -p tcp --dport 8080 -j REDIRECT --to-ports 15006", "ip nat PREROUTING (redirect)")]
    [InlineData("-t nat -A OUTPUT -d 127.0.0.11 -p tcp --dport 53 -j DNAT --to 127.0.0.11:3353", null)]
    [InlineData("-t mangle -A PREROUTING -p tcp --dport 8080 -j MARK --set-mark 1", "ip mangle PREROUTING (MARK)")]
    public void IpTables_OnNfTables_AreNamed(string rule, string? expected)
    {
        TestNetwork.Require("iptables-nft");
        using var network = new TestNetwork();
        network.Exec($"iptables-nft {rule}");
        Assert.Equal(expected is null ? [] : [expected], PassedBy(network), StringComparer.OrdinalIgnoreCase);
    }

    [SkippableTheory]
    [InlineData("iptables-legacy", "-A INPUT -p tcp --dport 81 -j DROP", "ip filter INPUT")]
    [InlineData("ip6tables-legacy", "-A INPUT -p tcp --dport 81 -j DROP", "ip6 filter INPUT")]
    [InlineData("iptables-legacy", "-A OUTPUT -p tcp --dport 81 -j ACCEPT", "ip filter OUTPUT")]
    [InlineData("iptables-legacy", "-A FORWARD -p tcp --dport 81 -j DROP", null)]
    public void IpTables_Legacy_AreNamedByTheirChains(string tool, string rule, string? expected)
    {
        TestNetwork.Require(tool);
        using var network = new TestNetwork();
        network.Exec($"{tool} {rule}");
        Assert.Equal(expected is null ? [] : [expected], PassedBy(network));
    }

    [SkippableTheory]
    [InlineData("tc qdisc add dev pol0 root tbf rate 10mbit burst 10kb latency 50ms", "tc qdisc tbf on pol0")]
    [InlineData("tc qdisc add dev pol0 root pfifo limit 100", null)]
    [InlineData("tc qdisc add dev pol1 root tbf rate 10mbit burst 10kb latency 50ms", null)]
    [InlineData("tc qdisc add dev pol0 clsact", null)]
    [InlineData(
        "tc qdisc add dev pol0 clsact && tc filter add dev pol0 egress u32 match u32 0 0",
        "tc egress filter u32 on pol0")]
    [InlineData(
        "tc qdisc add dev pol0 clsact && tc filter add dev pol0 ingress u32 match u32 0 0",
        "tc ingress filter u32 on pol0")]
    [InlineData("ip xfrm policy add dir in tmpl proto esp", "IPsec policy (in, encrypt)")]
    [InlineData("ip xfrm policy add src ::/0 dst ::/0 dir out tmpl proto esp", "IPsec policy (out, encrypt)")]
    [InlineData(
        "ip xfrm policy add src ::/0 dst ::/0 proto tcp dport 8080 dir in action block",
        "IPsec policy (in, block)")]
    [InlineData("ip xfrm policy add src ::/0 dst ::/0 proto tcp dport 81 dir in action block", null)]
    [InlineData("ip xfrm policy add src ::/0 dst ::/0 proto udp dir in action block", null)]
    [InlineData("ip xfrm policy add src ::/0 dst ::/0 dir out", null)]
    [InlineData("ip xfrm policy add src ::/0 dst ::/0 dir fwd tmpl proto esp", null)]
    public void TrafficControlAndIpSec_AreNamed(string command, string? expected)
    {
        TestNetwork.Require("tc");
        using TestNetwork network = WithDevices();
        network.Exec($"sh -c '{command}'");
        Assert.Equal(expected is null ? [] : [expected], PassedBy(network));
    }

    [SkippableTheory]
    [InlineData("nft", "masquerade", 33000, true)]
    [InlineData("nft", "masquerade", 8080, false)]
    [InlineData("nft", "masquerade random", 8080, true)]
    [InlineData("nft", "masquerade random", 443, false)]
    [InlineData("nft", "meta l4proto tcp masquerade to :1024-65535", 8080, true)]
    [InlineData("nft", "snat to 192.0.2.1", 33000, true)]
    [InlineData("nft", "accept", 33000, false)]
    [InlineData("iptables-nft", "MASQUERADE", 33000, true)]
    [InlineData("iptables-nft", "MASQUERADE", 8080, false)]
    [InlineData("iptables-legacy", "MASQUERADE", 33000, true)]
    public void SourceNat_PortsThatItMayUse(string tool, string rule, int port, bool expected)
    {
        TestNetwork.Require(tool);
        using TestNetwork network = tool == "nft"
            ? WithRule("ip", "type nat hook postrouting priority srcnat", rule)
            : new TestNetwork();
        if (tool != "nft")
            network.Exec($"{tool} -t nat -A POSTROUTING -j {rule}");
        Assert.Equal(expected, network.Run(() => HostPolicy.Read().SourceNatMayUse(port)).Any());
    }

    [SkippableTheory]
    [InlineData("nft add table ip t")]
    [InlineData("tc qdisc add dev pol0 root tbf rate 10mbit burst 10kb latency 50ms")]
    [InlineData("ip xfrm policy add src ::/0 dst ::/0 dir in action block")]
    [InlineData("iptables-legacy -A INPUT -p tcp --dport 81 -j DROP")]
    public void Watcher_TellsOfChanges(string command)
    {
        TestNetwork.Require("nft", "tc", "iptables-legacy");
        using TestNetwork network = WithDevices();
        using var changed = new ManualResetEventSlim();
        using HostPolicyWatcher watcher = network.Run(() => new HostPolicyWatcher(changed.Set));
        network.Exec(command);
        Assert.True(changed.Wait(TimeSpan.FromSeconds(30)));
    }

    [SkippableFact]
    public void Watcher_Woken_Calls_AndEnded_DoesNot()
    {
        TestNetwork.Require();
        using var network = new TestNetwork();
        int calls = 0;
        using var called = new AutoResetEvent(false);
        HostPolicyWatcher watcher = network.Run(() => new HostPolicyWatcher(() =>
        {
            calls++;
            called.Set();
        }));
        watcher.Wake();
        Assert.True(called.WaitOne(TimeSpan.FromSeconds(30)));
        watcher.Dispose();
        int before = calls;
        watcher.Wake();
        Assert.Equal(before, calls);
    }

    [Fact]
    public void Chain_CutShort_IsNone()
    {
        // inet, table "t", name "c", hook {number 1}
        byte[] whole =
        [
            1, 0, 0, 0, 6, 0, 1, 0, (byte)'t', 0, 0, 0, 6, 0, 3, 0, (byte)'c', 0, 0, 0,
            12, 0, 4, 0x80, 8, 0, 1, 0, 0, 0, 0, 1,
        ];
        Assert.Equal("inet t c", NfChain.Parse(whole)?.ToString());
        for (int length = 0; length < whole.Length; length++)
            Assert.Null(NfChain.Parse(whole.AsSpan(0, length)));
    }

    [Fact]
    public void Rule_CutShortOrScrambled_DoesNotThrow()
    {
        // Table "t", chain "c", expressions [cmp with register 1, operator eq, value 8080; immediate with drop]
        byte[] whole =
        [
            1, 0, 0, 0, 6, 0, 1, 0, (byte)'t', 0, 0, 0, 6, 0, 2, 0, (byte)'c', 0, 0, 0,
            100, 0, 4, 0x80,
            48, 0, 1, 0x80, 8, 0, 1, 0, (byte)'c', (byte)'m', (byte)'p', 0, 36, 0, 2, 0x80,
            8, 0, 1, 0, 0, 0, 0, 1, 8, 0, 2, 0, 0, 0, 0, 0, 12, 0, 3, 0x80, 6, 0, 1, 0, 0x1f, 0x90, 0, 0, 0, 0, 0, 0,
            48, 0, 1, 0x80, 14, 0, 1, 0, .. "immediate"u8, 0, 0, 0, 28, 0, 2, 0x80,
            8, 0, 1, 0, 0, 0, 0, 0, 16, 0, 2, 0x80, 12, 0, 2, 0x80, 8, 0, 1, 0, 0, 0, 0, 0,
        ];
        var facts = new SegmentFacts(SegmentDirection.In, Port, Device);
        Assert.Equal("drop", NfRule.Parse(whole)!.EffectOn(facts, out _));
        var random = new Random(1);
        for (int length = 0; length < whole.Length; length++)
        {
            _ = NfRule.Parse(whole.AsSpan(0, length))?.EffectOn(facts, out _);
            byte[] scrambled = [.. whole];
            scrambled[length] = (byte)random.Next();
            NfRule? rule = NfRule.Parse(scrambled);
            _ = rule?.EffectOn(facts, out _);
            _ = rule?.MayTakePort(Port, (1, 2));
            _ = IpSecPolicy.Parse(scrambled);
            _ = TrafficControl.Parse(scrambled, out _, out _, out _);
        }
    }

    private static TestNetwork WithRule(string family, string hook, string rule)
    {
        TestNetwork.Require("nft");
        TestNetwork network = WithDevices();
        network.Exec($"nft add table {family} t");
        network.Exec($"nft add chain {family} t c '{{ {hook}; }}'");
        network.Exec($"nft 'add rule {family} t c {rule}'");
        return network;
    }

    private static TestNetwork WithDevices()
    {
        var network = new TestNetwork();
        network.Ip($"link add {Device} type veth peer name pol1");
        return network;
    }

    private static IReadOnlyList<string> PassedBy(TestNetwork network) =>
        network.Run(() => HostPolicy.Read().PassedBy(Port, Device));
}

using System.Net;
using System.Net.Sockets;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>
/// What the administrator has ordered for sockets, and AF_XDP passes by: without being asked for, AF_XDP does not serve
/// then, and where it was asked for, it is said, at start and later.
/// </summary>
[Collection(DirectCollection.Name)]
public sealed class PolicyTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output)
{
    private const int Port = 8092;

    // What the lines call it; the command that makes it, and the one that undoes it.
    public static TheoryData<string, string, string> Rules => new()
    {
        {
            "inet guard c (drop)",
            "nft 'add table inet guard; add chain inet guard c { type filter hook prerouting priority raw; }; "
                + "add rule inet guard c tcp dport 8092 ip saddr 192.0.2.7 drop'",
            "nft delete table inet guard"
        },
        {
            "ip guard c (redirect)",
            "nft 'add table ip guard; add chain ip guard c { type nat hook prerouting priority dstnat; }; "
                + "add rule ip guard c ip saddr 192.0.2.7 tcp dport 8092 redirect to :15006'",
            "nft delete table ip guard"
        },
        {
            "inet guard c (drop)",
            "nft 'add table inet guard; add chain inet guard c { type filter hook output priority 0; }; "
                + "add rule inet guard c ip daddr 192.0.2.7 tcp sport 8092 drop'",
            "nft delete table inet guard"
        },
        {
            "netdev guard c (drop)",
            "nft 'add table netdev guard; "
                + "add chain netdev guard c { type filter hook ingress device srv0 priority 0; }; "
                + "add rule netdev guard c ip saddr 192.0.2.7 drop'",
            "nft delete table netdev guard"
        },
        {
            "ip filter INPUT (drop)",
            "iptables-nft -A INPUT -p tcp -s 192.0.2.7 --dport 8092 -j DROP",
            "nft delete table ip filter"
        },
        {
            "ip filter INPUT",
            "iptables-legacy -A INPUT -p tcp -s 192.0.2.7 --dport 8092 -j DROP",
            "iptables-legacy -F INPUT"
        },
        {
            "tc qdisc tbf on srv0",
            "tc qdisc add dev srv0 root tbf rate 1gbit burst 1mb latency 50ms",
            "tc qdisc del dev srv0 root"
        },
        {
            "tc egress filter u32 on srv0",
            "tc qdisc add dev srv0 clsact && tc filter add dev srv0 egress u32 match u32 0 0",
            "tc qdisc del dev srv0 clsact"
        },
        {
            "IPsec policy (in, block)",
            "ip xfrm policy add src 192.0.2.7 dst 10.77.0.1 proto tcp dport 8092 dir in action block",
            "ip xfrm policy flush"
        },
    };

    [SkippableTheory]
    [MemberData(nameof(Rules))]
    public async Task Rule_MeansSocketsByDefault_AndAWarningWhereTheInterfaceIsNamed(
        string name, string add, string remove)
    {
        Lab.Require("nft", "tc", "iptables-nft", "iptables-legacy");
        await ShellAsync(add);
        try
        {
            await using (TransportHost chosen = Start(interfaces: []))
            {
                Assert.False(await IsOnXdpAsync(chosen));
                string line = Assert.Single(chosen.Lines);
                Assert.Contains("served by sockets, not by AF_XDP: on srv0", line, StringComparison.Ordinal);
                Assert.Contains(name, line, StringComparison.Ordinal);
            }
            await using TransportHost named = Start(Lab.Interface);
            Assert.True(await IsOnXdpAsync(named));
            await named.LineAsync("Warning", "pass by these rules", name);
            Assert.Equal(2, named.Lines.Count);
        }
        finally
        {
            await ShellAsync(remove);
        }
    }

    /// <summary>A ban that comes later is warned about, and a second time when it has gone and comes back.</summary>
    [SkippableTheory]
    [MemberData(nameof(Rules))]
    public async Task Rule_AddedLater_IsWarnedAbout(string name, string add, string remove)
    {
        Lab.Require("nft", "tc", "iptables-nft", "iptables-legacy");
        await using TransportHost host = Start(Lab.Interface);
        Assert.True(await IsOnXdpAsync(host));
        Assert.Single(host.Lines);
        await ShellAsync(add);
        try
        {
            await host.LineAsync("Warning", "pass by these rules", name);
            Assert.True(await IsOnXdpAsync(host));
        }
        finally
        {
            await ShellAsync(remove);
        }
    }

    /// <summary>Nothing of it concerns the port, so AF_XDP serves unasked, and nobody is warned.</summary>
    [SkippableFact]
    public async Task RulesForOthers_AreNoReason()
    {
        Lab.Require("nft");
        await ShellAsync(
            "nft 'add table inet guard; add chain inet guard c { type filter hook input priority 0; }; "
                + "add rule inet guard c tcp dport 81 drop; add rule inet guard c tcp dport 8092 accept; "
                + "add chain inet guard n { type nat hook output priority -100; }; "
                + "add rule inet guard n ip daddr 127.0.0.11 tcp dport 53 redirect to :5353'");
        try
        {
            await using TransportHost host = Start(interfaces: []);
            Assert.True(await IsOnXdpAsync(host));
            Assert.StartsWith("Information", Assert.Single(host.Lines), StringComparison.Ordinal);
        }
        finally
        {
            await ShellAsync("nft delete table inet guard");
        }
    }

    /// <summary>NAT may give an endpoint's port to a connection that is forwarded.</summary>
    [SkippableFact]
    public async Task SourceNat_PortThatItMayUse_IsWarnedAbout_AtStartAndLater()
    {
        const int Ephemeral = 40_000;
        Lab.Require("nft");
        await using TransportHost before = Start(Ephemeral, Lab.Interface);
        await using TransportHost low = Start(Lab.Interface);
        await ShellAsync(
            "nft 'add table ip guard; add chain ip guard c { type nat hook postrouting priority srcnat; }; "
                + "add rule ip guard c ip saddr 172.17.0.0/16 masquerade'");
        try
        {
            await before.LineAsync("Warning", "Source NAT", "port 40000 (ip guard c)");
            await using TransportHost after = Start(Ephemeral + 1, Lab.Interface);
            await after.LineAsync("Warning", "Source NAT", "port 40001 (ip guard c)");
            Assert.DoesNotContain(low.Lines, line => line.Contains("Source NAT", StringComparison.Ordinal));
        }
        finally
        {
            await ShellAsync("nft delete table ip guard");
        }
    }

    private TransportHost Start(params string[] interfaces) => Start(Port, interfaces);

    private TransportHost Start(int port, params string[] interfaces)
    {
        var host = new TransportHost(lab.Server, options =>
        {
            foreach (string name in interfaces)
                options.Interfaces.Add(name);
        });
        host.Bind(new IPEndPoint(IPAddress.Any, port));
        return host;
    }

    private async Task<bool> IsOnXdpAsync(TransportHost host)
    {
        using Socket client = await lab.Client.ConnectAsync(new IPEndPoint(Lab.ServerIp4, Port));
        return await host.AcceptedOnXdpAsync();
    }

    private async Task ShellAsync(string command) =>
        (await lab.Server.RunAsync("sh", "-c", command)).Succeeded();
}

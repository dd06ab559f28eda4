using Xdp.Sockets.Net;

namespace Xdp.Sockets.Tests.Net;

public class InputFilterTests
{
    [SkippableFact]
    public void Chains_NfTables_OnlyThoseAtInputThatDoSomething()
    {
        TestNetwork.Require("nft");
        using var network = new TestNetwork();
        Assert.Empty(network.Run(InputFilter.Chains));
        foreach (string command in (string[])
        [
            "add table inet filter",
            "add chain inet filter idle '{ type filter hook input priority 0; }'",
            "add chain inet filter forward '{ type filter hook forward priority 0; policy drop; }'",
            "add chain inet filter helper",
            "add rule inet filter helper accept",
        ])
            network.Exec($"nft {command}");
        Assert.Empty(network.Run(InputFilter.Chains));

        network.Exec("nft add chain inet filter input '{ type filter hook input priority 0; }'");
        network.Exec("nft add rule inet filter input tcp dport 81 drop");
        network.Exec("nft add table ip strict");
        network.Exec("nft add chain ip strict in '{ type filter hook input priority 5; policy drop; }'");
        Assert.Equal(["inet filter input", "ip strict in"], network.Run(InputFilter.Chains).Order());
    }

    [SkippableTheory]
    [InlineData("iptables-legacy", "ip filter INPUT")]
    [InlineData("ip6tables-legacy", "ip6 filter INPUT")]
    public void Chains_IpTables_OnlyWithInputRules(string tool, string expected)
    {
        TestNetwork.Require(tool);
        using var network = new TestNetwork();
        network.Exec($"{tool} -A OUTPUT -p tcp --dport 81 -j ACCEPT");
        Assert.Empty(network.Run(InputFilter.Chains));
        network.Exec($"{tool} -A INPUT -p tcp --dport 81 -j DROP");
        Assert.Equal([expected], network.Run(InputFilter.Chains));
    }

    [Fact]
    public void ParseChain_CutShort_IsNoChain()
    {
        // inet, table "t", name "c", hook {number 1}, one rule
        byte[] whole =
        [
            1, 0, 0, 0, 6, 0, 1, 0, (byte)'t', 0, 0, 0, 6, 0, 3, 0, (byte)'c', 0, 0, 0,
            8, 0, 6, 0, 0, 0, 0, 1, 12, 0, 4, 0x80, 8, 0, 1, 0, 0, 0, 0, 1,
        ];
        Assert.Equal("inet t c", InputFilter.ParseChain(whole));
        for (int length = 0; length < whole.Length; length++)
            Assert.Null(InputFilter.ParseChain(whole.AsSpan(0, length)));
    }
}

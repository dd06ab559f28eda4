namespace Xdp.TcpLite.Tests.Conformance;

public class ScriptTests
{
    public static TheoryData<string, string> Cases()
    {
        var cases = new TheoryData<string, string>();
        foreach (string name in Script.Names())
        {
            int? only = Script.Load(name).IpVersion;
            if (only is null or 4)
                cases.Add(name, "IPv4");
            if (only is null or 6)
                cases.Add(name, "IPv6");
        }
        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Script_Played_StackDoesAsItSays(string script, string ip) =>
        ScriptRunner.Run(Script.Load(script), ipv6: ip == "IPv6");

    /// <summary>
    /// The same scripts with payload that is sent in place from frames which the driver may still have at a
    /// retransmission. None of this may show on the wire.
    /// </summary>
    [Theory]
    [MemberData(nameof(Cases))]
    public void Script_WrittenInFrames_StackDoesAsItSays(string script, string ip) =>
        ScriptRunner.Run(Script.Load(script), ipv6: ip == "IPv6", frames: true);

    [Fact]
    public void Scripts_All_CiteTheirRule() =>
        Assert.All(Script.Names(), name =>
            Assert.Matches(@"^// .*(RFC \d+, (section|appendix)|Linux)", Script.Load(name).Lines[0]));

    /// <summary>What a short script begins with: an established connection.</summary>
    internal const string Handshake = """
        +0   listen
        +0   < S 0:0(0) win 65535 <mss 1460>
        +0   > S. 0:0(0) ack 1 <mss 1460>
        +.05 < . 1:1(0) ack 1 win 65535
        +0   accept

        """;

    /// <summary>An interpreter that lets everything pass would make every script pass.</summary>
    [Theory]
    [InlineData("+0 write 100\n+0 > P. 1:100(99) ack 1")] // length
    [InlineData("+0 write 100\n+0 > . 1:101(100) ack 1")] // flags
    [InlineData("+0 write 100\n+0 > P. 2:102(100) ack 1")] // sequence number
    [InlineData("+0 write 100\n+0 > P. 1:101(100) ack 2")] // ACK number
    [InlineData("+0 write 100\n+0 > P. 1:101(100) ack 1 win 17")] // window
    [InlineData("+0 write 100\n+0 > P. 1:101(100) ack 1 <nop>")] // options
    [InlineData("+0 write 100\n+.01 > P. 1:101(100) ack 1")] // early
    [InlineData("+0 write 100\n+0 > P. 1:101(100) ack 1\n+.1 > P. 1:101(100) ack 1")] // late
    [InlineData("+0 write 100\n+0 read 1")] // not expected
    [InlineData("+0 write 100")] // not expected, at the end
    [InlineData("+0 > . 1:1(0) ack 1")] // missing
    [InlineData("+0 < P. 1:11(10) ack 1\n+0 read 11")]
    [InlineData("= state CLOSE_WAIT")]
    [InlineData("= cwnd 11")]
    [InlineData("= drops BadAck 1")]
    [InlineData("+0 accept")]
    public void Run_ScriptThatIsWrong_Fails(string rest)
    {
        Script script = Script.Parse("wrong", Handshake + rest);
        var e = Assert.Throws<Xunit.Sdk.XunitException>(() => ScriptRunner.Run(script, ipv6: false));
        Assert.Contains(script.Lines[^1], e.Message, StringComparison.Ordinal);
        Assert.Contains("trace:", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Run_ScriptThatIsRight_Passes() =>
        ScriptRunner.Run(Script.Parse("right", Handshake + "+0 write 100\n+0 > P. 1:101(100) ack 1"), ipv6: false);
}

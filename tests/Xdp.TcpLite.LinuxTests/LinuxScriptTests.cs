using Shared;
using Xdp.TcpLite.LinuxTests.Kernel;
using Xdp.TcpLite.Tests.Conformance;

namespace Xdp.TcpLite.LinuxTests;

/// <summary>
/// "As Linux" is a claim. Here the packets of scripts are played to this machine's kernel, and it must answer as our
/// stack does, or differ where the script says so. That our stack answers so is shown where the scripts are at home.
/// </summary>
public class LinuxScriptTests
{
    /// <summary>Scripts that take longer are played with LINUX_LONG=1 in the environment.</summary>
    private static readonly TimeSpan s_longest = Environment.GetEnvironmentVariable("LINUX_LONG") == "1"
        ? TimeSpan.FromMinutes(5) : TimeSpan.FromSeconds(15);

    /// <summary>
    /// With LINUX_ALL=1 every script must be played the same, whatever it says. So it shows what the kernel does.
    /// </summary>
    private static readonly bool s_all = Environment.GetEnvironmentVariable("LINUX_ALL") == "1";

    private static readonly Lazy<LinuxPlays> s_plays =
        new(() => new LinuxPlays(Plays(script => MustBeTheSame(script) || MustDiffer(script))));

    private static bool MustBeTheSame(Script script) => s_all || script.LinuxDoesTheSame;

    private static bool MustDiffer(Script script) => !s_all && script.LinuxDiffers is not null;

    private static IEnumerable<(Script Script, bool IPv6)> Plays(Func<Script, bool> which) =>
        from name in Script.Names()
        let script = Script.Load(name)
        where which(script) && LinuxPlays.Length(script) <= s_longest
        from ipv6 in new[] { false, true }
        where script.IpVersion is null || script.IpVersion == (ipv6 ? 6 : 4)
        select (script, ipv6);

    private static TheoryData<string, string> Cases(Func<Script, bool> which)
    {
        var cases = new TheoryData<string, string>();
        foreach ((Script script, bool ipv6) in Plays(which))
            cases.Add(script.Name, ipv6 ? "IPv6" : "IPv4");
        return cases;
    }

    public static TheoryData<string, string> Same() => Cases(MustBeTheSame);

    public static TheoryData<string, string> Different() => Cases(MustDiffer);

    [SkippableTheory]
    [MemberData(nameof(Same))]
    public async Task Script_OfWhatLinuxDoes_KernelDoesAsItSays(string script, string ip)
    {
        RequireKernel();
        Played played = await s_plays.Value.Of(script, ipv6: ip == "IPv6");
        Assert.True(played.Difference is null, played.Difference);
    }

    [SkippableTheory]
    [MemberData(nameof(Different))]
    public async Task Script_OfWhatLinuxDoesOtherwise_KernelDiffers(string script, string ip)
    {
        RequireKernel();
        Played played = await s_plays.Value.Of(script, ipv6: ip == "IPv6");
        Assert.True(played.Difference is not null, "The kernel does the same: the script's remark is out of date.");
    }

    /// <summary>A player that lets everything pass would make every script pass.</summary>
    [SkippableTheory]
    [InlineData("+0 write 100\n+0 > P. 1:100(99) ack 1")] // length
    [InlineData("+0 write 100\n+0 > PU. 1:101(100) ack 1")] // flags
    [InlineData("+0 write 100\n+0 > P. 2:102(100) ack 1")] // sequence number
    [InlineData("+0 write 100\n+0 > P. 1:101(100) ack 2")] // ACK number
    [InlineData("+0 write 100\n+0 > P. 1:101(100) ack 1 win 0")] // window
    [InlineData("+0 write 100\n+0 > P. 1:101(100) ack 1 <nop>")] // options
    [InlineData("+0 write 100\n+.04 > P. 1:101(100) ack 1")] // early
    [InlineData("+0 write 100\n+0 > P. 1:101(100) ack 1\n+.04 > P. 1:101(100) ack 1")] // late
    [InlineData("+0 < P. 1:101(100) ack 1\n+.2 > . 1:1(0) ack 101")] // the timer of another purpose
    [InlineData("+0 write 100\n+0 read 1")] // not expected
    [InlineData("+0 write 100")] // not expected, at the end
    [InlineData("+0 > . 1:1(0) ack 1")] // missing
    [InlineData("+0 < P. 1:11(10) ack 1\n+0 read 11")]
    [InlineData("= state CLOSE_WAIT")]
    [InlineData("= cwnd 11")]
    [InlineData("= rto 200")]
    [InlineData("+0 accept")]
    public void Play_ScriptThatIsWrong_Differs(string rest)
    {
        RequireKernel();
        Assert.NotNull(PlayOne(ScriptTests.Handshake + rest));
    }

    [SkippableFact]
    public void Play_ScriptThatIsRight_DoesNotDiffer()
    {
        RequireKernel();
        Assert.Null(PlayOne(ScriptTests.Handshake + "+0 write 100\n+0 > P. 1:101(100) ack 1"));
    }

    /// <summary>Each play is in a namespace of its own: the thread that asks stays where it is.</summary>
    [SkippableFact]
    public void Play_Script_LeavesTheCallersNamespace()
    {
        RequireKernel();
        string before = Namespace();
        PlayOne(ScriptTests.Handshake);
        Assert.Equal(before, Namespace());

        static string Namespace() => new FileInfo("/proc/thread-self/ns/net").LinkTarget!;
    }

    private static string? PlayOne(string text)
    {
        Script script = Script.Parse("one", text);
        return new LinuxPlays([(script, false)]).Of(script.Name, ipv6: false).GetAwaiter().GetResult().Difference;
    }

    internal static void RequireKernel()
    {
        Require.Root();
        Require.That(File.Exists("/dev/net/tun"), "/dev/net/tun");
        Require.That(File.Exists("/proc/self/ns/net"), "network namespaces");
        Require.That(File.Exists("/proc/sys/net/ipv4/tcp_rto_max_ms"), "a kernel of 6.15 or later");
    }
}

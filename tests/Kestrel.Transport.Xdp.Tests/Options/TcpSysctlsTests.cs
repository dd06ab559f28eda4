using Kestrel.Transport.Xdp.Internal.Options;
using Kestrel.Transport.Xdp.Internal.Queues;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Tests.Options;

/// <summary>Settings of a kernel, as files in a folder of the test's own.</summary>
public sealed class TcpSysctlsTests : IDisposable
{
    private const string Interface = "eth0.7";

    private readonly string _root = Directory.CreateTempSubdirectory().FullName;

    public void Dispose() => Directory.Delete(_root, recursive: true);

    private TcpSysctls Read(params (string Name, string Value)[] settings)
    {
        foreach ((string name, string value) in settings)
        {
            string path = Path.Combine(_root, name);
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            File.WriteAllText(path, value + "\n");
        }
        return TcpSysctls.Read(_root, Interface);
    }

    private TcpStackOptions Stack(string name, string value) => Read((name, value)).Stack;

    /// <summary>What is set, and what the stack's options are then. The rest of them is as without it.</summary>
    public static TheoryData<string, string, Func<TcpStackOptions, TcpStackOptions>> Obeyed => new()
    {
        { "ipv4/ip_default_ttl", "33", o => o with { TimeToLive = 33 } },
        { $"ipv6/conf/{Interface}/hop_limit", "34", o => o with { HopLimit = 34 } },
        { "ipv6/conf/default/hop_limit", "35", o => o with { HopLimit = 35 } },
        { "ipv4/tcp_timestamps", "0", o => o with { Timestamps = false } },
        { "ipv4/tcp_sack", "0", o => o with { Sack = false } },
        { "ipv4/tcp_window_scaling", "0", o => o with { WindowScaling = false } },
        { "ipv4/tcp_ecn", "0", o => o with { Ecn = false } },
        { "ipv4/tcp_ecn", "1", o => o },
        { "ipv4/tcp_syncookies", "0", o => o with { SynCookies = false } },
        { "ipv4/tcp_synack_retries", "2", o => o with { SynAckRetries = 2 } },
        { "ipv4/tcp_slow_start_after_idle", "0", o => o with { SlowStartAfterIdle = false } },
        { "ipv4/tcp_rfc1337", "1", o => o with { IgnoreResetsInTimeWait = true } },
        { "ipv4/tcp_congestion_control", "reno", o => o with { CongestionControl = CongestionAlgorithm.NewReno } },
        { "ipv4/tcp_congestion_control", "bbr", o => o with { CongestionControl = CongestionAlgorithm.Bbr } },
        { "ipv4/tcp_congestion_control", "dctcp", o => o },
        {
            "ipv4/tcp_rmem", "4096\t65536\t33554432",
            o => o with { ReceiveBufferInitial = 65536, ReceiveBufferMax = 32 << 20 }
        },
        {
            "ipv4/tcp_rmem", "1024\t2048\t9999999999",
            o => o with { ReceiveBufferInitial = 4096, ReceiveBufferMax = 1 << 30 }
        },
        { "ipv4/tcp_wmem", "4096\t16384\t1000000", o => o with { SendBufferMax = 1_000_000 } },
        { "ipv4/tcp_rto_min_us", "5000", o => o with { MinRto = TimeSpan.FromMilliseconds(5) } },
        { "ipv4/tcp_rto_max_ms", "60000", o => o with { MaxRto = TimeSpan.FromSeconds(60) } },
        { "ipv4/tcp_fin_timeout", "7", o => o with { FinWait2 = TimeSpan.FromSeconds(7) } },
        { "ipv4/tcp_orphan_retries", "3", o => o with { OrphanRetries = 3 } },
        { "ipv4/tcp_orphan_retries", "0", o => o },
        { "ipv4/tcp_keepalive_intvl", "11", o => o with { KeepAliveInterval = TimeSpan.FromSeconds(11) } },
        { "ipv4/tcp_keepalive_probes", "4", o => o with { KeepAliveCount = 4 } },
        // Without SO_KEEPALIVE it means nothing.
        { "ipv4/tcp_keepalive_time", "1", o => o },
        { "ipv4/tcp_sack", "no number", o => o },
    };

    [Theory]
    [MemberData(nameof(Obeyed))]
    public void Setting_IsTheStacks(string name, string value, Func<TcpStackOptions, TcpStackOptions> changed) =>
        Assert.Equal(changed(new TcpStackOptions()), Stack(name, value));

    // The kernel's own document has 924.6 seconds for 15 (ip-sysctl.rst).
    [Theory]
    [InlineData(0, 1)]
    [InlineData(3, 3)]
    [InlineData(8, 102.2)]
    [InlineData(9, 204.6)]
    [InlineData(15, 924.6)]
    public void Retries2_IsTheTimeThatTheKernelMakesOfIt(int retries, double seconds) =>
        Assert.Equal(TimeSpan.FromSeconds(seconds), Stack("ipv4/tcp_retries2", $"{retries}").UserTimeout);

    [Fact]
    public void ReceiveBufferThatDoesNotGrow_StaysAtItsFirstSize()
    {
        TcpStackOptions stack = Read(
            ("ipv4/tcp_rmem", "4096 65536 33554432"), ("ipv4/tcp_moderate_rcvbuf", "0")).Stack;
        Assert.Equal((65536, 65536), (stack.ReceiveBufferInitial, stack.ReceiveBufferMax));
    }

    [Theory]
    [InlineData("ipv4/tcp_mtu_probing", "2", "net.ipv4.tcp_mtu_probing=2")]
    [InlineData("ipv4/tcp_mtu_probing", "1", null)]
    [InlineData("ipv4/tcp_timestamps", "2", "net.ipv4.tcp_timestamps=2")]
    [InlineData("ipv4/tcp_syncookies", "2", "net.ipv4.tcp_syncookies=2")]
    [InlineData("ipv4/tcp_ecn", "3", "net.ipv4.tcp_ecn=3")]
    [InlineData("ipv4/tcp_congestion_control", "dctcp", "net.ipv4.tcp_congestion_control=dctcp")]
    [InlineData("ipv4/tcp_fastopen", "3", null)]
    [InlineData("ipv4/tcp_fastopen", "1027", "net.ipv4.tcp_fastopen=1027")]
    [InlineData("ipv4/route/min_pmtu", "1000", "net.ipv4.route.min_pmtu=1000")]
    [InlineData("ipv4/tcp_notsent_lowat", "4294967295", null)]
    [InlineData("ipv4/tcp_sack", "0", null)]
    public void SettingThatIsNotObeyed_IsNamed(string name, string value, string? named) =>
        Assert.Equal(named is null ? [] : [named], Read((name, value)).NotObeyed);

    [Fact]
    public void CongestionControlThatTheApplicationHasSet_IsNotNamed()
    {
        TcpSysctls sysctls = Read(("ipv4/tcp_congestion_control", "dctcp"), ("ipv4/tcp_reordering", "9"));
        Assert.Equal(2, sysctls.NotObeyedUnder(new XdpTransportOptions()).Count());
        var explicitly = new XdpTransportOptions { CongestionControl = CongestionAlgorithm.Bbr };
        Assert.Equal(["net.ipv4.tcp_reordering=9"], sysctls.NotObeyedUnder(explicitly));
    }

    /// <summary>The listening socket's option, then the transport's, then the setting.</summary>
    [Fact]
    public void Precedence()
    {
        TcpSysctls sysctls = Read(
            ("ipv4/tcp_congestion_control", "reno"), ("ipv4/tcp_retries2", "8"), ("ipv4/tcp_keepalive_intvl", "11"),
            ("ipv4/tcp_keepalive_probes", "4"), ("ipv4/tcp_rmem", "4096 131072 100000"),
            ("ipv4/tcp_wmem", "4096 16384 200000"));
        TcpStackOptions plain = StackOptions(new XdpTransportOptions(), sysctls);
        Assert.Equal(
            (CongestionAlgorithm.NewReno, 102.2, 11, 4, 100_000, 200_000), Values(plain));

        TcpStackOptions own = StackOptions(
            new XdpTransportOptions
            {
                CongestionControl = CongestionAlgorithm.Cubic,
                UserTimeout = TimeSpan.FromSeconds(900),
                KeepAliveInterval = TimeSpan.FromSeconds(75),
                KeepAliveCount = 9,
                ReceiveBufferMax = 6 << 20,
                SendBufferMax = 4 << 20,
            },
            sysctls);
        Assert.Equal((CongestionAlgorithm.Cubic, 900, 75, 9, 6 << 20, 4 << 20), Values(own));

        var socket = new TcpOverrides
        {
            CongestionControl = CongestionAlgorithm.Bbr,
            UserTimeout = TimeSpan.FromSeconds(5),
            KeepAlive = new(TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(2), 3),
        };
        Assert.Equal((CongestionAlgorithm.Bbr, 5, 2, 3, 6 << 20, 4 << 20), Values(socket.Over(own)));

        static (CongestionAlgorithm, double, double, int, int, int) Values(TcpStackOptions stack) => (
            stack.CongestionControl, stack.UserTimeout.TotalSeconds, stack.KeepAliveInterval.TotalSeconds,
            stack.KeepAliveCount, stack.ReceiveBufferMax, stack.SendBufferMax);
    }

    [Theory]
    [InlineData(null, 100)]
    [InlineData(300, 300)]
    public void SoMaxConn_LimitsTheBacklog_UnlessTheApplicationHasSetIt(int? backlog, int expected)
    {
        TcpSysctls sysctls = Read(("core/somaxconn", "100"));
        var settings = InterfaceSettings.From(
            new XdpTransportOptions { Backlog = backlog }, new SocketTransportOptions(), sysctls);
        Assert.Equal(expected, settings.Backlog);
    }

    /// <summary>The kernel that the tests run on, whose administrator may have set anything.</summary>
    [SkippableFact]
    public void Kernel_HasTheSettings()
    {
        Skip.IfNot(OperatingSystem.IsLinux(), "Linux");
        TcpSysctls sysctls = TcpSysctls.Read("lo");
        byte ttl = byte.Parse(File.ReadAllText("/proc/sys/net/ipv4/ip_default_ttl"));
        Assert.Equal(ttl, sysctls.Stack.TimeToLive);
        Assert.InRange(sysctls.MaxBacklog, 1, int.MaxValue - 1);
    }

    private static TcpStackOptions StackOptions(XdpTransportOptions options, TcpSysctls sysctls) => new QueueSettings
    {
        Interface = InterfaceSettings.From(options, new SocketTransportOptions(), sysctls),
        InterfaceName = Interface,
        InterfaceIndex = 1,
        QueueId = 0,
        Mtu = 1500,
        MultiBuffer = false,
        AcceptPartialChecksum = false,
        FrameCount = 256,
        Secret = new byte[32],
    }.ToStackOptions();
}

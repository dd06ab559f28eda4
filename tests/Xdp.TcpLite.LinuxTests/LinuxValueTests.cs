using System.Globalization;
using Shared;
using Xdp.TcpLite.LinuxTests.Kernel;
using Xdp.TcpLite.Tests.Conformance;

namespace Xdp.TcpLite.LinuxTests;

/// <summary>
/// Defaults that are Linux's, by the kernel's own word: a new network namespace has them. Waiting for most of them
/// would take minutes.
/// </summary>
public class LinuxValueTests
{
    /// <summary>TCP_TIME_WAIT of include/net/tcp_states.h.</summary>
    private const int TimeWait = 6;

    private static readonly TcpStackOptions s_ours = new();

    public static TheoryData<string, double> Values() => new()
    {
        { "tcp_fin_timeout", s_ours.FinWait2.TotalSeconds },
        { "tcp_syn_retries", 6 },
        { "tcp_synack_retries", 5 },
        { "tcp_min_snd_mss", 48 },
        { "tcp_invalid_ratelimit", 500 },
        { "tcp_ecn", 2 },
        { "tcp_rfc1337", 0 },
        { "tcp_keepalive_intvl", s_ours.KeepAliveInterval.TotalSeconds },
        { "tcp_keepalive_probes", s_ours.KeepAliveCount },
        { "tcp_rto_min_us", s_ours.MinRto.TotalMicroseconds },
        { "tcp_rto_max_ms", s_ours.MaxRto.TotalMilliseconds },
        { "tcp_retries1", 3 },
        { "tcp_base_mss", 1024 },
        { "tcp_probe_threshold", 8 },
        { "tcp_probe_interval", 600 },
        { "tcp_slow_start_after_idle", 1 },
        // 0 stands for 8 here, where the RTO is below its maximum (tcp_orphan_retries in net/ipv4/tcp_timer.c).
        { "tcp_orphan_retries", s_ours.OrphanRetries == 8 ? 0 : s_ours.OrphanRetries },
    };

    [SkippableTheory]
    [MemberData(nameof(Values))]
    public void Default_IsTheKernels(string name, double ours)
    {
        LinuxScriptTests.RequireKernel();
        string value = OwnThread.Run(() =>
        {
            using var host = new LinuxHost(ipv6: false, mtu: 1500);
            return LinuxHost.Sysctl(name);
        });
        Assert.Equal(ours, double.Parse(value, CultureInfo.InvariantCulture));
    }

    /// <summary>No sysctl has TCP_TIMEWAIT_LEN (include/net/tcp.h). A fresh entry tells.</summary>
    [SkippableFact]
    public void TimeWait_IsTheKernels()
    {
        LinuxScriptTests.RequireKernel();
        Script script = Script.Parse("to TIME-WAIT", """
            +0   listen
            +0   < S 0:0(0) win 65535 <mss 1000>
            +0   > S. 0:0(0) ack 1 <mss 1460>
            +.1  < . 1:1(0) ack 1 win 65535
            +0   accept
            +0   shutdown
            +0   > F. 1:1(0) ack 1
            +0   < F. 1:1(0) ack 2 win 65535
            +0   > . 2:2(0) ack 2
            """);
        TimeSpan left = TimeSpan.Zero;
        Played played = Play();
        for (int i = 0; i < 3 && played.IsTiming; i++)
            played = Play();
        Assert.Null(played.Difference);
        Assert.InRange(left, s_ours.TimeWait - TimeSpan.FromSeconds(10), s_ours.TimeWait);

        Played Play() => OwnThread.Run(() => LinuxPlayer.Play(
            script, ipv6: false, host => left = host.Table().FirstOrDefault(row => row.State == TimeWait).Timer));
    }

    /// <summary>The first of three values: what each socket may hold however short memory is.</summary>
    [SkippableFact]
    public void ReceiveMinimum_IsTheKernels()
    {
        Require.Linux();
        string first = LinuxHost.Sysctl("tcp_rmem").Split('\t')[0];
        Assert.Equal(s_ours.ReceiveMinimum, int.Parse(first, CultureInfo.InvariantCulture));
    }
}

using System.Globalization;
using System.Text;
using Microsoft.Win32.SafeHandles;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Options;

/// <summary>
/// What the administrator has set for TCP in a network namespace. Connections over sockets obey these settings, and so
/// do those over AF_XDP, unless the application says otherwise. docs/differences.md lists both kinds: those that are
/// obeyed, and those that are not.
/// </summary>
/// <remarks>
/// Names are Linux's, without the "net." in front. The settings of a new namespace are those of the kernel, but for
/// tcp_rmem, tcp_wmem and tcp_congestion_control, which it takes from the first namespace.
/// </remarks>
internal sealed record TcpSysctls
{
    private const string CongestionControl = "ipv4.tcp_congestion_control";

    private const string FastOpen = "ipv4.tcp_fastopen";

    /// <summary>
    /// TFO_SERVER_ENABLE and TFO_SERVER_WO_SOCKOPT1. Only both together concern a listening socket that has not asked
    /// for it.
    /// </summary>
    private const int FastOpenToAll = 0x402;

    /// <summary>The shortest that a timer is set to, which tcp_retries2 counts with: TCP_RTO_MIN.</summary>
    private static readonly TimeSpan s_rtoMin = TimeSpan.FromMilliseconds(200);

    // What the stack has no switch for, and the values with which it does the same: mostly the kernel's defaults.
    private static readonly (string Name, string[] Values)[] s_known =
    [
        ("ipv4.ip_no_pmtu_disc", ["0"]),
        ("ipv4.route.min_pmtu", ["552"]),
        ("ipv4.tcp_abort_on_overflow", ["0"]),
        ("ipv4.tcp_adv_win_scale", ["1"]),
        ("ipv4.tcp_app_win", ["31"]),
        ("ipv4.tcp_base_mss", ["1024"]),
        // 1000 until 6.6.
        ("ipv4.tcp_challenge_ack_limit", ["1000", "2147483647"]),
        (CongestionControl, ["cubic", "reno", "bbr"]),
        ("ipv4.tcp_dsack", ["1"]),
        ("ipv4.tcp_early_retrans", ["3"]),
        // Without an active open, asking for ECN (1) is no more than granting it (2).
        ("ipv4.tcp_ecn", ["0", "1", "2"]),
        ("ipv4.tcp_frto", ["2"]),
        (FastOpen, []),
        ("ipv4.tcp_fwmark_accept", ["0"]),
        ("ipv4.tcp_invalid_ratelimit", ["500"]),
        ("ipv4.tcp_l3mdev_accept", ["0"]),
        ("ipv4.tcp_max_reordering", ["300"]),
        ("ipv4.tcp_migrate_req", ["0"]),
        ("ipv4.tcp_min_snd_mss", ["48"]),
        ("ipv4.tcp_mtu_probe_floor", ["48"]),
        // A path that swallows large segments is found out here as with 1.
        ("ipv4.tcp_mtu_probing", ["0", "1"]),
        ("ipv4.tcp_notsent_lowat", ["4294967295"]),
        ("ipv4.tcp_pacing_ca_ratio", ["120"]),
        ("ipv4.tcp_pacing_ss_ratio", ["200"]),
        ("ipv4.tcp_plb_enabled", ["0"]),
        ("ipv4.tcp_probe_interval", ["600"]),
        ("ipv4.tcp_probe_threshold", ["8"]),
        ("ipv4.tcp_recovery", ["1"]),
        ("ipv4.tcp_reflect_tos", ["0"]),
        ("ipv4.tcp_reordering", ["3"]),
        ("ipv4.tcp_retries1", ["3"]),
        ("ipv4.tcp_shrink_window", ["0"]),
        ("ipv4.tcp_stdurg", ["0"]),
        ("ipv4.tcp_syncookies", ["0", "1"]),
        ("ipv4.tcp_thin_linear_timeouts", ["0"]),
        ("ipv4.tcp_timestamps", ["0", "1"]),
        ("ipv4.tcp_workaround_signed_windows", ["0"]),
    ];

    /// <summary>Those that <see cref="NotObeyed"/> may have.</summary>
    internal static IEnumerable<string> NamesThatMayBeNotObeyed => s_known.Select(setting => setting.Name);

    /// <summary>Nothing is known: the stack's own defaults.</summary>
    internal static TcpSysctls None { get; } = new();

    /// <summary>What is obeyed. What has no setting in the kernel is the stack's default.</summary>
    internal TcpStackOptions Stack { get; init; } = new();

    /// <summary>The longest backlog of a listening socket: net.core.somaxconn.</summary>
    internal int MaxBacklog { get; private init; } = int.MaxValue;

    /// <summary>What differs from the kernel's default and is not obeyed, each as "name=value".</summary>
    internal IReadOnlyList<string> NotObeyed { get; private init; } = [];

    /// <summary>What of that does matter. An option of the application's wins over the setting.</summary>
    internal IEnumerable<string> NotObeyedUnder(XdpTransportOptions options) => options.CongestionControl is null
        ? NotObeyed
        : NotObeyed.Where(setting => !setting.StartsWith($"net.{CongestionControl}=", StringComparison.Ordinal));

    /// <summary>Of the calling thread's network namespace.</summary>
    /// <param name="interfaceName">Some settings are an interface's. It need not exist.</param>
    internal static TcpSysctls Read(string interfaceName) => Read("/proc/sys/net", interfaceName);

    /// <param name="root">The folder of the settings whose names begin with "net.".</param>
    /// <param name="interfaceName">The interface's name.</param>
    internal static TcpSysctls Read(string root, string interfaceName)
    {
        var files = new Files(root);
        return new TcpSysctls
        {
            Stack = Obeyed(files, interfaceName),
            MaxBacklog = files.Number("core.somaxconn", int.MaxValue, 1, int.MaxValue),
            NotObeyed = [.. Differences(files)],
        };
    }

    /// <summary>What the stack calls the kernel's congestion control; null for one that it does not have.</summary>
    internal static CongestionAlgorithm? CongestionOf(string kernelName) => kernelName switch
    {
        "cubic" => CongestionAlgorithm.Cubic,
        "reno" => CongestionAlgorithm.NewReno,
        "bbr" => CongestionAlgorithm.Bbr,
        _ => null,
    };

    private static TcpStackOptions Obeyed(Files files, string interfaceName)
    {
        var ours = new TcpStackOptions();
        (int receiveInitial, int receiveMax) = ReceiveBuffer(files, ours);
        int sendMax = files.Numbers("ipv4.tcp_wmem") is [_, _, var most] ? ToBuffer(most) : ours.SendBufferMax;
        TimeSpan maxRto = files.Milliseconds("ipv4.tcp_rto_max_ms", ours.MaxRto);
        // 0 means 8 (tcp_orphan_retries() of the kernel).
        int orphanRetries = files.Number("ipv4.tcp_orphan_retries", 0, 0, 255);
        return ours with
        {
            TimeToLive = (byte)files.Number("ipv4.ip_default_ttl", ours.TimeToLive, 1, 255),
            HopLimit = (byte)files.Number(
                files.Has($"ipv6/conf/{interfaceName}/hop_limit")
                    ? $"ipv6/conf/{interfaceName}/hop_limit"
                    : "ipv6/conf/default/hop_limit",
                ours.HopLimit, 1, 255),
            Timestamps = files.IsOn("ipv4.tcp_timestamps", ours.Timestamps),
            Sack = files.IsOn("ipv4.tcp_sack", ours.Sack),
            WindowScaling = files.IsOn("ipv4.tcp_window_scaling", ours.WindowScaling),
            Ecn = files.IsOn("ipv4.tcp_ecn", ours.Ecn),
            SynCookies = files.IsOn("ipv4.tcp_syncookies", ours.SynCookies),
            SynAckRetries = files.Number("ipv4.tcp_synack_retries", ours.SynAckRetries, 0, 255),
            SlowStartAfterIdle = files.IsOn("ipv4.tcp_slow_start_after_idle", ours.SlowStartAfterIdle),
            IgnoreResetsInTimeWait = files.IsOn("ipv4.tcp_rfc1337", ours.IgnoreResetsInTimeWait),
            CongestionControl = CongestionOf(files.Text(CongestionControl)) ?? ours.CongestionControl,
            ReceiveBufferInitial = receiveInitial,
            ReceiveBufferMax = receiveMax,
            SendBufferMax = sendMax,
            MinRto = files.Number("ipv4.tcp_rto_min_us", -1, -1, 120_000_000) is > 0 and var microseconds
                ? TimeSpan.FromMicroseconds(microseconds)
                : ours.MinRto,
            MaxRto = maxRto,
            UserTimeout = files.Number("ipv4.tcp_retries2", -1, -1, 255) is >= 0 and var retries
                ? TimeOf(retries, maxRto)
                : ours.UserTimeout,
            FinWait2 = files.Seconds("ipv4.tcp_fin_timeout", ours.FinWait2),
            OrphanRetries = orphanRetries == 0 ? ours.OrphanRetries : orphanRetries,
            KeepAliveInterval = files.Seconds("ipv4.tcp_keepalive_intvl", ours.KeepAliveInterval),
            KeepAliveCount = files.Number("ipv4.tcp_keepalive_probes", ours.KeepAliveCount, 1, 127),
        };
    }

    /// <summary>tcp_rmem counts the kernel's memory, our buffers the bytes in it. The numbers are the same.</summary>
    private static (int Initial, int Max) ReceiveBuffer(Files files, TcpStackOptions ours)
    {
        if (files.Numbers("ipv4.tcp_rmem") is not [_, var initial, var max])
            return (ours.ReceiveBufferInitial, ours.ReceiveBufferMax);
        int most = ToBuffer(files.IsOn("ipv4.tcp_moderate_rcvbuf", true) ? max : initial);
        return (Math.Min(ToBuffer(initial), most), most);
    }

    private static int ToBuffer(long bytes) =>
        (int)Math.Clamp(bytes, XdpOptionsValidator.SmallestBuffer, XdpOptionsValidator.LargestBuffer);

    /// <summary>
    /// How long so many retransmissions take, if the first one comes after the shortest time there is: what the kernel
    /// makes of tcp_retries2 (tcp_model_timeout()).
    /// </summary>
    private static TimeSpan TimeOf(int retries, TimeSpan maxRto)
    {
        int doubled = Math.Clamp((int)Math.Log2(maxRto / s_rtoMin), 0, retries);
        TimeSpan time = s_rtoMin * ((2L << doubled) - 1) + maxRto * (retries - doubled);
        TimeSpan least = XdpOptionsValidator.ShortestUserTimeout;
        return time < least ? least : time;
    }

    private static IEnumerable<string> Differences(Files files)
    {
        foreach ((string name, string[] values) in s_known)
        {
            string value = files.Text(name);
            bool isOurs = name == FastOpen
                ? (files.Number(name, 0, 0, int.MaxValue) & FastOpenToAll) != FastOpenToAll
                : values.Contains(value);
            if (!isOurs && value.Length > 0)
                yield return $"net.{name}={value}";
        }
    }

    /// <summary>The settings as files. What is not there, or no number, is taken for the default.</summary>
    private readonly struct Files(string root)
    {
        internal bool Has(string name) => File.Exists(PathOf(name));

        /// <summary>Empty where the kernel does not have it.</summary>
        internal string Text(string name)
        {
            try
            {
                using SafeFileHandle file = File.OpenHandle(PathOf(name));
                Span<byte> text = stackalloc byte[256];
                return Encoding.ASCII.GetString(text[..RandomAccess.Read(file, text, 0)]).Trim();
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                return "";
            }
        }

        internal int Number(string name, int otherwise, int least, int most) =>
            long.TryParse(Text(name), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long value)
                ? (int)Math.Clamp(value, least, most)
                : otherwise;

        internal bool IsOn(string name, bool otherwise) => Number(name, otherwise ? 1 : 0, 0, int.MaxValue) != 0;

        internal TimeSpan Seconds(string name, TimeSpan otherwise) =>
            TimeSpan.FromSeconds(Number(name, (int)otherwise.TotalSeconds, 1, int.MaxValue));

        internal TimeSpan Milliseconds(string name, TimeSpan otherwise) =>
            TimeSpan.FromMilliseconds(Number(name, (int)otherwise.TotalMilliseconds, 1, int.MaxValue));

        internal long[] Numbers(string name)
        {
            string[] words = Text(name).Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
            long[] numbers = new long[words.Length];
            for (int i = 0; i < words.Length; i++)
            {
                if (!long.TryParse(words[i], NumberStyles.None, CultureInfo.InvariantCulture, out numbers[i]))
                    return [];
            }
            return numbers;
        }

        // As sysctl(8) has it: with slashes where a part of the name has dots.
        private string PathOf(string name) =>
            Path.Combine(root, name.Contains('/', StringComparison.Ordinal) ? name : name.Replace('.', '/'));
    }
}

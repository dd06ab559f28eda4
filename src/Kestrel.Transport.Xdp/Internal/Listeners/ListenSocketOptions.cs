using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;
using Kestrel.Transport.Xdp.Internal.Options;
using Kestrel.Transport.Xdp.Internal.Queues;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Listeners;

/// <summary>
/// What the application has set on an endpoint's listening socket. Connections over sockets inherit these options. So
/// the connections over AF_XDP must have them too, or the endpoint stays with sockets.
/// </summary>
/// <remarks>
/// A socket does not tell which options were set. It is compared with a new one in the same network namespace, whose
/// values are the namespace's defaults. TCP_NODELAY is not looked at: the socket transport sets it on each accepted
/// connection, whatever the listening socket has, and the NoDelay option of this transport stands for that.
/// </remarks>
internal sealed record ListenSocketOptions
{
    // Levels of socket options, with their Linux names.
    private const int IPPROTO_IP = 0, SOL_SOCKET = 1, IPPROTO_TCP = 6, IPPROTO_IPV6 = 41;

    // TCP_CA_NAME_MAX and IFNAMSIZ.
    private const int NameSize = 16;

    private static readonly Option s_keepAlive = new("SO_KEEPALIVE", SOL_SOCKET, 9);
    private static readonly Option s_keepIdle = new("TCP_KEEPIDLE", IPPROTO_TCP, 4);
    private static readonly Option s_keepInterval = new("TCP_KEEPINTVL", IPPROTO_TCP, 5);
    private static readonly Option s_keepCount = new("TCP_KEEPCNT", IPPROTO_TCP, 6);
    private static readonly Option s_userTimeout = new("TCP_USER_TIMEOUT", IPPROTO_TCP, 18);
    private static readonly Option s_congestion = new("TCP_CONGESTION", IPPROTO_TCP, 13, NameSize);
    private static readonly Option s_device = new("SO_BINDTODEVICE", SOL_SOCKET, 25, NameSize);
    private static readonly Option s_ipv6Only = new("IPV6_V6ONLY", IPPROTO_IPV6, 26);
    private static readonly Option s_namespace = new("SO_NETNS_COOKIE", SOL_SOCKET, 71, sizeof(ulong));

    // SOCK_SNDBUF_LOCK = 1 and SOCK_RCVBUF_LOCK = 2 say that a size was set.
    private static readonly Option s_bufferLock = new("SO_BUF_LOCK", SOL_SOCKET, 72);

    // What only sockets can do.
    private static readonly Option[] s_socketsOnly =
    [
        new("SO_PROTOCOL", SOL_SOCKET, 38),
        new("IP_TOS", IPPROTO_IP, 1),
        new("IP_TTL", IPPROTO_IP, 2),
        new("IP_MTU_DISCOVER", IPPROTO_IP, 10),
        new("IP_MINTTL", IPPROTO_IP, 21),
        new("IPV6_UNICAST_HOPS", IPPROTO_IPV6, 16),
        new("IPV6_MTU_DISCOVER", IPPROTO_IPV6, 23),
        new("IPV6_TCLASS", IPPROTO_IPV6, 67),
        new("IPV6_MINHOPCOUNT", IPPROTO_IPV6, 73),
        new("TCP_MAXSEG", IPPROTO_TCP, 2),
        new("TCP_LINGER2", IPPROTO_TCP, 8),
        new("TCP_DEFER_ACCEPT", IPPROTO_TCP, 9),
        new("TCP_WINDOW_CLAMP", IPPROTO_TCP, 10),
        new("TCP_FASTOPEN", IPPROTO_TCP, 23),
        new("SO_PRIORITY", SOL_SOCKET, 12),
        new("SO_LINGER", SOL_SOCKET, 13, 2 * sizeof(int)),
        new("SO_MARK", SOL_SOCKET, 36),
        new("SO_MAX_PACING_RATE", SOL_SOCKET, 47, sizeof(ulong)),
        new("SO_INCOMING_CPU", SOL_SOCKET, 49),
    ];

    private sealed record Option(string LinuxName, int Level, int Number, int Size = sizeof(int));

    /// <summary>An IPv6 wildcard leaves IPv4 to others.</summary>
    internal bool IPv6Only { get; private init; }

    /// <summary>The only interface that the socket takes connections from; null for any.</summary>
    internal string? Device { get; private init; }

    /// <summary>What connections have in place of the transport's own options.</summary>
    internal TcpOverrides Tcp { get; private init; } = TcpOverrides.None;

    /// <summary>Why the endpoint has to stay with sockets; null if it has not.</summary>
    internal string? Refusal { get; private init; }

    /// <summary>In the network namespace where the endpoint is to be served.</summary>
    /// <exception cref="SocketException">No socket is to be had to compare with.</exception>
    internal static ListenSocketOptions Read(Socket socket)
    {
        if (!OperatingSystem.IsLinux())
            return new ListenSocketOptions();
        using var fresh = new Socket(socket.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        if (Differs(s_namespace, socket, fresh))
            return new() { Refusal = "its listening socket belongs to another network namespace" };

        List<string> refused =
            [.. s_socketsOnly.Where(option => Differs(option, socket, fresh)).Select(option => option.LinuxName)];
        int locks = ReadInt(s_bufferLock, socket) & ~ReadInt(s_bufferLock, fresh);
        if ((locks & 1) != 0)
            refused.Add("SO_SNDBUF");
        if ((locks & 2) != 0)
            refused.Add("SO_RCVBUF");
        TcpOverrides tcp = ReadTcp(socket, fresh, refused);
        return new()
        {
            IPv6Only = ReadInt(s_ipv6Only, socket) != 0,
            Device = ReadName(s_device, socket) is { Length: > 0 } device ? device : null,
            Tcp = tcp,
            Refusal = refused.Count == 0 ? null
                : $"its listening socket has {string.Join(", ", refused)} set, which sockets alone carry out",
        };
    }

    private static TcpOverrides ReadTcp(Socket socket, Socket fresh, List<string> refused)
    {
        TimeSpan? userTimeout = null;
        if (Differs(s_userTimeout, socket, fresh))
        {
            userTimeout = TimeSpan.FromMilliseconds((uint)ReadInt(s_userTimeout, socket));
            if (userTimeout < XdpOptionsValidator.ShortestUserTimeout
                || userTimeout > XdpOptionsValidator.LongestUserTimeout)
            {
                refused.Add($"{s_userTimeout.LinuxName} (not 1 s to 1 day)");
            }
        }
        CongestionAlgorithm? congestion = null;
        if (Differs(s_congestion, socket, fresh))
        {
            string name = ReadName(s_congestion, socket);
            congestion = TcpSysctls.CongestionOf(name);
            if (congestion is null)
                refused.Add($"{s_congestion.LinuxName} ({name})");
        }
        return new TcpOverrides
        {
            KeepAlive = ReadKeepAlive(socket, userTimeout),
            UserTimeout = userTimeout,
            CongestionControl = congestion,
        };
    }

    /// <summary>
    /// Without SO_KEEPALIVE the other three mean nothing. With it, those that were not set are the namespace's.
    /// </summary>
    private static KeepAliveOverride? ReadKeepAlive(Socket socket, TimeSpan? userTimeout)
    {
        if (ReadInt(s_keepAlive, socket) == 0)
            return null;
        TimeSpan time = TimeSpan.FromSeconds(ReadInt(s_keepIdle, socket));
        TimeSpan interval = TimeSpan.FromSeconds(ReadInt(s_keepInterval, socket));
        int count = ReadInt(s_keepCount, socket);
        // With a user timeout, the kernel counts no probes: the first one that comes due after that time ends it.
        if (userTimeout is { } patience)
            count = Math.Max(1, (int)Math.Ceiling((patience - time) / interval));
        return new(time, interval, count);
    }

    private static bool Differs(Option option, Socket socket, Socket fresh) =>
        !TryRead(option, socket).AsSpan().SequenceEqual(TryRead(option, fresh));

    private static int ReadInt(Option option, Socket socket) =>
        TryRead(option, socket) is { Length: sizeof(int) } value ? MemoryMarshal.Read<int>(value) : 0;

    private static string ReadName(Option option, Socket socket) =>
        Encoding.UTF8.GetString(TryRead(option, socket)).TrimEnd('\0');

    /// <summary>Empty where the kernel, or the socket's address family, does not have the option.</summary>
    private static byte[] TryRead(Option option, Socket socket)
    {
        if (option.Level == IPPROTO_IPV6 && socket.AddressFamily != AddressFamily.InterNetworkV6)
            return [];
        byte[] value = new byte[option.Size];
        try
        {
            return value[..socket.GetRawSocketOption(option.Level, option.Number, value)];
        }
        catch (SocketException)
        {
            return [];
        }
    }
}

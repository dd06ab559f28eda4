using System.Net;
using System.Net.Sockets;
using System.Text;
using Kestrel.Transport.Xdp.Internal.Interfaces;
using Kestrel.Transport.Xdp.Internal.Listeners;
using Kestrel.Transport.Xdp.Internal.Options;
using Kestrel.Transport.Xdp.Internal.Queues;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Microsoft.Extensions.Logging.Abstractions;
using Xdp.TcpLite;
using WrappedOptions = Microsoft.Extensions.Options.Options;

namespace Kestrel.Transport.Xdp.Tests.Listeners;

public class ListenSocketOptionsTests
{
    // Levels of socket options, with their Linux names.
    private const int IPPROTO_IP = 0, SOL_SOCKET = 1, IPPROTO_TCP = 6, IPPROTO_IPV6 = 41;

    private const string V4 = "0.0.0.0:0", V6 = "[::]:0", Own4 = "127.0.0.1:0", Own6 = "[::1]:0";

    [SkippableTheory]
    [InlineData(V4)]
    [InlineData(V6)]
    [InlineData(Own4)]
    [InlineData(Own6)]
    public void KestrelsOwnSocket_AsksForNothing(string endpoint)
    {
        ListenSocketOptions options = Read(endpoint, _ => { });
        Assert.Equal((null, null, TcpOverrides.None), (options.Refusal, options.Device, options.Tcp));
    }

    [SkippableTheory]
    [InlineData("IP_TOS", V4, IPPROTO_IP, 1, 0x20)]
    [InlineData("IP_TOS", V6, IPPROTO_IP, 1, 0x20)]
    [InlineData("IP_TTL", V4, IPPROTO_IP, 2, 7)]
    [InlineData("IP_MTU_DISCOVER", V4, IPPROTO_IP, 10, 0)]
    [InlineData("IP_MINTTL", V4, IPPROTO_IP, 21, 255)]
    [InlineData("IPV6_UNICAST_HOPS", V6, IPPROTO_IPV6, 16, 7)]
    [InlineData("IPV6_MTU_DISCOVER", V6, IPPROTO_IPV6, 23, 0)]
    [InlineData("IPV6_TCLASS", V6, IPPROTO_IPV6, 67, 0x20)]
    [InlineData("IPV6_MINHOPCOUNT", V6, IPPROTO_IPV6, 73, 255)]
    [InlineData("TCP_MAXSEG", V4, IPPROTO_TCP, 2, 1000)]
    [InlineData("TCP_MAXSEG", V6, IPPROTO_TCP, 2, 1000)]
    [InlineData("TCP_LINGER2", V4, IPPROTO_TCP, 8, 5)]
    [InlineData("TCP_DEFER_ACCEPT", V4, IPPROTO_TCP, 9, 3)]
    [InlineData("TCP_WINDOW_CLAMP", V4, IPPROTO_TCP, 10, 20000)]
    [InlineData("TCP_FASTOPEN", V4, IPPROTO_TCP, 23, 16)]
    [InlineData("SO_SNDBUF", V4, SOL_SOCKET, 7, 20000)]
    [InlineData("SO_RCVBUF", V4, SOL_SOCKET, 8, 20000)]
    [InlineData("SO_PRIORITY", V4, SOL_SOCKET, 12, 3)]
    [InlineData("SO_MAX_PACING_RATE", V4, SOL_SOCKET, 47, 1_000_000)]
    [InlineData("SO_INCOMING_CPU", V4, SOL_SOCKET, 49, 0)]
    public void OnlySocketsCan_IsRefusedByName(string name, string endpoint, int level, int number, int value)
    {
        ListenSocketOptions options = Read(endpoint, socket => Set(socket, level, number, value));
        Assert.Equal($"its listening socket has {name} set, which sockets alone carry out", options.Refusal);
    }

    // The kernel takes a mark from those only who may administer the network.
    [SkippableFact]
    public void Mark_IsRefusedByName()
    {
        Skip.IfNot(Environment.IsPrivilegedProcess, "SO_MARK takes CAP_NET_ADMIN.");
        Assert.Contains(
            "SO_MARK", Read(V4, socket => Set(socket, SOL_SOCKET, 36, 5)).Refusal, StringComparison.Ordinal);
    }

    [Fact]
    public void Linger_IsRefusedByName() => Assert.Contains(
        "SO_LINGER",
        Read(V4, socket => socket.LingerState = new LingerOption(true, 0)).Refusal,
        StringComparison.Ordinal);

    [Fact]
    public void Several_AreAllNamed()
    {
        ListenSocketOptions options = Read(V4, socket =>
        {
            Set(socket, IPPROTO_TCP, 2, 1000);
            Set(socket, IPPROTO_IP, 2, 7);
        });
        Assert.Contains("has IP_TTL, TCP_MAXSEG set", options.Refusal, StringComparison.Ordinal);
    }

    // Kestrel sets it on each connection, from its own option.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void NoDelay_IsTheTransportsOwn(bool noDelay) =>
        Assert.Equal(new ListenSocketOptions(), Read(V4, socket => socket.NoDelay = noDelay));

    [SkippableTheory]
    [InlineData(V6, true)]
    [InlineData(V6, false)]
    public void IPv6Only_IsWhatTheEndpointCovers(string endpoint, bool only)
    {
        Skip.IfNot(Socket.OSSupportsIPv6, "There is no IPv6.");
        using var socket = new Socket(AddressFamily.InterNetworkV6, SocketType.Stream, ProtocolType.Tcp);
        socket.DualMode = !only;
        ListenSocketOptions options = ListenSocketOptions.Read(socket);
        Assert.Null(options.Refusal);
        Assert.Equal(only, options.IPv6Only);
        EndpointBinding binding = Binding(endpoint, options);
        Assert.Equal(!only, binding.Covers(IPAddress.Parse("192.0.2.1")));
        Assert.Equal(!only, binding.IsDualMode);
        Assert.True(binding.Covers(IPAddress.Parse("2001:db8::1")));
    }

    [Fact]
    public void Device_IsTheOnlyInterface()
    {
        ListenSocketOptions options =
            Read(V4, socket => socket.SetRawSocketOption(SOL_SOCKET, 25, Encoding.ASCII.GetBytes("lo")));
        Assert.Equal((null, "lo"), (options.Refusal, options.Device));
    }

    [Fact]
    public void KeepAlive_AllThreeAreTaken()
    {
        ListenSocketOptions options = Read(V4, socket => KeepAlive(socket, idle: 40, interval: 7, count: 3));
        Assert.Equal(Probes(40, 7, 3), options.Tcp.KeepAlive);
        TcpStackOptions stack = options.Tcp.Over(new TcpStackOptions());
        Assert.Equal(
            (TimeSpan.FromSeconds(40), TimeSpan.FromSeconds(7), 3),
            (stack.KeepAlive, stack.KeepAliveInterval, stack.KeepAliveCount));
    }

    [Fact]
    public void KeepAlive_WhatIsNotSet_IsTheNamespaces()
    {
        ListenSocketOptions options = Read(V4, socket => Set(socket, SOL_SOCKET, 9, 1));
        int Default(string name) => int.Parse(
            File.ReadAllText($"/proc/sys/net/ipv4/tcp_keepalive_{name}"),
            System.Globalization.CultureInfo.InvariantCulture);
        Assert.Equal(Probes(Default("time"), Default("intvl"), Default("probes")), options.Tcp.KeepAlive);
    }

    [Fact]
    public void KeepAlive_NotSwitchedOn_MeansNothing() => Assert.Equal(
        new ListenSocketOptions(),
        Read(V4, socket =>
        {
            Set(socket, IPPROTO_TCP, 4, 40);
            Set(socket, IPPROTO_TCP, 6, 3);
        }));

    // tcp_keepalive_timer in Linux: with a user timeout, what counts is the time, not the number of probes.
    [Theory]
    [InlineData(60_000, 3)]
    [InlineData(61_000, 4)]
    [InlineData(10_000, 1)]
    public void KeepAlive_WithUserTimeout_EndsWithTheProbeAfterIt(int userTimeout, int count)
    {
        ListenSocketOptions options = Read(V4, socket =>
        {
            KeepAlive(socket, idle: 30, interval: 10, count: 9);
            Set(socket, IPPROTO_TCP, 18, userTimeout);
        });
        Assert.Equal(Probes(30, 10, count), options.Tcp.KeepAlive);
    }

    [Fact]
    public void UserTimeout_IsTaken()
    {
        ListenSocketOptions options = Read(V4, socket => Set(socket, IPPROTO_TCP, 18, 2500));
        Assert.Null(options.Refusal);
        Assert.Equal(TimeSpan.FromMilliseconds(2500), options.Tcp.Over(new TcpStackOptions()).UserTimeout);
    }

    [Theory]
    [InlineData(999)]
    [InlineData(86_400_001)]
    public void UserTimeout_BeyondWhatTheStackTakes_IsRefused(int milliseconds) => Assert.Contains(
        "TCP_USER_TIMEOUT",
        Read(V4, socket => Set(socket, IPPROTO_TCP, 18, milliseconds)).Refusal,
        StringComparison.Ordinal);

    // Every kernel has reno, and cubic or something better is the default.
    [SkippableFact]
    public void CongestionControl_IsTakenByName()
    {
        Skip.If(File.ReadAllText("/proc/sys/net/ipv4/tcp_congestion_control").Trim() == "reno");
        ListenSocketOptions options = Read(V4, socket => socket.SetRawSocketOption(IPPROTO_TCP, 13, "reno"u8));
        Assert.Null(options.Refusal);
        Assert.Equal(
            CongestionAlgorithm.NewReno, options.Tcp.Over(new TcpStackOptions()).CongestionControl);
    }

    [Theory]
    [InlineData("cubic", CongestionAlgorithm.Cubic)]
    [InlineData("reno", CongestionAlgorithm.NewReno)]
    [InlineData("bbr", CongestionAlgorithm.Bbr)]
    [InlineData("dctcp", null)]
    public void CongestionControl_HasTheKernelsNames(string name, CongestionAlgorithm? algorithm) =>
        Assert.Equal(algorithm, TcpSysctls.CongestionOf(name));

    [Fact]
    public void NothingSet_LeavesTheStacksOptions()
    {
        var stack = new TcpStackOptions { KeepAlive = TimeSpan.FromSeconds(3), KeepAliveCount = 4 };
        Assert.Same(stack, TcpOverrides.None.Over(stack));
        TcpStackOptions changed = new TcpOverrides { UserTimeout = TimeSpan.FromSeconds(9) }.Over(stack);
        Assert.Equal(stack with { UserTimeout = TimeSpan.FromSeconds(9) }, changed);
    }

    [Fact]
    public async Task Required_OptionThatOnlySocketsHave_RefusesToStart()
    {
        var options = new XdpTransportOptions { Required = true };
        options.Interfaces.Add("nosuch0");
        Socket? made = null;
        var sockets = new SocketTransportOptions
        {
            CreateBoundListenSocket = endpoint =>
            {
                made = SocketTransportOptions.CreateDefaultBoundListenSocket(endpoint);
                Set(made, IPPROTO_TCP, 2, 1000);
                return made;
            },
        };
        await using var factory = new XdpTransportFactory(
            WrappedOptions.Create(options), NullLoggerFactory.Instance, WrappedOptions.Create(sockets));
        var error = await Assert.ThrowsAsync<XdpUnavailableException>(
            () => factory.BindAsync(new IPEndPoint(IPAddress.Any, 0)).AsTask());
        Assert.Contains("TCP_MAXSEG", error.Message, StringComparison.Ordinal);
        Assert.True(made!.SafeHandle.IsClosed);
    }

    private static ListenSocketOptions Read(string endpoint, Action<Socket> configure)
    {
        IPEndPoint at = IPEndPoint.Parse(endpoint);
        Skip.If(at.AddressFamily == AddressFamily.InterNetworkV6 && !Socket.OSSupportsIPv6, "There is no IPv6.");
        using Socket socket = SocketTransportOptions.CreateDefaultBoundListenSocket(at);
        configure(socket);
        return ListenSocketOptions.Read(socket);
    }

    private static EndpointBinding Binding(string endpoint, ListenSocketOptions options) => new(
        IPEndPoint.Parse(endpoint), new TransportSettings(new XdpTransportOptions(), new SocketTransportOptions()),
        System.Threading.Channels.Channel.CreateUnbounded<Microsoft.AspNetCore.Connections.ConnectionContext>().Writer,
        new AcceptBacklog(10), System.Buffers.MemoryPool<byte>.Shared, NullLogger.Instance)
    {
        IPv6Only = options.IPv6Only,
        Tcp = options.Tcp,
    };

    private static void KeepAlive(Socket socket, int idle, int interval, int count)
    {
        Set(socket, SOL_SOCKET, 9, 1);
        Set(socket, IPPROTO_TCP, 4, idle);
        Set(socket, IPPROTO_TCP, 5, interval);
        Set(socket, IPPROTO_TCP, 6, count);
    }

    private static KeepAliveOverride Probes(int idle, int interval, int count) =>
        new(TimeSpan.FromSeconds(idle), TimeSpan.FromSeconds(interval), count);

    private static void Set(Socket socket, int level, int number, int value) =>
        socket.SetRawSocketOption(level, number, BitConverter.GetBytes(value));
}

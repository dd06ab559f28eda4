using System.Net;
using System.Net.Sockets;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Shared;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>
/// What the administrator has set for TCP in the server's network namespace holds over AF_XDP as over sockets, or it is
/// named. A kernel socket in the same namespace shows what is right.
/// </summary>
[Collection(DirectCollection.Name)]
public sealed class SysctlTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output)
{
    private const int XdpPort = 8093, KernelPort = 8094;

    private static readonly byte[] s_answer = new byte[100];

    /// <summary>What a client sees of a connection: of the SYN-ACK, and of the first data.</summary>
    private sealed record Seen(
        int SynAckHops, string SynAckOptions, bool EcnIsGranted, int DataHops, string DataOptions, int DataEcn);

    [SkippableTheory]
    [InlineData("net/ipv4/ip_default_ttl", "33", false)]
    [InlineData("net/ipv6/conf/srv0/hop_limit", "34", true)]
    [InlineData("net/ipv4/tcp_timestamps", "0", false)]
    [InlineData("net/ipv4/tcp_sack", "0", false)]
    [InlineData("net/ipv4/tcp_window_scaling", "0", true)]
    [InlineData("net/ipv4/tcp_ecn", "0", false)]
    public async Task Setting_IsOnTheWire_AsOverSockets(string name, string value, bool isIPv6)
    {
        Lab.Require();
        IPAddress address = isIPv6 ? Lab.ServerIp6 : Lab.ServerIp4;
        // The client asks for ECN.
        using Setting asks = Set(lab.Client, "net/ipv4/tcp_ecn", "1");
        Seen before = await OnXdpAsync(address);
        Assert.Equal(before, await OnKernelAsync(address));
        using Setting setting = Set(lab.Server, name, value);
        Seen kernels = await OnKernelAsync(address);
        Assert.NotEqual(before, kernels);
        Assert.Equal(kernels, await OnXdpAsync(address));
    }

    /// <summary>SO_KEEPALIVE alone: the times are the namespace's.</summary>
    [SkippableFact]
    public async Task KeepAliveTime_IsTheNamespaces()
    {
        Lab.Require();
        using Setting setting = Set(lab.Server, "net/ipv4/tcp_keepalive_time", "1");
        await using TransportHost host = Start(
            IPAddress.Any, static socket => socket.SetSocketOption(
                SocketOptionLevel.Socket, SocketOptionName.KeepAlive, true));
        using Socket client = await lab.Client.ConnectAsync(new IPEndPoint(Lab.ServerIp4, XdpPort));
        Assert.True(await host.AcceptedOnXdpAsync());
        IXdpConnectionFeature connection = host.Last.Features.Get<IXdpConnectionFeature>()!;
        long before = connection.GetTcpInfo().SegmentsOut;
        await Eventually.TrueAsync(
            () => connection.GetTcpInfo().SegmentsOut > before, () => "The idle peer is not probed.");
    }

    [SkippableFact]
    public async Task SettingThatIsNotObeyed_IsNamedOnce()
    {
        const string Line = "net.ipv4.tcp_notsent_lowat=16384, net.ipv4.tcp_retries1=5";
        Lab.Require();
        using Setting first = Set(lab.Server, "net/ipv4/tcp_notsent_lowat", "16384");
        using Setting second = Set(lab.Server, "net/ipv4/tcp_retries1", "5");
        await using TransportHost host = Start(IPAddress.Any);
        await host.LineAsync("Information", Line);
        host.Bind(new IPEndPoint(IPAddress.Any, KernelPort));
        Assert.Single(host.Lines, line => line.Contains("tcp_notsent_lowat", StringComparison.Ordinal));
        Output.WriteLine(string.Join('\n', host.Lines));
    }

    private async Task<Seen> OnXdpAsync(IPAddress address)
    {
        await using TransportHost host = Start(address);
        return await LookAsync(new IPEndPoint(address, XdpPort), async () =>
        {
            Assert.True(await host.AcceptedOnXdpAsync());
            await host.Last.Transport.Output.WriteAsync(s_answer);
        });
    }

    private async Task<Seen> OnKernelAsync(IPAddress address)
    {
        using Socket listener = lab.Server.NewSocket(address.AddressFamily);
        listener.Bind(new IPEndPoint(address, KernelPort));
        listener.Listen();
        Socket? accepted = null;
        try
        {
            return await LookAsync(new IPEndPoint(address, KernelPort), async () =>
            {
                accepted = await listener.AcceptAsync();
                await accepted.SendAsync(s_answer);
            });
        }
        finally
        {
            accepted?.Dispose();
        }
    }

    private async Task<Seen> LookAsync(IPEndPoint server, Func<Task> answer)
    {
        using var capture = new Capture(lab.Client, server.Port);
        using Socket client = await lab.Client.ConnectAsync(server);
        await answer();
        Captured synAck = await capture.NextAsync(Captured.Syn | Captured.Ack);
        Captured data = await capture.NextAsync(Captured.Psh | Captured.Ack);
        return new Seen(
            synAck.Hops, synAck.Options, (synAck.Flags & Captured.Ece) != 0, data.Hops, data.Options, data.Ecn);
    }

    private TransportHost Start(IPAddress address, Action<Socket>? prepare = null)
    {
        var host = new TransportHost(
            lab.Server,
            options =>
            {
                options.Interfaces.Add(Lab.Interface);
                options.Required = true;
            },
            prepare);
        host.Bind(new IPEndPoint(address, XdpPort));
        return host;
    }

    private static Setting Set(Namespace at, string name, string value) => new(at, name, value);

    /// <summary>A setting that is as it was once this is disposed.</summary>
    private sealed class Setting : IDisposable
    {
        private readonly Namespace _at;
        private readonly string _name, _before;

        internal Setting(Namespace at, string name, string value)
        {
            (_at, _name, _before) = (at, name, at.Get(name));
            at.Set(name, value);
        }

        public void Dispose() => _at.Set(_name, _before);
    }
}

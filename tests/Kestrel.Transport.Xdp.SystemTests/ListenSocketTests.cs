using System.Net;
using System.Net.Sockets;
using System.Text;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Shared;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>
/// What an application sets on its listening socket holds for the connections over AF_XDP, or sockets serve.
/// </summary>
[Collection(RouterCollection.Name)]
public sealed class ListenSocketTests(RouterLab lab)
{
    private const int Port = 8090;

    // Levels of socket options, with their Linux names.
    private const int SOL_SOCKET = 1, IPPROTO_TCP = 6;

    private static readonly IPAddress s_clientSide = RouterLab.ClientSideIp4;
    private static readonly IPAddress s_serverSide = IPAddress.Parse("10.77.0.254");

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task IPv6Only_DecidesWhoseIPv4Is(bool only)
    {
        Lab.Require();
        await using TransportHost server = Host(lab.Server, [Lab.Interface], socket => socket.DualMode = !only);
        using Socket other = lab.Server.NewSocket(AddressFamily.InterNetwork);
        if (only)
        {
            other.Bind(new IPEndPoint(IPAddress.Any, Port));
            other.Listen();
        }
        server.Bind(new IPEndPoint(IPAddress.IPv6Any, Port));

        using Socket six = await lab.Client.ConnectAsync(new IPEndPoint(Lab.ServerIp6, Port));
        Assert.True(await server.AcceptedOnXdpAsync());
        using Socket four = await lab.Client.ConnectAsync(new IPEndPoint(Lab.ServerIp4, Port));
        if (!only)
        {
            Assert.True(await server.AcceptedOnXdpAsync());
            return;
        }
        Task<bool> taken = server.AcceptedOnXdpAsync();
        Task<Socket> accepted = other.AcceptAsync();
        Assert.Same(accepted, await Task.WhenAny(accepted, taken).WaitAsync(Command.Limit));
        (await accepted).Dispose();
    }

    [SkippableFact]
    public async Task BoundToDevice_OtherInterfacesAreNotServed()
    {
        Lab.Require();
        await using TransportHost server = Host(
            lab.Router, RouterLab.Interfaces,
            socket => socket.SetRawSocketOption(SOL_SOCKET, 25, Encoding.ASCII.GetBytes("rtc0"))); // SO_BINDTODEVICE
        server.Bind(new IPEndPoint(IPAddress.Any, Port));

        using Socket client = await lab.Client.ConnectAsync(new IPEndPoint(s_clientSide, Port));
        Assert.True(await server.AcceptedOnXdpAsync());
        var refused = await Assert.ThrowsAsync<SocketException>(
            () => lab.Server.ConnectAsync(new IPEndPoint(s_serverSide, Port)));
        Assert.Equal(SocketError.ConnectionRefused, refused.SocketErrorCode);
    }

    [SkippableFact]
    public async Task OptionThatOnlySocketsHave_SocketsServe_AndTheLineNamesIt()
    {
        Lab.Require();
        await using TransportHost server = Host(lab.Server, [Lab.Interface], MaximumSegment, required: false);
        server.Bind(new IPEndPoint(IPAddress.Any, Port));
        using Socket client = await lab.Client.ConnectAsync(new IPEndPoint(Lab.ServerIp4, Port));
        Assert.False(await server.AcceptedOnXdpAsync());
        Assert.Contains("served by sockets", Assert.Single(server.Warnings), StringComparison.Ordinal);
        Assert.Contains("TCP_MAXSEG", Assert.Single(server.Warnings), StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task OptionThatOnlySocketsHave_Required_TheStartFails()
    {
        Lab.Require();
        await using TransportHost server = Host(lab.Server, [Lab.Interface], MaximumSegment);
        var error = Assert.Throws<XdpUnavailableException>(
            () => server.Bind(new IPEndPoint(IPAddress.Any, Port)));
        Assert.Contains("TCP_MAXSEG", error.Message, StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task KeepAlive_ProbesTheIdlePeer()
    {
        Lab.Require();
        await using TransportHost server = Host(lab.Server, [Lab.Interface], socket =>
        {
            Set(socket, SOL_SOCKET, 9, 1); // SO_KEEPALIVE
            Set(socket, IPPROTO_TCP, 4, 1); // TCP_KEEPIDLE
            Set(socket, IPPROTO_TCP, 5, 1); // TCP_KEEPINTVL
        });
        server.Bind(new IPEndPoint(IPAddress.Any, Port));
        using Socket client = await lab.Client.ConnectAsync(new IPEndPoint(Lab.ServerIp4, Port));
        Assert.True(await server.AcceptedOnXdpAsync());
        IXdpConnectionFeature connection = server.Last.Features.Get<IXdpConnectionFeature>()!;
        long before = connection.GetTcpInfo().SegmentsOut;
        // Nobody writes.
        await Eventually.TrueAsync(
            () => connection.GetTcpInfo().SegmentsOut >= before + 2, () => "The idle peer is not probed.");
    }

    // TCP_MAXSEG
    private static void MaximumSegment(Socket socket) => Set(socket, IPPROTO_TCP, 2, 1000);

    private static void Set(Socket socket, int level, int number, int value) =>
        socket.SetRawSocketOption(level, number, BitConverter.GetBytes(value));

    private static TransportHost Host(
        Namespace at, string[] interfaces, Action<Socket> prepare, bool required = true) => new(
        at,
        options =>
        {
            options.Required = required;
            foreach (string name in interfaces)
                options.Interfaces.Add(name);
        },
        prepare);
}

using System.Buffers;
using System.Buffers.Binary;
using System.Globalization;
using System.IO.Pipelines;
using System.Net;
using System.Net.Sockets;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Microsoft.AspNetCore.Connections;
using Shared;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>
/// The kernel's tables decide who may connect, and which way answers go: as with sockets, and followed while
/// connections live. The client has addresses that the server reaches by two gateways, which are itself under other
/// MAC addresses, or over a second link that is not served.
/// </summary>
public sealed class RouteTests(RouteTests.RouteLab lab, ITestOutputHelper output)
    : SystemTest(output), IClassFixture<RouteTests.RouteLab>, IAsyncLifetime
{
    private const int Port = 8080;
    private const string OtherInterface = "srv1";

    private static readonly TimeSpan s_silence = TimeSpan.FromMilliseconds(700);
    private static readonly IPAddress s_far4 = IPAddress.Parse("192.0.2.7"), s_far6 = IPAddress.Parse("2001:db8::7");

    private static readonly (string Name, string IPv4, string IPv6, string Mac)[] s_gateways =
    [
        ("gw0", "10.77.0.100", "fd77::100", "02:00:00:00:00:a0"),
        ("gw1", "10.77.0.101", "fd77::101", "02:00:00:00:00:a1"),
    ];

    public sealed class RouteLab() : Lab("direct", links: 2);

    public async Task InitializeAsync()
    {
        if (Requirements.MissingForLab is not null)
            return;
        await lab.Client.IpAsync($"addr replace {s_far4} dev lo");
        await lab.Client.IpAsync($"addr replace {s_far6} dev lo");
        foreach (var (name, ip4, ip6, mac) in s_gateways)
        {
            await lab.Client.IpAsync($"link add {name} link {Lab.ClientInterface} address {mac} type macvlan");
            await lab.Client.IpAsync($"link set {name} up");
            await lab.Server.IpAsync($"neigh replace {ip4} lladdr {mac} dev {Lab.Interface} nud permanent");
            await lab.Server.IpAsync($"neigh replace {ip6} lladdr {mac} dev {Lab.Interface} nud permanent");
        }
    }

    public async Task DisposeAsync()
    {
        if (Requirements.MissingForLab is not null)
            return;
        foreach (var (name, ip4, ip6, _) in s_gateways)
        {
            await lab.Client.IpAsync($"link del {name}");
            await lab.Server.RunAsync("ip", "neigh", "del", ip4, "dev", Lab.Interface);
            await lab.Server.RunAsync("ip", "neigh", "del", ip6, "dev", Lab.Interface);
        }
        await lab.Server.RunAsync("ip", "route", "flush", "root", "192.0.2.0/24");
        await lab.Server.RunAsync("ip", "-6", "route", "flush", "root", "2001:db8::/32");
        await lab.Client.ForgetTimeWaitsAsync();
    }

    /// <summary>Who serves a peer.</summary>
    public enum By
    {
        Nobody,
        Xdp,

        /// <summary>Answers leave by an interface that is not served.</summary>
        Companion,
    }

    /// <summary>What the socket transport does is what is wanted.</summary>
    [SkippableTheory]
    [InlineData("192.0.2.7", By.Xdp, "route add 192.0.2.0/24 via 10.77.0.100")]
    [InlineData("2001:db8::7", By.Xdp, "-6 route add 2001:db8::/32 via fd77::100")]
    [InlineData("192.0.2.7", By.Xdp, "route add 192.0.2.0/24 via inet6 fd77::100 dev srv0")]
    [InlineData("192.0.2.7", By.Nobody)]
    [InlineData("192.0.2.7", By.Nobody, "route add unreachable 192.0.2.0/24")]
    [InlineData("192.0.2.7", By.Nobody, "route add prohibit 192.0.2.0/24")]
    [InlineData("192.0.2.7", By.Nobody, "route add blackhole 192.0.2.0/24")]
    [InlineData("2001:db8::7", By.Nobody, "-6 route add unreachable 2001:db8::/32")]
    [InlineData("192.0.2.7", By.Companion, "route add 192.0.2.0/24 via 10.77.2.2")]
    [InlineData("192.0.2.7", By.Xdp, "route add 192.0.2.0/24 via 10.77.0.100", "rp_filter 1")]
    [InlineData("192.0.2.7", By.Nobody, "route add 192.0.2.0/24 dev srv1", "rp_filter 1")]
    [InlineData("192.0.2.7", By.Xdp, "route add 192.0.2.7/32 via 10.77.0.100", "route add unreachable 192.0.2.0/24")]
    [InlineData("192.0.2.7", By.Nobody, "route add 192.0.2.0/24 via 10.77.0.100", "rule add to 192.0.2.7 prohibit")]
    [InlineData("192.0.2.7", By.Xdp, "route add 192.0.2.0/24 via 10.77.0.101 table 7", "rule add sport 8080 lookup 7")]
    [InlineData("10.77.0.9", By.Nobody, "addr add 10.77.0.9/32 dev srv0")]
    [InlineData("10.78.0.255", By.Nobody, "addr add 10.78.0.1/24 dev srv0")]
    [InlineData("10.77.0.0", By.Xdp)]
    [InlineData("10.77.2.1", By.Nobody)]
    public async Task Peer_IsServed_AsWithSockets(string source, By served, params string[] setting)
    {
        Lab.Require();
        var client = IPAddress.Parse(source);
        await lab.Client.IpAsync($"addr replace {client} dev lo");
        try
        {
            foreach (string command in setting)
                await ApplyAsync(command);
            using (Socket listener = Listen())
                Assert.Equal(served != By.Nobody, await ConnectsAsync(client));
            await using TransportHost host = Bind();
            Assert.Equal(served != By.Nobody, await ConnectsAsync(client));
            if (served != By.Nobody)
                Assert.Equal(served == By.Xdp, await host.AcceptedOnXdpAsync());
        }
        finally
        {
            foreach (string command in setting.Reverse())
                await UndoAsync(command);
            if (!client.Equals(s_far4) && !client.Equals(s_far6))
                await lab.Client.RunAsync("ip", "addr", "del", $"{client}", "dev", "lo");
        }
    }

    [SkippableTheory]
    [InlineData("192.0.2.7", "192.0.2.0/24")]
    [InlineData("2001:db8::7", "2001:db8::/32")]
    public async Task Answers_GoByTheRoute_AndFollowIt_AndItsNeighbour(string source, string prefix)
    {
        Lab.Require();
        var client = IPAddress.Parse(source);
        bool isIPv4 = client.AddressFamily == AddressFamily.InterNetwork;
        string[] hops = [.. s_gateways.Select(gateway => isIPv4 ? gateway.IPv4 : gateway.IPv6)];
        await lab.Server.IpAsync($"route replace {prefix} via {hops[0]}");
        await using TransportHost host = Bind();
        using Socket socket = await ConnectOnXdpAsync(host, client);
        await AssertThroughAsync(gateway: 0, socket, host);

        await lab.Server.IpAsync($"route replace {prefix} via {hops[1]}");
        await AssertThroughAsync(gateway: 1, socket, host);

        await lab.Server.IpAsync(
            $"neigh replace {hops[1]} lladdr {s_gateways[0].Mac} dev {Lab.Interface} nud permanent");
        await AssertThroughAsync(gateway: 0, socket, host);

        // A longer prefix takes some of the peers out of the other's.
        await lab.Server.IpAsync(
            $"neigh replace {hops[1]} lladdr {s_gateways[1].Mac} dev {Lab.Interface} nud permanent");
        await lab.Server.IpAsync($"route replace {source} via {hops[0]}");
        await AssertThroughAsync(gateway: 0, socket, host);
        await lab.Server.IpAsync($"route del {source} via {hops[0]}");
        await AssertThroughAsync(gateway: 1, socket, host);
    }

    /// <summary>The next hop has to be resolved first.</summary>
    [SkippableFact]
    public async Task NeighbourThatIsNotKnown_IsResolved_AndThePeerServed()
    {
        Lab.Require();
        string mac = await MacAsync(lab.Server, Lab.Interface);
        await lab.Client.IpAsync($"neigh replace {Lab.ServerIp4} lladdr {mac} dev {Lab.ClientInterface} nud permanent");
        try
        {
            await lab.Server.IpAsync("route replace 192.0.2.0/24 via 10.77.0.2");
            await using TransportHost host = Bind();
            await lab.Server.IpAsync($"neigh flush dev {Lab.Interface} nud all to 10.77.0.2");
            using Socket socket = await ConnectOnXdpAsync(host, s_far4);
            await EchoAsync(socket, host);
        }
        finally
        {
            await lab.Client.IpAsync($"neigh del {Lab.ServerIp4} dev {Lab.ClientInterface}");
        }
    }

    [SkippableTheory]
    [InlineData("mtu 1000", 960)]
    [InlineData("mtu lock 1200", 1160)]
    [InlineData("advmss 700", 700)]
    public async Task MtuAndMssOfTheRoute_Hold_AsWithSockets(string metric, int mss)
    {
        Lab.Require();
        await lab.Server.IpAsync($"route replace 192.0.2.0/24 via 10.77.0.100 {metric}");
        // What the client may send: less the timestamps.
        using (Socket listener = Listen())
        {
            using Socket plain = await ConnectAsync(s_far4);
            Assert.Equal(mss - 12, MaxSegment(plain));
        }
        await using TransportHost host = Bind();
        using Socket socket = await ConnectOnXdpAsync(host, s_far4);
        Assert.Equal(mss - 12, MaxSegment(socket));
        await EchoAsync(socket, host, bytes: 20_000);
    }

    [SkippableFact]
    public async Task MtuOfTheRoute_ThatChanges_IsFollowed()
    {
        Lab.Require();
        await lab.Server.IpAsync("route replace 192.0.2.0/24 via 10.77.0.100");
        await using TransportHost host = Bind();
        using Socket socket = await ConnectOnXdpAsync(host, s_far4);
        await lab.Server.IpAsync("route replace 192.0.2.0/24 via 10.77.0.100 mtu 900");
        using var capture = new Capture(lab.Client, Port);
        await Eventually.TrueAsync(
            async () =>
            {
                await EchoAsync(socket, host, bytes: 4_000);
                int longest = 0;
                for (int total = 0; total < 4_000;)
                {
                    Captured segment = await capture.NextAsync();
                    total += segment.PayloadLength;
                    longest = Math.Max(longest, segment.PayloadLength);
                }
                return longest == 900 - 40 - 12;
            },
            () => "Segments do not fit the route.");
    }

    /// <summary>
    /// The way back changes to an interface that is not served, and to this one again. The kernel sends meanwhile.
    /// </summary>
    [SkippableTheory]
    [InlineData("192.0.2.7", "10.77.2.2")]
    [InlineData("2001:db8::7", "fd77:0:0:2::2")]
    public async Task WayBackThatMovesToAnotherInterface_IsTaken(string source, string otherHop)
    {
        Lab.Require();
        var client = IPAddress.Parse(source);
        string hop = client.AddressFamily == AddressFamily.InterNetwork ? s_gateways[0].IPv4 : s_gateways[0].IPv6;
        await lab.Server.IpAsync($"route replace {source} via {hop}");
        await using TransportHost host = Bind();
        using Socket socket = await ConnectOnXdpAsync(host, client);
        await EchoAsync(socket, host, bytes: 50_000);
        await lab.Server.IpAsync($"route replace {source} via {otherHop}");
        await AssertByTheOtherInterfaceAsync(socket, host);
        await lab.Server.IpAsync($"route replace {source} via {hop}");
        await AssertThroughAsync(gateway: 0, socket, host);
    }

    /// <summary>Such a route is not in the table that all look at.</summary>
    [SkippableFact]
    public async Task WayBackThatARuleMovesToAnotherInterface_IsTaken()
    {
        Lab.Require();
        await lab.Server.IpAsync("route replace 192.0.2.0/24 via 10.77.0.100");
        await using TransportHost host = Bind();
        using Socket socket = await ConnectOnXdpAsync(host, s_far4);
        await lab.Server.IpAsync("route add 192.0.2.0/24 via 10.77.2.2 table 7");
        await lab.Server.IpAsync($"rule add from {Lab.ServerIp4} lookup 7");
        try
        {
            await AssertByTheOtherInterfaceAsync(socket, host);
        }
        finally
        {
            await lab.Server.IpAsync($"rule del from {Lab.ServerIp4} lookup 7");
            await lab.Server.IpAsync("route flush table 7");
        }
        await AssertThroughAsync(gateway: 0, socket, host);
    }

    /// <summary>What is told while it runs, with the socket transport's answer to it as above.</summary>
    [SkippableTheory]
    [InlineData("route replace 192.0.2.0/24 via 10.77.0.100", "route replace unreachable 192.0.2.0/24", By.Nobody)]
    [InlineData("route replace 192.0.2.0/24 via 10.77.0.100", "route replace 192.0.2.0/24 via 10.77.2.2", By.Companion)]
    [InlineData("route replace 192.0.2.0/24 via 10.77.2.2", "route replace 192.0.2.0/24 via 10.77.0.100", By.Xdp)]
    [InlineData("route replace unreachable 192.0.2.0/24", "route replace 192.0.2.0/24 via 10.77.0.100", By.Xdp)]
    [InlineData("route replace 192.0.2.0/24 via 10.77.0.100", "rp_filter 1", By.Xdp)]
    public async Task WhoServes_FollowsChanges(string before, string after, By then)
    {
        Lab.Require();
        await ApplyAsync(before);
        await using TransportHost host = Bind();
        if (await ConnectsAsync(s_far4))
            await host.AcceptedOnXdpAsync();
        await ApplyAsync(after);
        try
        {
            By served = default;
            await Eventually.TrueAsync(
                async () =>
                {
                    served = !await ConnectsAsync(s_far4) ? By.Nobody
                        : await host.AcceptedOnXdpAsync() ? By.Xdp
                        : By.Companion;
                    return served == then;
                },
                () => $"The peer is served by {served}.");
        }
        finally
        {
            lab.Server.Set($"net/ipv4/conf/{Lab.Interface}/rp_filter", "0");
        }
    }

    /// <summary>
    /// A router's word about one peer is not for all that the same route leads to.
    /// </summary>
    [SkippableFact]
    public async Task PathMtuOfOnePeer_IsNotThatOfItsRoute()
    {
        Lab.Require();
        await lab.Server.IpAsync("route replace 192.0.2.0/24 via 10.77.0.100");
        var other = IPAddress.Parse("192.0.2.10");
        await lab.Client.IpAsync($"addr replace {other} dev lo");
        lab.Client.Enter(() => TellPathMtu(s_far4, 600));
        string told = (await lab.Server.RunAsync("ip", "route", "get", $"{s_far4}")).Succeeded();
        Assert.Contains("mtu 600", told, StringComparison.Ordinal);
        await using TransportHost host = Bind();
        foreach (IPAddress client in (IPAddress[])[s_far4, other])
        {
            using Socket socket = await ConnectOnXdpAsync(host, client);
            Assert.Equal(1460 - 12, MaxSegment(socket));
        }
    }

    /// <summary>Endpoints that were steered whole have to leave the companion's flows to the kernel again.</summary>
    [SkippableFact]
    public async Task PeersOfTheOtherInterface_AreTheCompanions_AlsoWhenAllWasSteered()
    {
        Lab.Require();
        await lab.Server.IpAsync("route replace 192.0.2.7 via 10.77.0.100");
        await lab.Server.IpAsync("route replace 192.0.2.8/29 via 10.77.2.2");
        var other = IPAddress.Parse("192.0.2.9");
        await lab.Client.IpAsync($"addr replace {other} dev lo");
        await using TransportHost host = Bind();
        using Socket first = await ConnectOnXdpAsync(host, s_far4);
        await host.SteeredAsync(Port);
        for (int i = 0; i < 3; i++)
        {
            using Socket socket = await ConnectAsync(other);
            Assert.False(await host.AcceptedOnXdpAsync());
            await EchoAsync(socket, host, bytes: 10_000);
        }
        using Socket again = await ConnectOnXdpAsync(host, s_far4);
        await EchoAsync(again, host);
    }

    /// <summary>
    /// As where two interfaces are on one network, and the client's ARP entry moves from one to the other. Answers go
    /// by the route all the time.
    /// </summary>
    [SkippableFact]
    public async Task FlowThatComesInByAnotherInterface_GoesOn_AndNewOnesAreServed()
    {
        Lab.Require();
        await lab.Server.IpAsync("route replace 192.0.2.0/24 via 10.77.0.100");
        await using TransportHost host = Bind(OtherInterface);
        using Socket before = await ConnectOnXdpAsync(host, s_far4);
        await EchoAsync(before, host, bytes: 50_000);
        ConnectionContext first = host.Last;
        await lab.Client.IpAsync($"route replace {Lab.ServerIp4} via 10.77.2.1 dev cli1");
        try
        {
            // The program of the other interface learns of this one's addresses a moment after it has begun.
            await Eventually.TrueAsync(() => ConnectsAsync(s_far4), () => "Nobody can connect.");
            Assert.True(await host.AcceptedOnXdpAsync());
            for (int i = 0; i < 20; i++)
            {
                using Socket socket = await ConnectOnXdpAsync(host, s_far4);
                await EchoAsync(socket, host, bytes: 50_000);
            }
            await EchoAsync(before, first, bytes: 50_000);
        }
        finally
        {
            await lab.Client.IpAsync($"route del {Lab.ServerIp4} via 10.77.2.1 dev cli1");
        }
        await EchoAsync(before, first, bytes: 50_000);
    }

    private TransportHost Bind(params string[] others)
    {
        var host = new TransportHost(lab.Server, options =>
        {
            foreach (string name in (string[])[Lab.Interface, .. others])
                options.Interfaces.Add(name);
        });
        host.Bind(new IPEndPoint(IPAddress.IPv6Any, Port));
        return host;
    }

    private async Task<Socket> ConnectOnXdpAsync(TransportHost host, IPAddress source)
    {
        Socket socket = await ConnectAsync(source);
        Assert.True(await host.AcceptedOnXdpAsync());
        return socket;
    }

    // The kernel's own.
    private Socket Listen() => lab.Server.Enter(static () =>
    {
        var listener = new Socket(SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.IPv6Any, Port));
        listener.Listen();
        return listener;
    });

    private async Task<bool> ConnectsAsync(IPAddress source)
    {
        try
        {
            (await ConnectAsync(source)).Dispose();
            return true;
        }
        catch (Exception e) when (e is SocketException or OperationCanceledException)
        {
            return false;
        }
    }

    private async Task<Socket> ConnectAsync(IPAddress source)
    {
        IPAddress server = source.AddressFamily == AddressFamily.InterNetwork ? Lab.ServerIp4 : Lab.ServerIp6;
        using var limit = new CancellationTokenSource(s_silence);
        return await lab.Client.ConnectAsync(
            new IPEndPoint(server, Port), limit.Token, socket => socket.Bind(new IPEndPoint(source, 0)));
    }

    private async Task ApplyAsync(string setting)
    {
        if (setting.StartsWith("rp_filter ", StringComparison.Ordinal))
            lab.Server.Set($"net/ipv4/conf/{Lab.Interface}/rp_filter", setting["rp_filter ".Length..]);
        else
            await lab.Server.IpAsync(setting);
    }

    private async Task UndoAsync(string setting)
    {
        if (setting.StartsWith("rp_filter ", StringComparison.Ordinal))
            lab.Server.Set($"net/ipv4/conf/{Lab.Interface}/rp_filter", "0");
        else
            await lab.Server.IpAsync(setting.Replace(" add ", " del ", StringComparison.Ordinal));
    }

    private Task AssertByTheOtherInterfaceAsync(Socket socket, TransportHost host) => Eventually.TrueAsync(
        async () =>
        {
            long before = Received("cli1");
            await EchoAsync(socket, host, bytes: 50_000);
            return Received("cli1") - before >= 50_000 / 1500;
        },
        () => "Answers do not leave by the other interface.");

    // Traffic until that gateway alone has it: the kernel has told of the change then, and all has been read.
    private Task AssertThroughAsync(int gateway, Socket socket, TransportHost host) => Eventually.TrueAsync(
        async () =>
        {
            long[] before = [.. s_gateways.Select(g => Received(g.Name))];
            for (int i = 0; i < 5; i++)
                await EchoAsync(socket, host);
            long[] got = [.. s_gateways.Select((g, i) => Received(g.Name) - before[i])];
            return got[gateway] >= 5 && got[1 - gateway] == 0;
        },
        () => $"Answers do not go through gateway {gateway}.");

    private long Received(string device) => lab.Client.Enter(() => File.ReadLines("/proc/thread-self/net/dev")
        .Select(static line => line.Split((char[])[' ', ':'], StringSplitOptions.RemoveEmptyEntries))
        .Where(fields => fields[0] == device)
        .Select(static fields => long.Parse(fields[2], CultureInfo.InvariantCulture)).Single());

    // As a router would that has a packet from the server to the peer: an answer to a ping.
    private static int TellPathMtu(IPAddress peer, int mtu)
    {
        byte[] icmp = new byte[8 + 20 + 8];
        (icmp[0], icmp[1]) = (3, 4);
        BinaryPrimitives.WriteUInt16BigEndian(icmp.AsSpan(6), (ushort)mtu);
        Span<byte> quote = icmp.AsSpan(8);
        (quote[0], quote[3], quote[8], quote[9]) = (0x45, 28, 64, 1);
        Lab.ServerIp4.TryWriteBytes(quote[12..], out _);
        peer.TryWriteBytes(quote[16..], out _);
        uint sum = 0;
        for (int i = 0; i < icmp.Length; i += 2)
            sum += BinaryPrimitives.ReadUInt16BigEndian(icmp.AsSpan(i));
        sum = (sum & 0xffff) + (sum >> 16);
        BinaryPrimitives.WriteUInt16BigEndian(icmp.AsSpan(2), (ushort)~(sum + (sum >> 16)));
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Raw, ProtocolType.Icmp);
        return socket.SendTo(icmp, new IPEndPoint(Lab.ServerIp4, 0));
    }

    private static async Task<string> MacAsync(Namespace at, string device) =>
        (await at.RunAsync("cat", $"/sys/class/net/{device}/address")).Succeeded().Trim();

    // TCP_MAXSEG.
    private static int MaxSegment(Socket socket)
    {
        byte[] value = new byte[4];
        socket.GetRawSocketOption(6, 2, value);
        return BitConverter.ToInt32(value);
    }

    private static Task EchoAsync(Socket socket, TransportHost host, int bytes = 100) =>
        EchoAsync(socket, host.Last, bytes);

    private static async Task EchoAsync(Socket socket, ConnectionContext connection, int bytes)
    {
        byte[] sent = new byte[bytes], answer = new byte[bytes];
        Random.Shared.NextBytes(sent);
        await socket.SendAsync(sent).WaitAsync(Command.Limit);
        ReadResult read = await connection.Transport.Input.ReadAtLeastAsync(bytes).AsTask().WaitAsync(Command.Limit);
        foreach (ReadOnlyMemory<byte> part in read.Buffer)
            await connection.Transport.Output.WriteAsync(part);
        connection.Transport.Input.AdvanceTo(read.Buffer.End);
        for (int got = 0; got < bytes;)
            got += await socket.ReceiveAsync(answer.AsMemory(got)).AsTask().WaitAsync(Command.Limit);
        Assert.Equal(sent, answer);
    }
}

using System.Globalization;
using System.Net.Sockets;
using System.Text;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>
/// A connection for each request, and more of them than there are ports. TIME-WAIT lasts a minute; within it every port
/// comes round several times, and each time its SYN must open a new connection (RFC 6191).
/// </summary>
[Collection(DirectCollection.Name)]
public sealed class ConnectionChurnTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output)
{
    private const int Connections = 60_000;
    private const int Clients = 4;

    private const string PortRange = "net/ipv4/ip_local_port_range";
    private const string TimeWaitReuse = "net/ipv4/tcp_tw_reuse";

    /// <summary>TIME-WAIT is the server's.</summary>
    [SkippableFact]
    public Task ServerClosesFirst_60000ConnectionsFromFewPorts_AreAllServed() => ChurnAsync(serverClosesFirst: true);

    /// <summary>TIME-WAIT is the client's, whose kernel reuses a port after a second.</summary>
    [SkippableFact]
    public Task ClientClosesFirst_60000ConnectionsFromFewPorts_AreAllServed() => ChurnAsync(serverClosesFirst: false);

    private async Task ChurnAsync(bool serverClosesFirst)
    {
        Lab.Require();
        string ports = lab.Client.Get(PortRange), reuse = lab.Client.Get(TimeWaitReuse);
        try
        {
            // A client can use a port again after a second at the earliest. So it needs as many ports as it opens
            // connections in a second.
            lab.Client.Set(PortRange, serverClosesFirst ? "20000 27999" : "20000 49999");
            lab.Client.Set(TimeWaitReuse, "1");
            await OnXdpAsync(lab, async server =>
            {
                Counters before = await server.CountersAsync();
                await Task.WhenAll(Enumerable.Range(0, Clients)
                    .Select(_ => lab.Client.EnterAsync(() => Churn(server, serverClosesFirst))));
                Counters after = await server.CountersAsync();
                Assert.Equal(Connections, after.Accepted - before.Accepted);
                if (serverClosesFirst)
                    Assert.True(after.TimeWaitReuses > before.TimeWaitReuses, "No port came round within TIME-WAIT.");
            });
        }
        finally
        {
            lab.Client.Set(PortRange, ports);
            lab.Client.Set(TimeWaitReuse, reuse);
        }
    }

    private static int Churn(HelloWebServer server, bool serverClosesFirst)
    {
        byte[] request = Encoding.ASCII.GetBytes(
            $"GET /connection HTTP/1.1\r\nHost: lab\r\n{(serverClosesFirst ? "Connection: close\r\n" : "")}\r\n");
        byte[] buffer = new byte[4096];
        for (int i = 0; i < Connections / Clients; i++)
        {
            using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp)
            {
                NoDelay = true,
                ReceiveTimeout = 30_000,
            };
            string at = string.Create(CultureInfo.InvariantCulture, $"Connection {i} of this client");
            try
            {
                socket.Connect(server.EndPoint);
                at += $", from {socket.LocalEndPoint}";
                socket.Send(request);
                int length = 0;
                while (true)
                {
                    int count = socket.Receive(buffer, length, buffer.Length - length, SocketFlags.None);
                    length += count;
                    if (count == 0 || (!serverClosesFirst && buffer.AsSpan(0, length).EndsWith("\r\n0\r\n\r\n"u8)))
                        break;
                }
                string response = Encoding.ASCII.GetString(buffer, 0, length);
                if (!response.StartsWith("HTTP/1.1 200 ", StringComparison.Ordinal)
                    || !response.EndsWith("\r\n0\r\n\r\n", StringComparison.Ordinal)
                    || !response.Contains("\"transport\":\"xdp\"", StringComparison.Ordinal))
                    Assert.Fail($"{at}: '{response}'");
            }
            catch (SocketException e)
            {
                Assert.Fail($"{at}: {e.SocketErrorCode}");
            }
        }
        return 0;
    }
}

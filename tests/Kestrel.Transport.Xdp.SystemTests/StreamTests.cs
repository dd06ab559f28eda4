using System.Net.WebSockets;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>Connections that stay: WebSockets and server-sent events.</summary>
[Collection(DirectCollection.Name)]
public sealed class StreamTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output)
{
    [SkippableFact]
    public async Task WebSocket_Echo_Returns10000Messages()
    {
        Lab.Require();
        const int Messages = 10_000;
        await OnXdpAsync(lab, async server =>
        {
            using HttpMessageInvoker invoker = new(lab.Client.HttpHandler());
            using var socket = new ClientWebSocket();
            await socket.ConnectAsync(
                new UriBuilder(server.Url("/ws")) { Scheme = "ws" }.Uri, invoker, CancellationToken.None);
            byte[] sent = new byte[4096], received = new byte[sent.Length + 1];
            for (int i = 0; i < Messages; i++)
            {
                int length = 1 + (i * 31 % sent.Length);
                Pattern.Fill(sent.AsSpan(0, length), (ulong)i);
                await socket.SendAsync(
                    sent.AsMemory(0, length), WebSocketMessageType.Binary, endOfMessage: true, CancellationToken.None);
                int count = 0;
                ValueWebSocketReceiveResult result;
                do
                {
                    result = await socket.ReceiveAsync(received.AsMemory(count), CancellationToken.None);
                    count += result.Count;
                }
                while (!result.EndOfMessage);
                Assert.True(
                    received.AsSpan(0, count).SequenceEqual(sent.AsSpan(0, length)), $"Message {i} came back changed.");
            }
            await socket.CloseAsync(WebSocketCloseStatus.NormalClosure, null, CancellationToken.None);
            Assert.Equal(WebSocketState.Closed, socket.State);
        });
    }

    [SkippableFact]
    public async Task ServerSentEvents_ArriveOneByOne()
    {
        Lab.Require();
        const int Events = 200;
        await OnXdpAsync(lab, async server =>
        {
            using HttpClient client = lab.Client.HttpClient();
            (await FactsAsync(client, server.Url("/connection"))).AssertOnXdp();
            using HttpResponseMessage response = await client.GetAsync(
                server.Url($"/sse?count={Events}&interval=1"), HttpCompletionOption.ResponseHeadersRead);
            Assert.Equal("text/event-stream", response.Content.Headers.ContentType?.MediaType);
            using var reader = new StreamReader(await response.Content.ReadAsStreamAsync());
            for (int i = 0; i < Events; i++)
            {
                Assert.Equal("event: tick", await reader.ReadLineAsync());
                Assert.Equal($"data: {i}", await reader.ReadLineAsync());
                Assert.Equal("", await reader.ReadLineAsync());
            }
            Assert.Null(await reader.ReadLineAsync());
        });
    }

    /// <summary>
    /// A router fails over: the way to the client changes and this is announced to the kernel, while only the server
    /// has something to send.
    /// </summary>
    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task ServerSentEvents_NeighbourIsReplaced_FlowOn(bool ipv6)
    {
        const string Device = "cli0", Other = "02:00:5e:10:00:01";
        Lab.Require();
        string mac = (await lab.Client.RunAsync("cat", $"/sys/class/net/{Device}/address")).Succeeded().Trim();
        string announce = ipv6 ? $"net/ipv6/conf/{Device}/ndisc_notify" : $"net/ipv4/conf/{Device}/arp_notify";
        lab.Client.Set(announce, "1");
        try
        {
            await OnXdpAsync(lab, async server =>
            {
                using RawHttp http =
                    await RawHttp.ConnectAsync(lab.Client, server.EndPointFor(ipv6 ? Lab.ServerIp6 : Lab.ServerIp4));
                (await http.FactsAsync()).AssertOnXdp();
                await http.WriteAsync(RawHttp.Get("/sse?interval=2000"));
                await http.ReadHeadAsync();
                Assert.False((await http.ReadSomeAsync()).IsEmpty);
                // Its acknowledgement may be delayed, and would tell of the new way.
                await Task.Delay(300);
                (await lab.Client.RunAsync("ip", "link", "set", "dev", Device, "address", Other)).Succeeded();
                await Eventually.TrueAsync(
                    async () => (await server.CountersAsync()).Sum("kestrel.xdp.connections.redirected") > 0, () =>
                        "The connection was not redirected.");
                Assert.False((await http.ReadSomeAsync()).IsEmpty);
            });
        }
        finally
        {
            (await lab.Client.RunAsync("ip", "link", "set", "dev", Device, "address", mac)).Succeeded();
            lab.Client.Set(announce, "0");
        }
    }

    /// <summary>The client goes in the middle of a stream that would never end; the server must notice.</summary>
    [SkippableFact]
    public async Task ServerSentEvents_ClientLeaves_ConnectionIsGone()
    {
        Lab.Require();
        await OnXdpAsync(lab, async server =>
        {
            using RawHttp http = await RawHttp.ConnectAsync(lab.Client, server.EndPoint);
            (await http.FactsAsync()).AssertOnXdp();
            await http.WriteAsync(RawHttp.Get("/sse?interval=1"));
            await http.ReadHeadAsync();
            Assert.False((await http.ReadSomeAsync()).IsEmpty);
            http.Dispose();
            await Eventually.NullAsync(async () => (await server.CountersAsync()).Connections is var left && left == 0
                ? null
                : $"{left} connections are left.");
        });
    }
}

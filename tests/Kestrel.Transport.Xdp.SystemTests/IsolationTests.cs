using System.Net.WebSockets;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>Frames are recycled between connections; what is in them must not be.</summary>
[Collection(DirectCollection.Name)]
public sealed class IsolationTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output)
{
    private const int Connections = 512;
    private const int Rounds = 4;

    // Every eighth ends with an RST while its last token is under way.
    private const int ResetEvery = 8;

    [SkippableFact]
    public async Task Echo_512ConnectionsWithUniqueTokensAndResets_NeverAForeignByte()
    {
        Lab.Require();
        await OnXdpAsync(lab, async server =>
        {
            await Task.WhenAll(Enumerable.Range(0, Connections).Select(i => EchoAsync(server, i)));
            using HttpClient client = lab.Client.HttpClient();
            (await FactsAsync(client, server.Url("/connection"))).AssertOnXdp();
        });
    }

    private async Task EchoAsync(HelloWebServer server, int connection)
    {
        using RawHttp http = await RawHttp.ConnectAsync(lab.Client, server.EndPoint);
        await http.WriteAsync(
            "GET /ws HTTP/1.1\r\nHost: lab\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n");
        await http.ReadHeadAsync("101");
        using WebSocket socket = WebSocket.CreateFromStream(
            new System.Net.Sockets.NetworkStream(http.Socket), isServer: false, null, Timeout.InfiniteTimeSpan);
        for (int round = 0; round < Rounds; round++)
        {
            // Ten frames and more, and no multiple of their size.
            byte[] token = new byte[15_000 + (connection * 29) + round];
            Pattern.Fill(token, ((ulong)connection << 8) + (ulong)round);
            bool last = connection % ResetEvery == 0 && round == Rounds - 1;
            Task sending =
                socket.SendAsync(token, WebSocketMessageType.Binary, endOfMessage: true, CancellationToken.None);
            await ReceiveAsync(socket, token, last ? token.Length / 3 : token.Length, connection);
            if (last)
            {
                http.Socket.LingerState = new System.Net.Sockets.LingerOption(true, 0);
                http.Socket.Dispose();
                await sending.ContinueWith(
                    static _ => { }, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously,
                    TaskScheduler.Default);
                return;
            }
            await sending;
        }
        await socket.CloseAsync(WebSocketCloseStatus.NormalClosure, null, CancellationToken.None);
    }

    private static async Task ReceiveAsync(WebSocket socket, byte[] token, int atLeast, int connection)
    {
        byte[] buffer = new byte[8192];
        for (int at = 0; at < atLeast;)
        {
            ValueWebSocketReceiveResult result = await socket.ReceiveAsync(buffer.AsMemory(), CancellationToken.None);
            Assert.Equal(WebSocketMessageType.Binary, result.MessageType);
            Assert.True(at + result.Count <= token.Length
                && buffer.AsSpan(0, result.Count).SequenceEqual(token.AsSpan(at, result.Count)),
                $"Connection {connection} got bytes at {at} that it did not send.");
            at += result.Count;
        }
    }
}

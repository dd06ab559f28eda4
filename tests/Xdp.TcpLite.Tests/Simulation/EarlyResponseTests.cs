namespace Xdp.TcpLite.Tests.Simulation;

/// <summary>
/// A server that answers as soon as an upload begins, and closes, as a web server does with 413. The clients never end
/// their uploads. Each must have the whole response all the same, and the server must be rid of each in time.
/// </summary>
public class EarlyResponseTests
{
    private const int Response = 100_000;
    private const int ClientKey = 1;
    private const int ServerKey = 2;

    private static readonly TcpStackOptions s_server = new() { AfterCloseBytes = 1 << 20 };

    private readonly Dictionary<TcpConnection, SimApplication> _clients = [];
    private readonly HashSet<TcpConnection> _answered = [];

    [Theory]
    [InlineData(0, false)]
    [InlineData(0.03, false)]
    [InlineData(0.03, true)]
    public void EndlessUploads_TheResponseArrivesAndTheConnectionsEnd(double loss, bool ipv6)
    {
        const int count = 20;
        var network = new Network(seed: 5, new LinkOptions { Loss = loss }, server: s_server, ipv6: ipv6);
        for (int i = 0; i < count; i++)
        {
            TcpConnection connection = network.Connect((ushort)(40_000 + i));
            _clients.Add(connection, new SimApplication(network.Client, connection, ClientKey, ServerKey, long.MaxValue)
            {
                SendBuffer = 256 << 10,
            });
        }
        Instant start = network.Now;
        bool done = network.Run(
            () =>
            {
                Step(network);
                return _clients.Values.All(client => client.Closed) && network.Server.Stack.ConnectionCount == 0;
            },
            limit: TimeSpan.FromMinutes(2));
        Assert.True(done, "the connections do not end");
        Assert.All(_clients.Values, client => Assert.Equal(Response, client.Received));
        Assert.Equal(count, network.Server.Stack.Counters.DataAfterCloseResets);
        // 30 s from the first byte after close on. With loss the handshakes take a few, too.
        TimeSpan most = s_server.AfterCloseTime + TimeSpan.FromSeconds(9);
        Assert.InRange(network.Now - start, s_server.AfterCloseSilence, most);
        network.Settle();
        Assert.Equal((0, 0), (network.Client.Outstanding, network.Server.Outstanding));
        Assert.Equal(0, network.Server.Stack.OrphanCount);
    }

    private void Step(Network network)
    {
        while (network.Server.Stack.TryAccept(out _))
        {
        }
        while (network.Server.Stack.TryTakeReady(out TcpConnection connection))
        {
            connection.TakeEvents();
            if (connection.ReadableBytes == 0)
                continue;
            connection.TakeReceived(long.MaxValue).ReturnAll();
            if (_answered.Add(connection))
                Answer(network.Server, connection);
        }
        while (network.Client.Stack.TryTakeReady(out TcpConnection connection))
            _clients[connection].Step(connection.TakeEvents());
    }

    private static void Answer(SimHost server, TcpConnection connection)
    {
        BlockQueue data = default;
        for (int written = 0; written < Response;)
        {
            Block block = server.Blocks.Take();
            block.Length = Math.Min(block.Room, Response - written);
            foreach (ref byte b in block.Bytes)
                b = SimApplication.Pattern(ServerKey, written++);
            data.Enqueue(block);
        }
        connection.Write(ref data);
        connection.Close();
    }
}

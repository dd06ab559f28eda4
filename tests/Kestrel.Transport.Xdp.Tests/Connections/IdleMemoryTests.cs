using System.IO.Pipelines;
using Kestrel.Transport.Xdp.Internal.Connections;
using Kestrel.Transport.Xdp.Tests.Support;
using Microsoft.Extensions.Logging.Abstractions;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Tests.Connections;

/// <summary>
/// What a connection that waits for its next request costs the transport, without the TCP connection itself.
/// </summary>
public sealed class IdleMemoryTests
{
    private const int Connections = 1000;

    // Room for the connection, its queue's side, two pipe ends and their lock. One more object, or a setting copied
    // into each connection, exceeds it.
    private const int MostBytes = 576;

    private static readonly Action s_onRead = static () => { };

    [Fact]
    public void IdleConnection_IsFiveSmallObjects()
    {
        var queue = new FakeQueue();
        ConnectionSettings settings = queue.Settings(inline: true) with { Logger = NullLogger.Instance };
        var tcp = new LoopTcp();
        var connections = new XdpConnection[Connections];
        ServeOneRequest(queue, settings, tcp);
        // When another test causes a garbage collection, the rest of this thread's allocation buffer counts as
        // allocated. So the round with the least is the proof.
        long least = long.MaxValue;
        for (int round = 0; round < 5; round++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            for (int i = 0; i < connections.Length; i++)
                connections[i] = ServeOneRequest(queue, settings, tcp);
            least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
        }
        queue.AssertAllHome();
        Assert.InRange(least / Connections, 1, MostBytes);
    }

    // Nothing in here allocates but the transport.
    private static XdpConnection ServeOneRequest(FakeQueue queue, ConnectionSettings settings, LoopTcp tcp)
    {
        var connection = new XdpConnection(FakePeer.Mss, sendBuffer: 0, settings);
        ValueTask<ReadResult> read = Wait(connection);
        Block request = queue.Blocks.Take();
        request.Length = 100;
        tcp.Readable.Enqueue(request);
        connection.Queue.OnEvents(TcpEvents.Readable, new LoopTcp.Ref(tcp));
        connection.Queue.Deliver();
        connection.Input.AdvanceTo(read.Result.Buffer.End);
        connection.Output.GetSpan()[..100].Fill((byte)'x');
        connection.Output.Advance(100);
        Assert.True(connection.Output.FlushAsync().IsCompletedSuccessfully);
        Wait(connection);
        connection.Queue.ApplyWork(connection.Queue.TakeWork(), new LoopTcp.Ref(tcp));
        connection.Queue.OnEvents(TcpEvents.Sent | TcpEvents.AllAcknowledged, new LoopTcp.Ref(tcp));
        Assert.False(connection.Queue.Deliver());
        return connection;
    }

    private static ValueTask<ReadResult> Wait(XdpConnection connection)
    {
        ValueTask<ReadResult> read = connection.Input.ReadAsync();
        Assert.False(read.IsCompleted);
        read.GetAwaiter().UnsafeOnCompleted(s_onRead);
        return read;
    }
}

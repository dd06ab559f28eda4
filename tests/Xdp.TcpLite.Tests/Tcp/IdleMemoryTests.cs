using Xdp.TcpLite.Tests.Hostile;
using Xdp.TcpLite.Tests.Simulation;
using Xunit.Abstractions;

namespace Xdp.TcpLite.Tests;

/// <summary>
/// What a server keeps for a connection on which nothing happens. At any moment most of its connections are like that.
/// </summary>
[Collection(nameof(Alone))]
public class IdleMemoryTests
{
    /// <summary>The flow table's share included.</summary>
    private const int BytesPerConnection = 512;

    private const int Few = 2_000;
    private const int Many = 50_000;
    private const int Request = 100;
    private const int Response = 300;

    private readonly ITestOutputHelper _output;
    private readonly SimHost _server;
    private Instant _now = new(TimeSpan.TicksPerHour);
    private int _connections;
    private Packet _answer;

    public IdleMemoryTests(ITestOutputHelper output)
    {
        _output = output;
        _server = new SimHost(
            "server", SegmentBuilder.ServerV4, SegmentBuilder.Path.LocalMac, new TcpStackOptions(), frames: 512);
        _server.Stack.Listen(default, SegmentBuilder.FlowV4.LocalPort, null);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Connection_AfterARequestAndItsResponse_IsSmall(bool isIPv6)
    {
        long few = HeapWith(Few, isIPv6);
        long many = HeapWith(Many, isIPv6);
        double each = (many - few) / (double)(Many - Few);
        _output.WriteLine($"{each:F1} bytes");
        Assert.InRange(each, 1, BytesPerConnection);
        Assert.Equal(Many, _server.Stack.ConnectionCount);
        Assert.Equal(0, _server.Outstanding);
    }

    private long HeapWith(int connections, bool isIPv6)
    {
        while (_connections < connections)
            Converse(_connections++, isIPv6);
        return GC.GetTotalMemory(forceFullCollection: true);
    }

    /// <summary>Handshake, request, response, and its acknowledgement, by a client that keeps nothing of it.</summary>
    private void Converse(int index, bool isIPv6)
    {
        FlowKey any = isIPv6 ? SegmentBuilder.FlowV6 : SegmentBuilder.FlowV4;
        FlowKey flow = any with
        {
            Remote = any.Remote with { Low = any.Remote.Low + (ulong)(index >> 12) },
            RemotePort = (ushort)(20_000 + (index & 0xfff)),
        };
        var iss = new SeqNumber((uint)index * 7919);
        Send(flow, Fields(TcpFlags.Syn, iss) with
        {
            Mss = 1460,
            SackPermitted = true,
            HasWindowScale = true,
            WindowScale = 7,
        });
        Send(flow, Fields(TcpFlags.Ack, iss + 1));
        Assert.True(_server.Stack.TryAccept(out TcpConnection? connection));
        _now += TimeSpan.FromMicroseconds(300);
        Send(flow, Fields(TcpFlags.Ack | TcpFlags.Psh, iss + 1), Request);
        Assert.True(_server.Stack.TryTakeReady(out TcpConnection ready));
        Assert.Same(connection, ready);
        BlockQueue received = connection.TakeReceived(long.MaxValue);
        Assert.Equal(Request, received.Bytes);
        received.ReturnAll();
        connection.ReleaseWindow(Request);
        Block block = _server.Blocks.Take();
        block.Length = Response;
        BlockQueue response = default;
        response.Enqueue(block);
        connection.Write(ref response);
        Emit();
        Assert.Equal(Response, _answer.PayloadLength);
        _now += TimeSpan.FromMicroseconds(300);
        Send(flow, Fields(TcpFlags.Ack, iss + 1 + Request));
        Assert.Equal((TcpState.Established, 0), (connection.State, connection.UnacknowledgedBytes));
        while (_server.Stack.TryTakeReady(out ready))
            ready.TakeEvents();
        _now += TimeSpan.FromMilliseconds(1);
        _server.Stack.OnDeadline(_now);
    }

    private SegmentFields Fields(TcpFlags flags, SeqNumber seq) => new()
    {
        Seq = seq,
        Ack = (flags & TcpFlags.Ack) != 0 ? _answer.End : default,
        Flags = flags,
        Window = ushort.MaxValue,
        HasTimestamps = true,
        TsVal = TsClock.At(_now),
        TsEcr = (flags & TcpFlags.Ack) != 0 ? _answer.TsVal : 0,
    };

    private void Send(in FlowKey flow, in SegmentFields fields, int payload = 0)
    {
        _server.Deliver(new SegmentBuilder { Flow = flow, Fields = fields, Payload = new byte[payload] }.Build(), _now);
        Emit();
    }

    private void Emit() =>
        _server.Emit(_now, packet => PacketParser.Parse(packet, acceptPartialChecksum: false, out _answer));
}

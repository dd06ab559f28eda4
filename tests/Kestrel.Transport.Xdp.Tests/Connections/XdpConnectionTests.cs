using System.Buffers;
using System.IO.Pipelines;
using System.Net;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using Kestrel.Transport.Xdp.Internal.Connections;
using Kestrel.Transport.Xdp.Tests.Support;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Http.Features;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Tests.Connections;

/// <summary>What only this transport's connections have, or what loopback sockets cannot be made to do.</summary>
public sealed class XdpConnectionTests
{
    [Fact]
    public async Task TimedOut_ReadsAndFlushesThrowTheSocketException()
    {
        var queue = new FakeQueue();
        FakePeer peer = queue.Connect(queue.Settings());
        ValueTask<ReadResult> read = peer.Connection.Input.ReadAsync();
        peer.TimeOut();
        var exception = await Assert.ThrowsAsync<SocketException>(async () => await read);
        Assert.Equal(SocketError.TimedOut, exception.SocketErrorCode);
        peer.Connection.Output.Write("x"u8);
        Assert.Same(
            exception,
            await Assert.ThrowsAsync<SocketException>(async () => await peer.Connection.Output.FlushAsync()));
        await peer.Connection.DisposeAsync();
        Assert.Contains(14, queue.Logger.Events);
        queue.AssertAllHome();
    }

    [Fact]
    public async Task PeerFinWithLastBytes_AreInOneResult()
    {
        var queue = new FakeQueue();
        FakePeer peer = queue.Connect(queue.Settings());
        ValueTask<ReadResult> read = peer.Connection.Input.ReadAsync();
        peer.SendWithFin("last"u8);
        ReadResult result = await read;
        Assert.True(result.IsCompleted);
        Assert.Equal("last"u8.ToArray(), result.Buffer.ToArray());
        peer.Connection.Input.AdvanceTo(result.Buffer.End);
        await Finish(queue, peer);
        Assert.Contains(6, queue.Logger.Events);
    }

    [Fact]
    public async Task PeerFin_BehindBytesThePipeHasNoRoomFor_IsSeenAfterThem()
    {
        var queue = new FakeQueue();
        FakePeer peer = queue.Connect(queue.Settings() with { MaxReadBufferSize = 2000 });
        peer.SendWithFin(new byte[10_000]);
        PipeReader input = peer.Connection.Input;
        long total = 0;
        while (true)
        {
            Assert.True(input.TryRead(out ReadResult result));
            total += result.Buffer.Length;
            Assert.Equal(total == 10_000, result.IsCompleted);
            Assert.True(result.IsCompleted || !peer.Connection.ConnectionClosed.IsCancellationRequested);
            input.AdvanceTo(result.Buffer.End);
            queue.Turn();
            if (result.IsCompleted)
                break;
        }
        Assert.Contains(4, queue.Logger.Events);
        Assert.Contains(5, queue.Logger.Events);
        await Finish(queue, peer);
    }

    [Fact]
    public async Task FinOnError_AbortWithAReason_IsAFin()
    {
        var queue = new FakeQueue();
        FakePeer peer = queue.Connect(queue.Settings() with { FinOnError = true });
        peer.Connection.Output.Write("kept"u8);
        await peer.Connection.Output.FlushAsync();
        var reason = new ConnectionAbortedException("why");
        peer.Connection.Abort(reason);
        queue.Turn();
        Assert.False(peer.Aborted);
        Assert.True(peer.Closed);
        byte[] buffer = new byte[10];
        Assert.Equal(4, await peer.ReceiveAsync(buffer));
        Assert.Equal(0, await peer.ReceiveAsync(buffer));
        Assert.Same(
            reason,
            await Assert.ThrowsAsync<ConnectionAbortedException>(async () => await peer.Connection.Input.ReadAsync()));
        await Finish(queue, peer);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Dispose_WithUnreadInputAndUnsentOutput_DeliversTheOutputAndSendsFin(bool frames)
    {
        var queue = new FakeQueue();
        FakePeer peer = queue.Connect(queue.Settings(frames), frames);
        peer.SendWindow = 1;
        peer.Send(new byte[50_000]);
        peer.Connection.Output.Write(new byte[40_000]);
        ValueTask dispose = peer.Connection.DisposeAsync();
        Assert.False(dispose.IsCompleted);
        queue.Turn();
        // Done, though the client has read next to nothing: the stack has custody.
        await dispose;
        Assert.False(peer.Aborted);
        peer.SendWindow = long.MaxValue;
        queue.Turn();
        byte[] buffer = new byte[50_000];
        int total = 0;
        for (int count; (count = await peer.ReceiveAsync(buffer)) > 0;)
            total += count;
        Assert.Equal(40_000, total);
        queue.AssertAllHome();
    }

    [Fact]
    public async Task Dispose_AfterTheStackForgotTheConnection_Completes()
    {
        var queue = new FakeQueue();
        FakePeer peer = queue.Connect(queue.Settings());
        peer.Connection.Output.Write(new byte[5000]);
        peer.Raise(TcpEvents.Closed);
        int posts = queue.Posts;
        Assert.True((await peer.Connection.Output.FlushAsync()).IsCompleted);
        peer.Connection.Abort(new ConnectionAbortedException());
        await peer.Connection.DisposeAsync();
        await peer.Connection.DisposeAsync();
        Assert.Equal(posts, queue.Posts);
        Assert.Equal(ConnectionWork.None, peer.Connection.Queue.TakeWork());
        queue.AssertAllHome();
    }

    [Fact]
    public async Task Reset_WithAWriterInTheMiddle_LeavesItsMemoryAlone()
    {
        var queue = new FakeQueue();
        FakePeer peer = queue.Connect(queue.Settings());
        Memory<byte> memory = peer.Connection.Output.GetMemory();
        memory.Span.Fill(1);
        peer.SendReset();
        Assert.Equal(1, queue.Frames.CountByState()[(int)FrameState.Writing]);
        Assert.Equal(1, memory.Span[0]);
        peer.Connection.Output.Advance(10);
        Assert.True((await peer.Connection.Output.FlushAsync()).IsCompleted);
        await peer.Connection.DisposeAsync();
        queue.AssertAllHome();
    }

    [Fact]
    public async Task Reset_DropsFlushedBytesThatTheStackHasNot()
    {
        var queue = new FakeQueue();
        FakePeer peer = queue.Connect(queue.Settings() with { MaxWriteBufferSize = 1000 });
        peer.Connection.Output.Write(new byte[5000]);
        ValueTask<FlushResult> flush = peer.Connection.Output.FlushAsync();
        Assert.False(flush.IsCompleted);
        peer.SendReset();
        Assert.True((await flush).IsCompleted);
        await peer.Connection.DisposeAsync();
        queue.AssertAllHome();
    }

    [Fact]
    public async Task Work_IsPostedOnceUntilTaken()
    {
        var queue = new FakeQueue();
        FakePeer peer = queue.Connect(queue.Settings());
        for (int i = 0; i < 5; i++)
        {
            peer.Connection.Output.Write("abc"u8);
            await peer.Connection.Output.FlushAsync();
        }
        Assert.Equal(1, queue.Posts);
        queue.Turn();
        peer.Connection.Output.Write("abc"u8);
        await peer.Connection.Output.FlushAsync();
        Assert.Equal(2, queue.Posts);
        queue.Turn();
        await Finish(queue, peer);
    }

    [Fact]
    public async Task CompletedInput_DropsWhatArrivesAndKeepsTheWindowOpen()
    {
        var queue = new FakeQueue();
        FakePeer peer = queue.Connect(queue.Settings());
        peer.Send(new byte[10_000]);
        peer.Connection.Input.Complete();
        queue.Turn();
        peer.Send(new byte[1_000_000]);
        Assert.False(peer.HoldsBacklog);
        peer.Connection.Output.Write("still writing"u8);
        Assert.False((await peer.Connection.Output.FlushAsync()).IsCompleted);
        queue.Turn();
        Assert.Equal([13], peer.WrittenBlocks);
        await Finish(queue, peer);
    }

    [Fact]
    public async Task GetTcpInfo_AsksTheQueue()
    {
        using var queue = new FakeQueue();
        queue.StartWorker();
        FakePeer peer = queue.Connect(queue.Settings());
        var feature = (IXdpConnectionFeature)peer.Connection;
        Assert.Same(feature, peer.Connection.Features.Get<IXdpConnectionFeature>());
        Assert.Equal(("eth7", 3, "copy"), (feature.InterfaceName, feature.QueueId, feature.BindMode));
        Assert.Equal(FakePeer.Mss, feature.GetTcpInfo().SndMss);
        peer.SendReset();
        Assert.Equal(TcpState.Closed, feature.GetTcpInfo().State);
        await peer.Connection.DisposeAsync();
        queue.AssertAllHome();
    }

    [Theory]
    [InlineData("10.1.2.3", false, 0, "10.1.2.3")]
    [InlineData("10.1.2.3", true, 0, "::ffff:10.1.2.3")]
    [InlineData("2001:db8::1", true, 7, "2001:db8::1")]
    [InlineData("fe80::1", true, 7, "fe80::1%7")]
    public void EndPoints_HaveTheFormThatSocketsGive(string address, bool mapped, long scope, string expected)
    {
        ConnectionSettings settings = new FakeQueue().Settings() with { MapIPv4 = mapped, ScopeId = scope };
        Assert.Equal(
            new IPEndPoint(IPAddress.Parse(expected), 443),
            settings.EndPointOf(IpAddr.From(IPAddress.Parse(address)), 443));
    }

    [Fact]
    public void ProvidedFeature_ReplacedAndSetBack_IsThereOnce()
    {
        var queue = new FakeQueue();
        XdpConnection connection = queue.Connect(queue.Settings()).Connection;
        IFeatureCollection features = connection;
        IXdpConnectionFeature other = queue.Connect(queue.Settings()).Connection;
        Assert.Equal(7, features.Count());
        foreach (IXdpConnectionFeature? set in new[] { other, null, connection, other, other, connection, null })
        {
            features.Set(set);
            Assert.Same(set, features.Get<IXdpConnectionFeature>());
            Assert.Equal(set, features.SingleOrDefault(feature => feature.Key == typeof(IXdpConnectionFeature)).Value);
        }
        Assert.Equal(6, features.Count());
    }

    [Fact]
    public async Task ConnectionClosed_AskedForWhenOver_IsCancelled()
    {
        var queue = new FakeQueue();
        FakePeer peer = queue.Connect(queue.Settings());
        peer.SendReset();
        Assert.True(peer.Connection.ConnectionClosed.IsCancellationRequested);
        await peer.Connection.DisposeAsync();
        Assert.True(peer.Connection.ConnectionClosed.IsCancellationRequested);
        queue.AssertAllHome();
    }

    [Fact]
    public async Task ConnectionClosed_Set_IsWhatWasSet()
    {
        var queue = new FakeQueue();
        FakePeer peer = queue.Connect(queue.Settings());
        peer.Connection.ConnectionClosed = CancellationToken.None;
        peer.SendReset();
        await peer.Connection.DisposeAsync();
        Assert.Equal(CancellationToken.None, peer.Connection.ConnectionClosed);
        queue.AssertAllHome();
    }

    // The token is made while the connection ends. Whichever is first, a callback that was registered runs, and
    // DisposeAsync waits for it.
    [Fact]
    public async Task ConnectionClosed_AskedForWhileItFires_RunsItsCallbacks()
    {
        for (int round = 0; round < 500; round++)
        {
            var queue = new FakeQueue(frames: 8, receiveReserve: 1);
            FakePeer peer = queue.Connect(queue.Settings());
            Task<bool> asked = Task.Run(async () =>
            {
                bool ran = false;
                peer.Connection.ConnectionClosed.Register(() => ran = true);
                await peer.Connection.DisposeAsync();
                return ran;
            });
            peer.SendReset();
            Assert.True(await asked);
        }
    }

    [Theory]
    [InlineData(0, "0000000000000")]
    [InlineData(31, "000000000000V")]
    [InlineData(32, "0000000000010")]
    [InlineData(long.MaxValue, "7VVVVVVVVVVVV")]
    public void ConnectionId_IsBase32(long id, string expected) =>
        Assert.Equal(expected, Internal.Connections.ConnectionId.Format(id));

    [Fact]
    public void ConnectionIds_OfConnections_AreDistinctAndSettable()
    {
        var queue = new FakeQueue();
        XdpConnection first = queue.Connect(queue.Settings()).Connection;
        XdpConnection second = queue.Connect(queue.Settings()).Connection;
        Assert.NotEqual(first.ConnectionId, second.ConnectionId);
        Assert.Equal(first.ConnectionId, first.ConnectionId);
        first.ConnectionId = "mine";
        Assert.Equal("mine", first.Features.Get<IConnectionIdFeature>()!.ConnectionId);
    }

    [Fact]
    public async Task InlineContinuationThatThrows_EndsItsConnection_AndNoOther()
    {
        var queue = new FakeQueue();
        FakePeer bad = queue.Connect(queue.Settings(inline: true)), good = queue.Connect(queue.Settings(inline: true));
        PipeReader input = bad.Connection.Input;
        ValueTaskAwaiter<ReadResult> awaiter = input.ReadAsync().GetAwaiter();
        awaiter.UnsafeOnCompleted(() =>
        {
            input.AdvanceTo(awaiter.GetResult().Buffer.End);
            throw new InvalidOperationException("the application's");
        });
        ValueTask<ReadResult> read = good.Connection.Input.ReadAsync();
        queue.Turn(() =>
        {
            bad.Send("a"u8);
            good.Send("b"u8);
        });
        Assert.True(bad.Aborted);
        Assert.Contains(1, queue.Logger.Events);
        ReadResult result = await read;
        Assert.Equal("b"u8.ToArray(), result.Buffer.ToArray());
        good.Connection.Input.AdvanceTo(result.Buffer.End);
        ValueTask badEnds = bad.Connection.DisposeAsync(), goodEnds = good.Connection.DisposeAsync();
        queue.Turn();
        await badEnds;
        await goodEnds;
        queue.AssertAllHome();
        Assert.Single(queue.Logger.AboveDebug);
    }

    [Fact]
    public async Task InlineScheduling_ReadRunsInsideTheTurn_FlushOnlyMarks()
    {
        var queue = new FakeQueue();
        FakePeer peer = queue.Connect(queue.Settings(inline: true));
        bool inTurn = false;
        Task handler = Handle();
        Assert.False(handler.IsCompleted);
        peer.Send("ping"u8);
        Assert.True(inTurn);
        Assert.Equal([4], peer.WrittenBlocks);
        await handler;
        await Finish(queue, peer);

        async Task Handle()
        {
            ReadResult result = await peer.Connection.Input.ReadAsync();
            inTurn = queue.InTurn;
            peer.Connection.Input.AdvanceTo(result.Buffer.End);
            peer.Connection.Output.Write("pong"u8);
            await peer.Connection.Output.FlushAsync();
            Assert.Empty(peer.WrittenBlocks);
        }
    }

    [Fact]
    public async Task InlineScheduling_BothDirectionsAtOnce_OnlyTheReadRunsInsideTheTurn()
    {
        var queue = new FakeQueue();
        FakePeer peer = queue.Connect(queue.Settings(inline: true) with { MaxWriteBufferSize = 10 });
        peer.SendWindow = 0;
        Task<bool> reading = Read();
        Task<bool> flushing = Flush();
        queue.Turn();
        Assert.False(reading.IsCompleted || flushing.IsCompleted);
        queue.Turn(() =>
        {
            peer.SendWindow = long.MaxValue;
            peer.Send([1]);
        });
        Assert.True(await reading);
        Assert.False(await flushing);
        await Finish(queue, peer);

        async Task<bool> Read()
        {
            ReadResult result = await peer.Connection.Input.ReadAsync();
            peer.Connection.Input.AdvanceTo(result.Buffer.End);
            return queue.InTurn;
        }

        async Task<bool> Flush()
        {
            await peer.Connection.Output.WriteAsync(new byte[20]);
            return queue.InTurn;
        }
    }

    [Fact]
    public async Task ManyConnections_ThatHoldAResult_DoNotStarveAnother()
    {
        var queue = new FakeQueue(frames: 256, receiveReserve: 16);
        FakePeer[] holders =
            [.. Enumerable.Range(0, 40).Select(_ => queue.Connect(queue.Settings() with { ReceiveFrames = 8 }))];
        foreach (FakePeer holder in holders)
        {
            holder.Send(new byte[20_000]);
            Assert.True(holder.Connection.Input.TryRead(out _));
        }
        Assert.True(
            queue.Frames.ApplicationCount <= queue.Frames.FrameCount / 2 + 16,
            $"{queue.Frames.ApplicationCount} frames are with applications");
        FakePeer good = queue.Connect(queue.Settings());
        good.Send("hello"u8);
        Assert.True(good.Connection.Input.TryRead(out ReadResult result));
        Assert.Equal("hello"u8.ToArray(), result.Buffer.ToArray());
        foreach (FakePeer peer in (FakePeer[])[.. holders, good])
            await EndConnection(queue, peer);
        queue.AssertAllHome();
    }

    private static async Task Finish(FakeQueue queue, FakePeer peer)
    {
        await EndConnection(queue, peer);
        Assert.Empty(queue.Logger.AboveDebug);
        queue.AssertAllHome();
    }

    private static async Task EndConnection(FakeQueue queue, FakePeer peer)
    {
        ValueTask dispose = peer.Connection.DisposeAsync();
        queue.Turn();
        await dispose.AsTask().WaitAsync(TimeSpan.FromSeconds(30));
        peer.SendReset();
    }
}

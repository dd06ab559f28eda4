using System.Buffers;
using System.IO.Pipelines;
using Kestrel.Transport.Xdp.Internal.Connections;
using Kestrel.Transport.Xdp.Tests.Support;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Tests.Pipes;

public sealed class XdpPipeReaderTests
{
    private readonly FakeQueue _queue = new();

    [Fact]
    public void Read_ShowsTheFramesThemselves()
    {
        FakePeer peer = Connect();
        peer.Send(new byte[1448 + 1448 + 600]);
        Assert.True(peer.Connection.Input.TryRead(out ReadResult result));
        Assert.Equal(3, Segments(result));
        Assert.Equal(3, _queue.Frames.ApplicationCount);
        peer.Connection.Input.AdvanceTo(result.Buffer.GetPosition(1448), result.Buffer.GetPosition(1448));
        Assert.Equal(2, _queue.Frames.ApplicationCount);
        Assert.Equal(1, _queue.FramesReturnedCalls);
        End(peer);
    }

    [Fact]
    public void SmallSegments_ShareABlock()
    {
        FakePeer peer = Connect();
        peer.SegmentSize = 10;
        peer.Send(new byte[1000]);
        Assert.Equal(1, _queue.Frames.ApplicationCount);
        Assert.True(peer.Connection.Input.TryRead(out ReadResult result));
        Assert.Equal(1, Segments(result));
        Assert.Equal(1000, result.Buffer.Length);
        // More arrives behind what is being read.
        byte[] more = [1, 2, 3];
        peer.Send(more);
        Assert.Equal(new byte[1000], result.Buffer.ToArray());
        peer.Connection.Input.AdvanceTo(result.Buffer.End);
        Assert.True(peer.Connection.Input.TryRead(out result));
        Assert.Equal(more, result.Buffer.ToArray());
        peer.Connection.Input.AdvanceTo(result.Buffer.End);
        Assert.Equal(0, _queue.Frames.ApplicationCount);
        End(peer);
    }

    [Fact]
    public void FramesBeyondTheQuota_AreCopied()
    {
        FakePeer peer = Connect(_queue.Settings() with { ReceiveFrames = 4 });
        byte[] sent = new byte[20_000];
        new Random(1).NextBytes(sent);
        peer.Send(sent);
        Assert.Equal(4, _queue.Frames.ApplicationCount);
        Assert.True(peer.Connection.Input.TryRead(out ReadResult result));
        Assert.Equal(sent, result.Buffer.ToArray());
        peer.Connection.Input.AdvanceTo(result.Buffer.End);
        Assert.Equal(0, _queue.Frames.ApplicationCount);
        End(peer);
    }

    [Fact]
    public void Leftovers_OfAReaderThatHasSeenThemAll_LeaveTheirFrames()
    {
        FakePeer peer = Connect();
        byte[] sent = new byte[5000];
        new Random(1).NextBytes(sent);
        peer.Send(sent);
        Assert.True(peer.Connection.Input.TryRead(out ReadResult result));
        peer.Connection.Input.AdvanceTo(result.Buffer.GetPosition(100), result.Buffer.GetPosition(200));
        Assert.Equal(4, _queue.Frames.ApplicationCount);
        Assert.True(peer.Connection.Input.TryRead(out result));
        peer.Connection.Input.AdvanceTo(result.Buffer.GetPosition(50), result.Buffer.End);
        Assert.Equal(0, _queue.Frames.ApplicationCount);
        peer.Send([42]);
        Assert.True(peer.Connection.Input.TryRead(out result));
        Assert.Equal([.. sent[150..], 42], result.Buffer.ToArray());
        peer.Connection.Input.AdvanceTo(result.Buffer.End);
        End(peer);
    }

    /// <summary>
    /// An application that has not read yet: as with sockets, the peer may send what the pipe takes, and a receive
    /// buffer more.
    /// </summary>
    [Theory]
    [InlineData(100_000L, 140_000)]
    [InlineData(0L, 1_000_000)]
    public void Window_OfAnApplicationThatHasNotRead_IsThePipesRoomAndTheReceiveBuffer(long max, long expected)
    {
        FakePeer peer = Connect(_queue.Settings() with { MaxReadBufferSize = max });
        peer.ReceiveBuffer = 40_000;
        peer.Send(new byte[1_000_000]);
        Assert.InRange(peer.Released + peer.Outstanding, expected - FakePeer.Mss, expected + FakePeer.Mss);
        Assert.Equal(max > 0, peer.HoldsBacklog);
        long total = 0;
        while (total < 1_000_000)
        {
            Assert.True(peer.Connection.Input.TryRead(out ReadResult result), $"stalled at {total}");
            total += result.Buffer.Length;
            peer.Connection.Input.AdvanceTo(result.Buffer.End);
            _queue.Turn();
        }
        Assert.False(peer.HoldsBacklog);
        Assert.True(peer.MostOutstanding <= 40_000);
        End(peer);
    }

    [Fact]
    public void Window_SmallReads_NeedNoVisit()
    {
        FakePeer peer = Connect();
        for (int i = 0; i < 1000; i++)
        {
            peer.Send(new byte[100]);
            Assert.True(peer.Connection.Input.TryRead(out ReadResult result));
            peer.Connection.Input.AdvanceTo(result.Buffer.End);
        }
        Assert.Equal(0, _queue.Posts);
        Assert.Equal(100_000, peer.Released);
        End(peer);
    }

    /// <summary>
    /// While memory is short, windows follow what was examined: the queue learns of that soon enough.
    /// </summary>
    [Fact]
    public void Kept_OfAReaderThatStops_IsKnownButForTheThreshold()
    {
        FakePeer peer = Connect();
        peer.Send(new byte[100_000]);
        long examined = 0;
        while (examined < 100_000)
        {
            Assert.True(peer.Connection.Input.TryRead(out ReadResult result));
            long step = Math.Min(777, result.Buffer.Length);
            examined += step;
            peer.Connection.Input.AdvanceTo(result.Buffer.GetPosition(step));
            _queue.Turn();
            long known = 100_000 - peer.Kept;
            Assert.True(examined - known < 16 * 1024, $"{examined} examined, {known} known");
        }
        Assert.InRange(_queue.Posts, 5, 7);
        End(peer);
    }

    [Theory]
    [InlineData(1L)]
    [InlineData(100L)]
    [InlineData(100_000L)]
    [InlineData(null)]
    public void MaxReadBufferSize_PausesAndResumesAtHalf(long? max)
    {
        FakePeer peer = Connect(_queue.Settings() with { MaxReadBufferSize = max });
        peer.ReceiveBuffer = 10_000_000;
        byte[] sent = new byte[400_000];
        new Random(3).NextBytes(sent);
        peer.Send(sent);
        var all = new MemoryStream();
        long limit = (max ?? 400_000) + FakePeer.Mss;
        while (all.Length < sent.Length)
        {
            Assert.True(peer.Connection.Input.TryRead(out ReadResult result), $"stalled at {all.Length}");
            Assert.True(result.Buffer.Length <= limit);
            all.Write(result.Buffer.ToArray());
            peer.Connection.Input.AdvanceTo(result.Buffer.End);
            _queue.Turn();
        }
        Assert.Equal(sent, all.ToArray());
        End(peer);
    }

    [Fact]
    public void AdvanceTo_PositionsOutsideTheResult_Throw()
    {
        FakePeer peer = Connect();
        peer.Send(new byte[3000]);
        PipeReader input = peer.Connection.Input;
        Assert.Throws<InvalidOperationException>(() => input.AdvanceTo(default));
        Assert.True(input.TryRead(out ReadResult result));
        SequencePosition start = result.Buffer.Start;
        input.AdvanceTo(result.Buffer.GetPosition(10));
        Assert.True(input.TryRead(out result));
        Assert.Throws<InvalidOperationException>(() => input.AdvanceTo(start));
        Assert.Throws<InvalidOperationException>(
            () => input.AdvanceTo(new SequencePosition(result.Buffer.End.GetObject(), 1_000_000)));
        input.AdvanceTo(result.Buffer.End);
        End(peer);
    }

    [Fact]
    public async Task PendingRead_SecondRead_Throws()
    {
        FakePeer peer = Connect();
        ValueTask<ReadResult> read = peer.Connection.Input.ReadAsync();
        await Assert.ThrowsAsync<InvalidOperationException>(async () => await peer.Connection.Input.ReadAsync());
        Assert.Throws<InvalidOperationException>(() => peer.Connection.Input.TryRead(out _));
        peer.Send([1]);
        ReadResult result = await read;
        peer.Connection.Input.AdvanceTo(result.Buffer.End);
        End(peer);
    }

    private FakePeer Connect(ConnectionSettings? settings = null) => _queue.Connect(settings ?? _queue.Settings());

    private static int Segments(ReadResult result)
    {
        int count = 0;
        foreach (ReadOnlyMemory<byte> _ in result.Buffer)
            count++;
        return count;
    }

    private void End(FakePeer peer)
    {
        peer.Connection.Input.Complete();
        peer.Connection.Output.Complete();
        _queue.Turn();
        peer.SendReset();
        _queue.AssertAllHome();
    }
}

using System.Buffers;
using System.IO.Pipelines;
using Kestrel.Transport.Xdp.Internal.Connections;
using Kestrel.Transport.Xdp.Tests.Support;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Tests.Pipes;

public sealed class XdpPipeWriterTests
{
    private readonly FakeQueue _queue = new();

    [Fact]
    public void GetMemory_IsTheFrameThePeerIsSent()
    {
        FakePeer peer = Connect();
        Assert.Equal(FakePeer.Mss, peer.Connection.Output.GetMemory().Length);
        Assert.Equal(1, _queue.Frames.CountByState()[(int)FrameState.Writing]);
        peer.Connection.Output.Advance(100);
        Flush(peer);
        _queue.Turn();
        Assert.True(peer.WroteFrames);
        Assert.Equal([100], peer.WrittenBlocks);
        End(peer);
    }

    [Fact]
    public void WithoutFrames_NoFrameIsTaken()
    {
        FakePeer peer = Connect(_queue.Settings(frames: false));
        peer.Connection.Output.Write(new byte[10_000]);
        Flush(peer);
        _queue.Turn();
        Assert.False(peer.WroteFrames);
        Assert.Equal(10_000, peer.WrittenBlocks.Sum());
        End(peer);
    }

    [Fact]
    public async Task WriteAsync_FillsSegmentsToTheLastByte()
    {
        FakePeer peer = Connect();
        peer.Connection.Output.Write(new byte[5]);
        await peer.Connection.Output.WriteAsync(new byte[FakePeer.Mss * 3 - 5]);
        _queue.Turn();
        Assert.Equal([FakePeer.Mss, FakePeer.Mss, FakePeer.Mss], peer.WrittenBlocks);
        End(peer);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void TwoSmallFlushes_BeforeTheQueueLooks_AreOneSegment(bool frames)
    {
        FakePeer peer = Connect(_queue.Settings(frames));
        peer.Connection.Output.Write("HTTP/1.1 200 OK\r\n\r\n4\r\ndata\r\n"u8);
        Flush(peer);
        peer.Connection.Output.Write("0\r\n\r\n"u8);
        Flush(peer);
        _queue.Turn();
        Assert.Equal([33], peer.WrittenBlocks);
        End(peer);
    }

    [Fact]
    public void SmallFlush_BehindAFullSegment_IsOneOfItsOwn()
    {
        FakePeer peer = Connect();
        peer.Connection.Output.GetSpan(FakePeer.Mss).Clear();
        peer.Connection.Output.Advance(FakePeer.Mss);
        Flush(peer);
        peer.Connection.Output.Write("tail"u8);
        Flush(peer);
        _queue.Turn();
        Assert.Equal([FakePeer.Mss, 4], peer.WrittenBlocks);
        End(peer);
    }

    [Fact]
    public void FramesBeyondTheQuota_AreHeapBlocks_AndComeBackWithAcknowledgement()
    {
        FakePeer peer = Connect(_queue.Settings() with { TransmitFrames = 4, MaxWriteBufferSize = 0 });
        peer.SendWindow = 0;
        for (int i = 0; i < 20; i++)
        {
            peer.Connection.Output.GetSpan(1400).Clear();
            peer.Connection.Output.Advance(1400);
            Flush(peer);
            _queue.Turn();
        }
        Assert.Equal(_queue.Frames.FrameCount - 4, _queue.Frames.FreeCount);
        peer.SendWindow = long.MaxValue;
        _queue.Turn();
        Assert.Equal(_queue.Frames.FrameCount, _queue.Frames.FreeCount);
        peer.Connection.Output.GetSpan(1400);
        Assert.Equal(1, _queue.Frames.CountByState()[(int)FrameState.Writing]);
        End(peer);
    }

    [Fact]
    public void ExhaustedFrames_WritersGoOn()
    {
        var queue = new FakeQueue(frames: 20, receiveReserve: 16);
        FakePeer[] peers = [.. Enumerable.Range(0, 10).Select(_ => queue.Connect(queue.Settings()))];
        foreach (FakePeer peer in peers)
        {
            peer.SendWindow = 0;
            peer.Connection.Output.Write(new byte[3000]);
            Assert.True(peer.Connection.Output.FlushAsync().IsCompletedSuccessfully);
        }
        queue.Turn();
        Assert.Equal(16, queue.Frames.FreeCount);
        foreach (FakePeer peer in peers)
        {
            Assert.Equal(3000, peer.WrittenBlocks.Sum());
            peer.SendReset();
            peer.Connection.Input.Complete();
            peer.Connection.Output.Complete();
        }
        queue.AssertAllHome();
    }

    [Fact]
    public void GetMemory_WithLittleRoomLeft_GivesEnoughForAChunkHeader()
    {
        FakePeer peer = Connect();
        for (int left = 0; left < 20; left++)
        {
            int room = peer.Connection.Output.GetMemory().Length;
            peer.Connection.Output.Advance(room - left);
            Assert.True(peer.Connection.Output.GetSpan().Length >= 10);
            Flush(peer);
        }
        End(peer);
    }

    [Fact]
    public void GetMemory_ThenFlush_ThenAdvance_SendsWhatWasWritten()
    {
        FakePeer peer = Connect();
        Memory<byte> memory = peer.Connection.Output.GetMemory(10);
        Flush(peer);
        "late"u8.CopyTo(memory.Span);
        peer.Connection.Output.Advance(4);
        Flush(peer);
        _queue.Turn();
        Assert.Equal([4], peer.WrittenBlocks);
        End(peer);
    }

    [Fact]
    public void FramesThatWereNotUsed_AreReportedAsReturned()
    {
        FakePeer peer = Connect();
        peer.Connection.Output.GetMemory();
        // More than a frame holds: the empty one goes back.
        peer.Connection.Output.GetMemory(5000);
        Assert.Equal(1, _queue.FramesReturnedCalls);
        End(peer);
    }

    [Fact]
    public async Task FlushAsync_ResumesBelowHalf()
    {
        FakePeer peer = Connect(_queue.Settings() with { MaxWriteBufferSize = 10_000 });
        peer.SendWindow = 0;
        for (int i = 0; i < 7; i++)
        {
            peer.Connection.Output.GetSpan(1448).Clear();
            peer.Connection.Output.Advance(1448);
        }
        ValueTask<FlushResult> flush = peer.Connection.Output.FlushAsync();
        Assert.False(flush.IsCompleted);
        _queue.Turn();
        Assert.False(flush.IsCompleted);
        peer.SendWindow = 1448 * 3;
        _queue.Turn();
        // Four segments, 5792 bytes, are still unsent.
        peer.SendWindow = 1448 * 4;
        _queue.Turn();
        Assert.False((await flush.AsTask().WaitAsync(TimeSpan.FromSeconds(30))).IsCanceled);
        peer.SendWindow = long.MaxValue;
        _queue.Turn();
        End(peer);
    }

    /// <summary>As with sockets: what the send buffer takes has left the pipe.</summary>
    [Fact]
    public async Task FlushAsync_WaitsForWhatIsBeyondTheSendBuffer()
    {
        FakePeer peer = Connect(_queue.Settings() with { MaxWriteBufferSize = 10_000 });
        peer.SendBuffer = 100_000;
        peer.SendWindow = 1448;
        peer.Connection.Output.Write(new byte[1448]);
        Flush(peer);
        _queue.Turn();
        for (int i = 0; i < 109; i++)
        {
            peer.Connection.Output.Write(new byte[1000]);
            ValueTask<FlushResult> taken = peer.Connection.Output.FlushAsync();
            Assert.True(taken.IsCompleted, $"flush {i} waits");
            await taken;
            _queue.Turn();
        }
        peer.Connection.Output.Write(new byte[1000]);
        ValueTask<FlushResult> flush = peer.Connection.Output.FlushAsync();
        Assert.False(flush.IsCompleted);
        peer.SendWindow = long.MaxValue;
        _queue.Turn();
        await flush.AsTask().WaitAsync(TimeSpan.FromSeconds(30));
        End(peer);
    }

    [Fact]
    public async Task PendingFlush_SecondFlush_Throws()
    {
        FakePeer peer = Connect(_queue.Settings() with { MaxWriteBufferSize = 10 });
        peer.Connection.Output.Write(new byte[20]);
        ValueTask<FlushResult> flush = peer.Connection.Output.FlushAsync();
        await Assert.ThrowsAsync<InvalidOperationException>(async () => await peer.Connection.Output.FlushAsync());
        _queue.Turn();
        await flush;
        End(peer);
    }

    private FakePeer Connect(ConnectionSettings? settings = null) => _queue.Connect(settings ?? _queue.Settings());

    private static void Flush(FakePeer peer) =>
        Assert.True(peer.Connection.Output.FlushAsync().IsCompletedSuccessfully);

    private void End(FakePeer peer)
    {
        peer.Connection.Input.Complete();
        peer.Connection.Output.Complete();
        _queue.Turn();
        peer.SendReset();
        _queue.AssertAllHome();
    }
}

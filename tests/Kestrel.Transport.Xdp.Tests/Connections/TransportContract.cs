using System.Buffers;
using System.IO.Pipelines;
using System.Net.Sockets;
using Kestrel.Transport.Xdp.Tests.Support;
using Microsoft.AspNetCore.Connections;

namespace Kestrel.Transport.Xdp.Tests.Connections;

/// <summary>
/// What Kestrel and its users rely on, asserted of Kestrel's socket transport and of this one alike.
/// </summary>
public abstract partial class TransportContract
{
    private static readonly TimeSpan s_hang = TimeSpan.FromSeconds(30);

    private protected abstract TransportPair Connect(long? maxRead = 1024 * 1024, long? maxWrite = 64 * 1024);

    // ---- writing: traps 1 to 4, 11, 13

    [Theory]
    [InlineData(0, 0)]
    [InlineData(5, 0)]
    [InlineData(31, 1)]
    [InlineData(1000, 10)]
    public async Task GetMemory_BeforeAdvance_StartsWhereItDid(int first, int second)
    {
        await using TransportPair pair = Connect();
        PipeWriter output = pair.Server.Transport.Output;
        Memory<byte> memory = output.GetMemory(first);
        memory.Span[0] = 77;
        Assert.True(output.GetSpan(second).Overlaps(memory.Span, out int offset));
        Assert.Equal(0, offset);
        Assert.Equal(77, output.GetMemory(second).Span[0]);
        output.Advance(1);
        await output.FlushAsync();
        Assert.Equal([77], await Receive(pair, 1));
    }

    [Fact]
    public async Task Advance_SeveralTimesForOneSpan_RestStaysValid()
    {
        await using TransportPair pair = Connect();
        PipeWriter output = pair.Server.Transport.Output;
        Memory<byte> memory = output.GetMemory(300);
        byte[] expected = Pattern(300);
        for (int i = 0; i < 300; i += 100)
        {
            expected.AsSpan(i, 100).CopyTo(memory.Span[i..]);
            output.Advance(100);
        }
        await output.FlushAsync();
        Assert.Equal(expected, await Receive(pair, 300));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(1447)]
    [InlineData(2048)]
    [InlineData(4096)]
    [InlineData(4097)]
    [InlineData(60000)]
    [InlineData(1 << 20)]
    public async Task GetMemory_OfAnySize_IsGiven(int size)
    {
        await using TransportPair pair = Connect();
        PipeWriter output = pair.Server.Transport.Output;
        output.Write("abc"u8);
        Memory<byte> memory = output.GetMemory(size);
        Assert.True(memory.Length >= size);
        byte[] expected = Pattern(size);
        expected.CopyTo(memory);
        output.Advance(size);
        ValueTask<FlushResult> flush = output.FlushAsync();
        byte[] received = await Receive(pair, size + 3);
        Assert.Equal("abc"u8.ToArray(), received[..3]);
        Assert.Equal(expected, received[3..]);
        Assert.False((await flush).IsCompleted);
    }

    [Fact]
    public async Task GetSpan_WhateverWasAdvanced_IsNeverEmpty()
    {
        await using TransportPair pair = Connect(maxWrite: 0);
        PipeWriter output = pair.Server.Transport.Output;
        var expected = new MemoryStream();
        var random = new Random(1);
        for (int i = 0; i < 400; i++)
        {
            Span<byte> span = output.GetSpan();
            Assert.NotEqual(0, span.Length);
            int count = random.Next(2) == 0 ? span.Length : random.Next(span.Length + 1);
            random.NextBytes(span[..count]);
            expected.Write(span[..count]);
            output.Advance(count);
        }
        ValueTask<FlushResult> flush = output.FlushAsync();
        Assert.Equal(expected.ToArray(), await Receive(pair, (int)expected.Length));
        await flush;
    }

    [Fact]
    public async Task UnflushedBytes_CountsWhatWasAdvanced()
    {
        await using TransportPair pair = Connect();
        PipeWriter output = pair.Server.Transport.Output;
        Assert.True(output.CanGetUnflushedBytes);
        Assert.Equal(0, output.UnflushedBytes);
        output.GetMemory(10);
        Assert.Equal(0, output.UnflushedBytes);
        output.Advance(7);
        Assert.Equal(7, output.UnflushedBytes);
        output.Write(new byte[5000]);
        Assert.Equal(5007, output.UnflushedBytes);
        await output.FlushAsync();
        Assert.Equal(0, output.UnflushedBytes);
        await Receive(pair, 5007);
    }

    [Fact]
    public async Task Advance_BeyondTheMemory_Throws()
    {
        await using TransportPair pair = Connect();
        PipeWriter output = pair.Server.Transport.Output;
        Assert.Throws<ArgumentOutOfRangeException>(() => output.Advance(1));
        int room = output.GetMemory().Length;
        Assert.Throws<ArgumentOutOfRangeException>(() => output.Advance(room + 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => output.Advance(-1));
        Assert.Throws<ArgumentOutOfRangeException>(() => output.GetMemory(-1));
    }

    [Fact]
    public async Task FlushAsync_BelowMaxWriteBufferSize_CompletesAtOnce()
    {
        await using TransportPair pair = Connect(maxWrite: 64 * 1024);
        PipeWriter output = pair.Server.Transport.Output;
        output.Write(new byte[60_000]);
        ValueTask<FlushResult> flush = output.FlushAsync();
        Assert.True(flush.IsCompletedSuccessfully);
        FlushResult result = await flush;
        Assert.False(result.IsCanceled);
        Assert.False(result.IsCompleted);
        await Receive(pair, 60_000);
    }

    [Fact]
    public async Task FlushAsync_WhenTheClientDoesNotRead_WaitsUntilItDoes()
    {
        await using TransportPair pair = Connect();
        (ValueTask<FlushResult> flush, int written) = FillOutput(pair);
        Task<byte[]> received = Receive(pair, written);
        Assert.False((await flush.AsTask().WaitAsync(s_hang)).IsCompleted);
        Assert.Equal(written, (await received).Length);
    }

    // ---- reading: traps 5 to 7

    [Fact]
    public async Task ReadAsync_GivesWhatTheClientSent()
    {
        await using TransportPair pair = Connect();
        ValueTask<ReadResult> read = pair.Server.Transport.Input.ReadAsync();
        Assert.False(read.IsCompleted);
        await pair.Client.WriteAsync("hello"u8.ToArray());
        ReadResult result = await read.AsTask().WaitAsync(s_hang);
        Assert.Equal("hello"u8.ToArray(), result.Buffer.ToArray());
        Assert.False(result.IsCompleted);
        Assert.False(result.IsCanceled);
        pair.Server.Transport.Input.AdvanceTo(result.Buffer.End);
    }

    [Fact]
    public async Task AdvanceTo_StartEnd_GoesOnPastMaxReadBufferSize()
    {
        await using TransportPair pair = Connect(maxRead: 64 * 1024);
        PipeReader input = pair.Server.Transport.Input;
        byte[] sent = Pattern(1_500_000);
        Task write = pair.Client.WriteAsync(sent).AsTask();
        while (true)
        {
            ReadResult result = await input.ReadAsync().AsTask().WaitAsync(s_hang);
            if (result.Buffer.Length == sent.Length)
            {
                Assert.Equal(sent, result.Buffer.ToArray());
                input.AdvanceTo(result.Buffer.End);
                break;
            }
            input.AdvanceTo(result.Buffer.Start, result.Buffer.End);
        }
        await write.WaitAsync(s_hang);
    }

    [Fact]
    public async Task ReadAsync_OfUnreadBytesBeyondMaxReadBufferSize_ReadsAll()
    {
        await using TransportPair pair = Connect(maxRead: 16 * 1024);
        byte[] sent = Pattern(2_000_000);
        Task write = pair.Client.WriteAsync(sent).AsTask();
        Assert.Equal(sent, await Read(pair, sent.Length, step: 7_000));
        await write.WaitAsync(s_hang);
    }

    [Fact]
    public async Task ReadResult_HeldWhileMoreArrives_StaysWhatItWas()
    {
        await using TransportPair pair = Connect();
        PipeReader input = pair.Server.Transport.Input;
        byte[] sent = Pattern(200_000);
        await pair.Client.WriteAsync(sent.AsMemory(0, 100));
        ReadResult result = await input.ReadAsync().AsTask().WaitAsync(s_hang);
        byte[] seen = result.Buffer.ToArray();
        Task write = pair.Client.WriteAsync(sent.AsMemory(100)).AsTask();
        await EchoElsewhere();
        Assert.Equal(seen, result.Buffer.ToArray());
        input.AdvanceTo(result.Buffer.Start);
        Assert.Equal(sent, await Read(pair, sent.Length));
        await write.WaitAsync(s_hang);
    }

    [Fact]
    public async Task AdvanceTo_ExaminedShortOfTheEnd_NextReadCompletesAtOnce()
    {
        await using TransportPair pair = Connect();
        PipeReader input = pair.Server.Transport.Input;
        await pair.Client.WriteAsync("0123456789"u8.ToArray());
        ReadResult result = await input.ReadAtLeastAsync(10).AsTask().WaitAsync(s_hang);
        input.AdvanceTo(result.Buffer.GetPosition(3), result.Buffer.GetPosition(5));
        ValueTask<ReadResult> read = input.ReadAsync();
        Assert.True(read.IsCompletedSuccessfully);
        result = await read;
        Assert.Equal("3456789"u8.ToArray(), result.Buffer.ToArray());
        // A zero-byte read.
        input.AdvanceTo(result.Buffer.Start, result.Buffer.Start);
        read = input.ReadAsync();
        Assert.True(read.IsCompletedSuccessfully);
        result = await read;
        input.AdvanceTo(result.Buffer.Start, result.Buffer.End);
        Assert.False(input.TryRead(out _));
        read = input.ReadAsync();
        Assert.False(read.IsCompleted);
        await pair.Client.WriteAsync("A"u8.ToArray());
        result = await read.AsTask().WaitAsync(s_hang);
        Assert.Equal("3456789A"u8.ToArray(), result.Buffer.ToArray());
        input.AdvanceTo(result.Buffer.End);
    }

    [Fact]
    public async Task AdvanceTo_Default_AfterAnEmptyResult_IsAllowed()
    {
        await using TransportPair pair = Connect();
        PipeReader input = pair.Server.Transport.Input;
        pair.ClientFin();
        ReadResult result = await input.ReadAsync().AsTask().WaitAsync(s_hang);
        Assert.True(result.IsCompleted);
        Assert.True(result.Buffer.IsEmpty);
        input.AdvanceTo(default, default);
        result = await input.ReadAsync().AsTask().WaitAsync(s_hang);
        Assert.True(result.IsCompleted);
        input.AdvanceTo(result.Buffer.Start, result.Buffer.End);
    }

    [Fact]
    public async Task AdvanceTo_ExaminedBeforeConsumed_Throws()
    {
        await using TransportPair pair = Connect();
        PipeReader input = pair.Server.Transport.Input;
        await pair.Client.WriteAsync("0123"u8.ToArray());
        ReadResult result = await input.ReadAtLeastAsync(4).AsTask().WaitAsync(s_hang);
        Assert.Throws<InvalidOperationException>(
            () => input.AdvanceTo(result.Buffer.GetPosition(3), result.Buffer.GetPosition(2)));
        input.AdvanceTo(result.Buffer.GetPosition(3));
        Assert.Throws<InvalidOperationException>(() => input.AdvanceTo(default));
    }

    [Fact]
    public async Task ReadAsync_WithAResultOutstanding_Throws()
    {
        await using TransportPair pair = Connect();
        PipeReader input = pair.Server.Transport.Input;
        await pair.Client.WriteAsync("0123"u8.ToArray());
        ReadResult result = await input.ReadAsync().AsTask().WaitAsync(s_hang);
        await Assert.ThrowsAsync<InvalidOperationException>(async () => await input.ReadAsync());
        Assert.Throws<InvalidOperationException>(() => input.TryRead(out _));
        input.AdvanceTo(result.Buffer.End);
    }

    // ---- cancelling: traps 8 and 10

    [Fact]
    public async Task CancelPendingRead_WithNonePending_CancelsTheNextOnly()
    {
        await using TransportPair pair = Connect();
        PipeReader input = pair.Server.Transport.Input;
        input.CancelPendingRead();
        input.CancelPendingRead();
        ReadResult result = await input.ReadAsync();
        Assert.True(result.IsCanceled);
        // A cancelled read needs no advance.
        ValueTask<ReadResult> read = input.ReadAsync();
        Assert.False(read.IsCompleted);
        await pair.Client.WriteAsync("x"u8.ToArray());
        result = await read.AsTask().WaitAsync(s_hang);
        Assert.False(result.IsCanceled);
        Assert.Equal("x"u8.ToArray(), result.Buffer.ToArray());
        input.AdvanceTo(result.Buffer.End);
    }

    [Fact]
    public async Task CancelPendingRead_WithOnePending_CancelsItAndKeepsTheData()
    {
        await using TransportPair pair = Connect();
        PipeReader input = pair.Server.Transport.Input;
        await pair.Client.WriteAsync("abc"u8.ToArray());
        ReadResult result = await input.ReadAtLeastAsync(3).AsTask().WaitAsync(s_hang);
        input.AdvanceTo(result.Buffer.Start, result.Buffer.End);
        ValueTask<ReadResult> read = input.ReadAsync();
        Assert.False(read.IsCompleted);
        input.CancelPendingRead();
        result = await read.AsTask().WaitAsync(s_hang);
        Assert.True(result.IsCanceled);
        Assert.Equal("abc"u8.ToArray(), result.Buffer.ToArray());
        input.AdvanceTo(result.Buffer.Start, result.Buffer.End);
        read = input.ReadAsync();
        Assert.False(read.IsCompleted);
        await pair.Client.WriteAsync("d"u8.ToArray());
        result = await read.AsTask().WaitAsync(s_hang);
        Assert.Equal("abcd"u8.ToArray(), result.Buffer.ToArray());
        input.AdvanceTo(result.Buffer.End);
    }

    [Fact]
    public async Task CancelPendingFlush_WithNonePending_CancelsTheNextOnly()
    {
        await using TransportPair pair = Connect();
        PipeWriter output = pair.Server.Transport.Output;
        output.CancelPendingFlush();
        output.Write("ab"u8);
        Assert.True((await output.FlushAsync()).IsCanceled);
        Assert.False((await output.FlushAsync()).IsCanceled);
        Assert.Equal("ab"u8.ToArray(), await Receive(pair, 2));
    }

    [Fact]
    public async Task CancelPendingFlush_WithOnePending_CancelsIt()
    {
        await using TransportPair pair = Connect();
        (ValueTask<FlushResult> flush, int written) = FillOutput(pair);
        pair.Server.Transport.Output.CancelPendingFlush();
        Assert.True((await flush.AsTask().WaitAsync(s_hang)).IsCanceled);
        Assert.Equal(written, (await Receive(pair, written)).Length);
    }

    [Fact]
    public async Task Cancel_AfterComplete_DoesNotThrow()
    {
        await using TransportPair pair = Connect();
        pair.Server.Transport.Input.Complete();
        pair.Server.Transport.Input.CancelPendingRead();
        pair.Server.Transport.Output.Complete();
        pair.Server.Transport.Output.CancelPendingFlush();
    }

    [Fact]
    public async Task ReadAsync_WithACancelledToken_IsCancelled()
    {
        await using TransportPair pair = Connect();
        PipeReader input = pair.Server.Transport.Input;
        var cancelled = new CancellationToken(canceled: true);
        Assert.True(input.ReadAsync(cancelled).IsCanceled);
        using var source = new CancellationTokenSource();
        ValueTask<ReadResult> read = input.ReadAsync(source.Token);
        Assert.False(read.IsCompleted);
        source.Cancel();
        var exception = await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await read);
        Assert.Equal(source.Token, exception.CancellationToken);
        await pair.Client.WriteAsync("still"u8.ToArray());
        Assert.Equal("still"u8.ToArray(), await Read(pair, 5));
    }

    [Fact]
    public async Task FlushAsync_WithACancelledToken_IsCancelled()
    {
        await using TransportPair pair = Connect();
        PipeWriter output = pair.Server.Transport.Output;
        output.Write("kept"u8);
        Assert.True(output.FlushAsync(new CancellationToken(canceled: true)).IsCanceled);
        Assert.Equal(4, output.UnflushedBytes);
        await output.FlushAsync();
        Assert.Equal("kept"u8.ToArray(), await Receive(pair, 4));
        (ValueTask<FlushResult> flush, _) = FillOutput(pair);
        output.CancelPendingFlush();
        await flush;
        using var source = new CancellationTokenSource();
        flush = output.FlushAsync(source.Token);
        Assert.False(flush.IsCompleted);
        source.Cancel();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await flush);
    }

    // ---- completing: trap 9

    [Fact]
    public async Task Complete_OfInput_WithAResultOutstanding_EndsReading()
    {
        await using TransportPair pair = Connect();
        PipeReader input = pair.Server.Transport.Input;
        await pair.Client.WriteAsync(new byte[5000]);
        await input.ReadAsync().AsTask().WaitAsync(s_hang);
        input.Complete();
        input.Complete();
        await Assert.ThrowsAsync<InvalidOperationException>(async () => await input.ReadAsync());
        Assert.Throws<InvalidOperationException>(() => input.TryRead(out _));
    }

    [Fact]
    public async Task Complete_OfOutput_FlushesAndEndsWriting()
    {
        await using TransportPair pair = Connect();
        PipeWriter output = pair.Server.Transport.Output;
        output.Write("last"u8);
        output.Complete();
        output.Complete();
        Assert.Throws<InvalidOperationException>(() => output.GetMemory());
        Assert.Throws<InvalidOperationException>(() => output.GetSpan(10));
        await Assert.ThrowsAsync<InvalidOperationException>(async () => await output.WriteAsync(new byte[1]));
        Assert.Equal("last"u8.ToArray(), await ReceiveAll(pair));
    }

    [Fact]
    public async Task Output_AfterAbort_TakesAndDropsWrites()
    {
        await using TransportPair pair = Connect();
        PipeWriter output = pair.Server.Transport.Output;
        Memory<byte> memory = output.GetMemory(100);
        pair.Server.Abort(new ConnectionAbortedException());
        await WaitForClose(pair);
        await WaitForOutputEnd(pair);
        memory.Span.Fill(9);
        output.Advance(10);
        Assert.True((await output.FlushAsync()).IsCompleted);
        Assert.True((await output.WriteAsync(new byte[100_000])).IsCompleted);
        output.GetMemory(70_000).Span.Fill(1);
        output.Advance(70_000);
        Assert.True((await output.FlushAsync()).IsCompleted);
        output.Complete();
    }

    // ---- helpers

    private protected static byte[] Pattern(int length)
    {
        byte[] bytes = new byte[length];
        new Random(length).NextBytes(bytes);
        return bytes;
    }

    private protected static async Task<byte[]> Receive(TransportPair pair, int count)
    {
        byte[] bytes = new byte[count];
        await pair.Client.ReadExactlyAsync(bytes).AsTask().WaitAsync(s_hang);
        return bytes;
    }

    private protected static async Task<byte[]> ReceiveAll(TransportPair pair)
    {
        var all = new MemoryStream();
        await pair.Client.CopyToAsync(all).WaitAsync(s_hang);
        return all.ToArray();
    }

    private protected static async Task<byte[]> Read(TransportPair pair, int count, int step = int.MaxValue)
    {
        PipeReader input = pair.Server.Transport.Input;
        var all = new MemoryStream();
        while (all.Length < count)
        {
            ReadResult result = await input.ReadAsync().AsTask().WaitAsync(s_hang);
            ReadOnlySequence<byte> part = result.Buffer.Slice(0, Math.Min(step, result.Buffer.Length));
            all.Write(part.ToArray());
            input.AdvanceTo(part.End);
            if (result.IsCompleted && part.IsEmpty)
                break;
        }
        return all.ToArray();
    }

    /// <summary>
    /// Writes more than all buffers on the way take, so that the flush has to wait. Returns the flush and the number of
    /// bytes.
    /// </summary>
    private protected static (ValueTask<FlushResult> Flush, int Written) FillOutput(TransportPair pair)
    {
        const int muchMoreThanSocketBuffers = 24 << 20;
        PipeWriter output = pair.Server.Transport.Output;
        output.Write(new byte[muchMoreThanSocketBuffers]);
        ValueTask<FlushResult> flush = output.FlushAsync();
        Assert.False(flush.IsCompleted);
        return (flush, muchMoreThanSocketBuffers);
    }

    /// <summary>A round trip on another connection of the kind.</summary>
    private async Task EchoElsewhere()
    {
        await using TransportPair other = Connect();
        await other.Client.WriteAsync("x"u8.ToArray());
        await Read(other, 1);
        await other.Server.Transport.Output.WriteAsync("y"u8.ToArray());
        await Receive(other, 1);
    }

    private protected static async Task WaitForClose(TransportPair pair)
    {
        var closed = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using (pair.Server.ConnectionClosed.Register(closed.SetResult))
            await closed.Task.WaitAsync(s_hang);
    }

    /// <summary>The socket transport takes a moment to tell its writer.</summary>
    private protected static async Task WaitForOutputEnd(TransportPair pair)
    {
        while (!(await pair.Server.Transport.Output.FlushAsync()).IsCompleted)
            await Task.Yield();
    }
}

public sealed class SocketTransportContract : TransportContract
{
    private protected override TransportPair Connect(long? maxRead, long? maxWrite) =>
        new SocketPair(maxRead, maxWrite);
}

public sealed class XdpFramesContract : TransportContract
{
    private protected override TransportPair Connect(long? maxRead, long? maxWrite) =>
        new XdpPair(maxRead, maxWrite, frames: true, inline: false);
}

public sealed class XdpHeapContract : TransportContract
{
    private protected override TransportPair Connect(long? maxRead, long? maxWrite) =>
        new XdpPair(maxRead, maxWrite, frames: false, inline: false);
}

public sealed class XdpInlineContract : TransportContract
{
    private protected override TransportPair Connect(long? maxRead, long? maxWrite) =>
        new XdpPair(maxRead, maxWrite, frames: true, inline: true);
}

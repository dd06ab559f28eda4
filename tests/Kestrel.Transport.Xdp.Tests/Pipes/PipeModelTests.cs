using System.Buffers;
using System.IO.Pipelines;
using Kestrel.Transport.Xdp.Tests.Support;

namespace Kestrel.Transport.Xdp.Tests.Pipes;

/// <summary>
/// Random operations on our reader and writer and on a <see cref="Pipe"/> of the same thresholds, which must answer
/// alike. Turns run between operations, so the seed alone decides the order, and a failure names the seed.
/// </summary>
public sealed class PipeModelTests
{
    private const int MaxBuffer = 5000;

    public static TheoryData<int, bool> Seeds
    {
        get
        {
            var data = new TheoryData<int, bool>();
            for (int seed = 0; seed < 150; seed++)
                data.Add(seed, seed % 2 == 0);
            return data;
        }
    }

    private static readonly PipeOptions s_pipeOptions =
        new(readerScheduler: PipeScheduler.Inline, writerScheduler: PipeScheduler.Inline,
        pauseWriterThreshold: MaxBuffer, resumeWriterThreshold: MaxBuffer / 2, useSynchronizationContext: false);

    [Theory]
    [MemberData(nameof(Seeds))]
    public async Task Reader_AnswersAsPipeDoes(int seed, bool frames)
    {
        var random = new Random(seed);
        var queue = new FakeQueue();
        FakePeer peer = queue.Connect(
            queue.Settings() with
            {
                MaxReadBufferSize = 0,
                ReceiveFrames = random.Next(2) == 0 ? 64 : 2,
                InlineScheduling = true,
            },
            frames);
        PipeReader ours = peer.Connection.Input;
        var pipe = new Pipe(
            new PipeOptions(
                readerScheduler: PipeScheduler.Inline, writerScheduler: PipeScheduler.Inline,
                pauseWriterThreshold: 0, useSynchronizationContext: false));
        PipeReader theirs = pipe.Reader;
        ReadResult? ourResult = null;
        ReadResult? theirResult = null;
        Task<ReadResult>? ourRead = null;
        Task<ReadResult>? theirRead = null;
        bool finished = false;

        for (int step = 0; step < 400; step++)
        {
            switch (random.Next(8))
            {
                case 0 or 1 when !finished:
                    byte[] bytes = new byte[random.Next(3) == 0 ? random.Next(1, 20) : random.Next(1, 6000)];
                    random.NextBytes(bytes);
                    peer.SegmentSize = random.Next(1, FakePeer.Mss + 1);
                    await pipe.Writer.WriteAsync(bytes);
                    peer.Send(bytes);
                    break;
                case 2 when random.Next(30) == 0 && !finished:
                    finished = true;
                    pipe.Writer.Complete();
                    peer.SendFin();
                    break;
                case 3 when random.Next(3) == 0:
                    theirs.CancelPendingRead();
                    ours.CancelPendingRead();
                    break;
                case 4 when ourRead is null && ourResult is null:
                    bool theirsHas = theirs.TryRead(out ReadResult theirTry);
                    bool oursHas = ours.TryRead(out ReadResult ourTry);
                    Assert.Equal(theirsHas, oursHas);
                    if (theirsHas)
                        (ourResult, theirResult) = (ourTry, theirTry);
                    break;
                case 5 or 6 when ourRead is null && ourResult is null:
                    theirRead = theirs.ReadAsync().AsTask();
                    ourRead = ours.ReadAsync().AsTask();
                    break;
                case 7 when ourResult is { } our && theirResult is { } their:
                    long consumed = random.Next(3) == 0
                        ? their.Buffer.Length
                        : random.NextInt64(their.Buffer.Length + 1);
                    long examined = random.Next(2) == 0
                        ? their.Buffer.Length
                        : consumed + random.NextInt64(their.Buffer.Length - consumed + 1);
                    theirs.AdvanceTo(their.Buffer.GetPosition(consumed), their.Buffer.GetPosition(examined));
                    ours.AdvanceTo(our.Buffer.GetPosition(consumed), our.Buffer.GetPosition(examined));
                    (ourResult, theirResult) = (null, null);
                    break;
            }
            queue.Turn();
            if (theirRead is { IsCompleted: true })
            {
                // A claimed read runs inside the turn, or on the pool when it was cancelled outside.
                ourResult = await ourRead!.WaitAsync(TimeSpan.FromSeconds(30));
                theirResult = await theirRead;
                (ourRead, theirRead) = (null, null);
            }
            else
            {
                Assert.False(
                    ourRead is { IsCompleted: true }, $"seed {seed}, step {step}: our read is done, the pipe's is not");
            }
            if (ourResult is { } got && theirResult is { } expected)
            {
                Assert.Equal(expected.IsCanceled, got.IsCanceled);
                Assert.Equal(expected.IsCompleted, got.IsCompleted);
                Assert.True(
                    expected.Buffer.ToArray().AsSpan().SequenceEqual(got.Buffer.ToArray()),
                    $"seed {seed}, step {step}");
            }
        }
        ours.Complete();
        peer.SendReset();
        queue.AssertAllHome();
    }

    [Theory]
    [MemberData(nameof(Seeds))]
    public async Task Writer_AnswersAsPipeDoes(int seed, bool frames)
    {
        var random = new Random(seed);
        var queue = new FakeQueue();
        FakePeer peer = queue.Connect(
            queue.Settings(frames) with { MaxWriteBufferSize = MaxBuffer, TransmitFrames = random.Next(1, 64) });
        peer.SendWindow = 0;
        PipeWriter ours = peer.Connection.Output;
        var pipe = new Pipe(s_pipeOptions);
        PipeWriter theirs = pipe.Writer;
        var sent = new MemoryStream();
        var received = new MemoryStream();
        Task<FlushResult>? ourFlush = null;
        Task<FlushResult>? theirFlush = null;

        for (int step = 0; step < 300; step++)
        {
            switch (random.Next(7))
            {
                case 0 or 1:
                    int hint = random.Next(4) == 0 ? random.Next(5000) : random.Next(40);
                    int count = random.Next(1, 1 + Math.Max(hint, 10));
                    byte[] bytes = new byte[count];
                    random.NextBytes(bytes);
                    sent.Write(bytes);
                    foreach (PipeWriter writer in new[] { ours, theirs })
                    {
                        Memory<byte> memory = writer.GetMemory(Math.Max(hint, count));
                        Assert.True(memory.Length >= count);
                        bytes.CopyTo(memory);
                        int first = count / 2;
                        writer.Advance(first);
                        writer.Advance(count - first);
                    }
                    break;
                case 2 when ourFlush is null:
                    theirFlush = theirs.FlushAsync().AsTask();
                    ourFlush = ours.FlushAsync().AsTask();
                    break;
                case 3 when ourFlush is null:
                    byte[] written = new byte[random.Next(0, 4000)];
                    random.NextBytes(written);
                    sent.Write(written);
                    theirFlush = theirs.WriteAsync(written).AsTask();
                    ourFlush = ours.WriteAsync(written).AsTask();
                    break;
                case 4 when random.Next(3) == 0:
                    theirs.CancelPendingFlush();
                    ours.CancelPendingFlush();
                    break;
                case 5 when random.Next(2) == 0:
                    // Both are drained whole, since how much our side sends at once is a matter of blocks.
                    if (pipe.Reader.TryRead(out ReadResult result))
                        pipe.Reader.AdvanceTo(result.Buffer.End);
                    peer.SendWindow = long.MaxValue;
                    queue.Turn();
                    peer.SendWindow = 0;
                    break;
                case 6 when random.Next(3) == 0:
                    queue.Turn();
                    break;
            }
            Assert.Equal(theirs.UnflushedBytes, ours.UnflushedBytes);
            if (theirFlush is { IsCompleted: true })
            {
                FlushResult expected = await theirFlush;
                FlushResult got = await ourFlush!.WaitAsync(TimeSpan.FromSeconds(30));
                Assert.Equal(expected.IsCanceled, got.IsCanceled);
                Assert.Equal(expected.IsCompleted, got.IsCompleted);
                (ourFlush, theirFlush) = (null, null);
            }
            else
            {
                Assert.False(
                    ourFlush is { IsCompleted: true },
                    $"seed {seed}, step {step}: our flush is done, the pipe's is not");
            }
        }
        ours.Complete();
        peer.SendWindow = long.MaxValue;
        queue.Turn();
        byte[] buffer = new byte[10_000];
        for (int count; (count = await peer.ReceiveAsync(buffer)) > 0;)
            received.Write(buffer, 0, count);
        Assert.True(sent.ToArray().AsSpan().SequenceEqual(received.ToArray()), $"seed {seed}");
        peer.Connection.Input.Complete();
        queue.AssertAllHome();
    }
}

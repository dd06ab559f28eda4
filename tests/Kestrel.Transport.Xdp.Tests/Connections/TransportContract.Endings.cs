using System.Buffers;
using System.IO.Pipelines;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Kestrel.Transport.Xdp.Tests.Support;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;

namespace Kestrel.Transport.Xdp.Tests.Connections;

// How connections end, on which threads code runs, and the base-class members of the pipes.
public abstract partial class TransportContract
{
    // ---- the peer ends it

    [Fact]
    public async Task PeerFin_CompletesInputAndFiresConnectionClosed()
    {
        await using TransportPair pair = Connect();
        PipeReader input = pair.Server.Transport.Input;
        await pair.Client.WriteAsync("bye"u8.ToArray());
        pair.ClientFin();
        await WaitForClose(pair);
        ReadResult result = await input.ReadAsync().AsTask().WaitAsync(s_hang);
        Assert.True(result.IsCompleted);
        Assert.Equal("bye"u8.ToArray(), result.Buffer.ToArray());
        input.AdvanceTo(result.Buffer.End);
        result = await input.ReadAsync().AsTask().WaitAsync(s_hang);
        Assert.True(result.IsCompleted);
        Assert.True(result.Buffer.IsEmpty);
        input.AdvanceTo(result.Buffer.End);
    }

    [Fact]
    public async Task PeerFin_BehindMoreThanMaxReadBufferSize_LosesNothing()
    {
        await using TransportPair pair = Connect(maxRead: 10_000);
        byte[] sent = Pattern(300_000);
        Task write = pair.Client.WriteAsync(sent).AsTask().ContinueWith(_ => pair.ClientFin(), TaskScheduler.Default);
        Assert.Equal(sent, await Read(pair, int.MaxValue, step: 999));
        await write;
        await WaitForClose(pair);
    }

    [Fact]
    public async Task PeerFin_OutputStillWorks_UntilAbortWithoutReason()
    {
        await using TransportPair pair = Connect();
        pair.ClientFin();
        await WaitForClose(pair);
        Assert.False((await pair.Server.Transport.Output.WriteAsync("late"u8.ToArray())).IsCompleted);
        Assert.Equal("late"u8.ToArray(), await Receive(pair, 4));
        pair.Server.Abort(null!);
        Assert.Empty(await ReceiveAll(pair));
        await WaitForOutputEnd(pair);
        // Input had ended well before.
        Assert.True((await pair.Server.Transport.Input.ReadAsync()).IsCompleted);
    }

    [Fact]
    public async Task PeerReset_ReadsThrowAtOnce_WritesSayCompleted()
    {
        await using TransportPair pair = Connect();
        PipeReader input = pair.Server.Transport.Input;
        ValueTask<ReadResult> read = input.ReadAsync();
        pair.ClientReset();
        var exception = await Assert.ThrowsAsync<ConnectionResetException>(() => read.AsTask().WaitAsync(s_hang));
        Assert.Equal(
            SocketError.ConnectionReset, Assert.IsType<SocketException>(exception.InnerException).SocketErrorCode);
        await Assert.ThrowsAsync<ConnectionResetException>(async () => await input.ReadAsync());
        Assert.Throws<ConnectionResetException>(() => input.TryRead(out _));
        await WaitForClose(pair);
        pair.Server.Transport.Output.Write("into the void"u8);
        await WaitForOutputEnd(pair);
    }

    [Fact]
    public async Task PeerReset_DiscardsBufferedBytes()
    {
        await using TransportPair pair = Connect();
        PipeReader input = pair.Server.Transport.Input;
        await pair.Client.WriteAsync("buffered"u8.ToArray());
        ReadResult result = await input.ReadAtLeastAsync(8).AsTask().WaitAsync(s_hang);
        input.AdvanceTo(result.Buffer.Start, result.Buffer.Start);
        pair.ClientReset();
        await WaitForClose(pair);
        await Assert.ThrowsAsync<ConnectionResetException>(async () => await input.ReadAsync());
    }

    [Fact]
    public async Task PeerReset_WithAResultOutstanding_LeavesItReadable()
    {
        await using TransportPair pair = Connect();
        PipeReader input = pair.Server.Transport.Input;
        byte[] sent = Pattern(1000);
        await pair.Client.WriteAsync(sent);
        ReadResult result = await input.ReadAtLeastAsync(1000).AsTask().WaitAsync(s_hang);
        pair.ClientReset();
        await WaitForClose(pair);
        Assert.Equal(sent, result.Buffer.ToArray());
        input.AdvanceTo(result.Buffer.GetPosition(10));
        await Assert.ThrowsAsync<ConnectionResetException>(async () => await input.ReadAsync());
    }

    // ---- the server ends it

    [Fact]
    public async Task Abort_WithAReason_ResetsAndReadsThrowTheFirstReason()
    {
        await using TransportPair pair = Connect();
        var first = new ConnectionAbortedException("first");
        ValueTask<ReadResult> read = pair.Server.Transport.Input.ReadAsync();
        pair.Server.Abort(first);
        pair.Server.Abort(new ConnectionAbortedException("second"));
        pair.Server.Abort(null!);
        Assert.Same(first, await Assert.ThrowsAsync<ConnectionAbortedException>(() => read.AsTask().WaitAsync(s_hang)));
        Assert.Same(
            first,
            await Assert.ThrowsAsync<ConnectionAbortedException>(
                async () => await pair.Server.Transport.Input.ReadAsync()));
        await WaitForClose(pair);
        await AssertClientSeesReset(pair);
    }

    [Fact]
    public async Task Abort_WithoutAReason_IsAFin()
    {
        await using TransportPair pair = Connect();
        ValueTask<ReadResult> read = pair.Server.Transport.Input.ReadAsync();
        await pair.Server.Transport.Output.WriteAsync("end"u8.ToArray());
        Assert.Equal("end"u8.ToArray(), await Receive(pair, 3));
        pair.Server.Abort(null!);
        await Assert.ThrowsAsync<ConnectionAbortedException>(() => read.AsTask().WaitAsync(s_hang));
        Assert.Empty(await ReceiveAll(pair));
        await WaitForClose(pair);
    }

    [Fact]
    public async Task Abort_WithAPendingFlush_CompletesIt()
    {
        await using TransportPair pair = Connect();
        (ValueTask<FlushResult> flush, _) = FillOutput(pair);
        pair.Server.Abort(new ConnectionAbortedException());
        Assert.True((await flush.AsTask().WaitAsync(s_hang)).IsCompleted);
        await WaitForClose(pair);
    }

    [Fact]
    public async Task Abort_ByTheLifetimeFeature_Resets()
    {
        await using TransportPair pair = Connect();
        pair.Server.Features.Get<IConnectionLifetimeFeature>()!.Abort();
        await AssertClientSeesReset(pair);
        await WaitForClose(pair);
    }

    [Fact]
    public async Task Abort_FromManyThreads_DuringDispose_EndsOnce()
    {
        TransportPair pair = Connect();
        int fired = 0;
        pair.Server.ConnectionClosed.Register(() => Interlocked.Increment(ref fired));
        Task[] aborts =
            [.. Enumerable.Range(0, 8)
                .Select(i => Task.Run(() => pair.Server.Abort(new ConnectionAbortedException($"{i}"))))];
        await pair.Server.DisposeAsync().AsTask().WaitAsync(s_hang);
        await Task.WhenAll(aborts).WaitAsync(s_hang);
        Assert.Equal(1, fired);
        await pair.DisposeAsync();
    }

    [Fact]
    public async Task Complete_OfOutput_EndsInput()
    {
        await using TransportPair pair = Connect();
        ValueTask<ReadResult> read = pair.Server.Transport.Input.ReadAsync();
        await pair.Server.Transport.Output.CompleteAsync();
        await Assert.ThrowsAsync<ConnectionAbortedException>(() => read.AsTask().WaitAsync(s_hang));
        Assert.Empty(await ReceiveAll(pair));
        await WaitForClose(pair);
    }

    [Fact]
    public async Task Complete_OfOutputWithAnException_Resets()
    {
        await using TransportPair pair = Connect();
        var reason = new InvalidOperationException("the application failed");
        pair.Server.Transport.Output.Complete(reason);
        await AssertClientSeesReset(pair);
        await WaitForClose(pair);
        Assert.Same(
            reason,
            await Assert.ThrowsAsync<InvalidOperationException>(
                async () => await pair.Server.Transport.Input.ReadAsync()));
    }

    [Fact]
    public async Task DisposeAsync_SendsEverythingThenFin()
    {
        TransportPair pair = Connect();
        byte[] sent = Pattern(900_000);
        // Unread input must not turn the FIN into a RST before the response is through. Here the client has sent
        // nothing; the case in which it has is in XdpConnectionTests.
        pair.Server.Transport.Output.Write(sent);
        Task dispose = pair.Server.DisposeAsync().AsTask();
        Assert.Equal(sent, await ReceiveAll(pair));
        await dispose.WaitAsync(s_hang);
        await pair.DisposeAsync();
    }

    [Fact]
    public async Task DisposeAsync_WaitsForTheCallbacksOfConnectionClosed()
    {
        TransportPair pair = Connect();
        using var entered = new SemaphoreSlim(0);
        using var leave = new SemaphoreSlim(0);
        pair.Server.ConnectionClosed.Register(() =>
        {
            entered.Release();
            leave.Wait();
        });
        Task dispose = pair.Server.DisposeAsync().AsTask();
        await entered.WaitAsync(s_hang);
        Assert.False(dispose.IsCompleted);
        leave.Release();
        await dispose.WaitAsync(s_hang);
        await pair.DisposeAsync();
    }

    [Fact]
    public async Task ConnectionClosed_CallbackThatThrows_DoesNotEscape()
    {
        await using TransportPair pair = Connect();
        if (pair is XdpPair xdp)
            xdp.ExpectsErrors = true;
        pair.Server.ConnectionClosed.Register(() => throw new InvalidOperationException("a callback's own fault"));
        pair.ClientFin();
        await WaitForClose(pair);
    }

    // ---- threads: trap 12

    [Fact]
    public async Task Continuations_RunOnThePool_WithTheirExecutionContext()
    {
        await using TransportPair pair = Connect();
        if (pair is XdpPair { Inline: true })
            return;
        var local = new AsyncLocal<int> { Value = 5 };
        Task<(bool Pool, int Local)> reading = ReadOnce();
        local.Value = 6;
        await pair.Client.WriteAsync("x"u8.ToArray());
        Assert.Equal((true, 5), await reading.WaitAsync(s_hang));

        async Task<(bool, int)> ReadOnce()
        {
            ReadResult result = await pair.Server.Transport.Input.ReadAsync();
            bool pool = Thread.CurrentThread.IsThreadPoolThread;
            pair.Server.Transport.Input.AdvanceTo(result.Buffer.End);
            return (pool, local.Value);
        }
    }

    [Fact]
    public async Task Continuation_ThatBlocksForTheOtherDirection_DoesNotDeadlock()
    {
        await using TransportPair pair = Connect();
        if (pair is XdpPair { Inline: true })
            return;
        (ValueTask<FlushResult> flush, int written) = FillOutput(pair);
        Task<FlushResult> flushed = flush.AsTask();
        Task reading = Task.Run(async () =>
        {
            ReadResult result = await pair.Server.Transport.Input.ReadAsync();
#pragma warning disable xUnit1031 // Blocking is what is tested.
            flushed.Wait();
#pragma warning restore xUnit1031
            pair.Server.Transport.Input.AdvanceTo(result.Buffer.End);
        });
        await pair.Client.WriteAsync("x"u8.ToArray());
        await Receive(pair, written);
        await reading.WaitAsync(s_hang);
    }

    // ---- what custom handlers use: traps 14 to 16

    [Fact]
    public async Task CopyToAsync_AndAsStream_Work()
    {
        await using TransportPair pair = Connect();
        byte[] sent = Pattern(500_000);
        Task echo = pair.Server.Transport.Input.CopyToAsync(pair.Server.Transport.Output.AsStream(leaveOpen: true));
        Task write = Task.Run(async () =>
        {
            await pair.Client.WriteAsync(sent);
            await pair.Client.FlushAsync();
        });
        Assert.Equal(sent, await Receive(pair, sent.Length));
        await write.WaitAsync(s_hang);
        pair.ClientFin();
        await echo.WaitAsync(s_hang);
    }

    [Fact]
    public async Task ReadAtLeastAsync_BeyondMaxReadBufferSize_Works()
    {
        await using TransportPair pair = Connect(maxRead: 32 * 1024);
        byte[] sent = Pattern(1_500_000);
        Task write = pair.Client.WriteAsync(sent).AsTask();
        ReadResult result = await pair.Server.Transport.Input.ReadAtLeastAsync(sent.Length).AsTask().WaitAsync(s_hang);
        Assert.Equal(sent, result.Buffer.ToArray());
        pair.Server.Transport.Input.AdvanceTo(result.Buffer.End);
        await write.WaitAsync(s_hang);
    }

    [Fact]
    public async Task ReadAndWrite_FromTwoThreads_EchoesEverything()
    {
        await using TransportPair pair = Connect();
        byte[] sent = Pattern(3_000_000);
        PipeReader input = pair.Server.Transport.Input;
        PipeWriter output = pair.Server.Transport.Output;
        Task echo = Task.Run(async () =>
        {
            var random = new Random(7);
            while (true)
            {
                ReadResult result = await input.ReadAsync();
                if (result.IsCompleted && result.Buffer.IsEmpty)
                    return;
                ReadOnlySequence<byte> part =
                    result.Buffer.Slice(0, Math.Max(1, random.NextInt64(result.Buffer.Length + 1)));
                foreach (ReadOnlyMemory<byte> memory in part)
                    output.Write(memory.Span);
                input.AdvanceTo(part.End, random.Next(2) == 0 ? part.End : result.Buffer.End);
                await output.FlushAsync();
            }
        });
        Task write = Task.Run(async () =>
        {
            await pair.Client.WriteAsync(sent);
            pair.ClientFin();
        });
        Assert.Equal(sent, await Receive(pair, sent.Length));
        await write.WaitAsync(s_hang);
        await echo.WaitAsync(s_hang);
    }

    [Fact]
    public async Task SslStream_OverThePipes_Works()
    {
        await using TransportPair pair = Connect();
        using X509Certificate2 certificate = Certificate();
        await using var server = new SslStream(
            new DuplexStream(pair.Server.Transport.Input.AsStream(), pair.Server.Transport.Output.AsStream()));
        await using var client = new SslStream(pair.Client, leaveInnerStreamOpen: true, (_, _, _, _) => true);
        await Task.WhenAll(
            server.AuthenticateAsServerAsync(certificate),
            client.AuthenticateAsClientAsync("localhost")).WaitAsync(s_hang);
        byte[] sent = Pattern(400_000);
        Task echo = Task.Run(async () =>
        {
            byte[] buffer = new byte[20_000];
            for (int total = 0; total < sent.Length;)
            {
                Assert.Equal(0, await server.ReadAsync(Memory<byte>.Empty));
                int count = await server.ReadAsync(buffer);
                await server.WriteAsync(buffer.AsMemory(0, count));
                total += count;
            }
        });
        Task write = client.WriteAsync(sent).AsTask();
        byte[] received = new byte[sent.Length];
        await client.ReadExactlyAsync(received).AsTask().WaitAsync(s_hang);
        Assert.Equal(sent, received);
        await Task.WhenAll(echo, write).WaitAsync(s_hang);
    }

    // ---- features

    [Fact]
    public async Task Features_OfATransport_AreThereAndMutable()
    {
        await using TransportPair pair = Connect();
        Assert.Equal(13, pair.Server.ConnectionId.Length);
        Assert.Same(pair.Server.Transport, pair.Server.Features.Get<IConnectionTransportFeature>()!.Transport);
        Assert.Equal(pair.Server.ConnectionId, pair.Server.Features.Get<IConnectionIdFeature>()!.ConnectionId);
        Assert.Same(pair.Server.Items, pair.Server.Features.Get<IConnectionItemsFeature>()!.Items);
        Assert.NotNull(pair.Server.Features.Get<IMemoryPoolFeature>()!.MemoryPool);
        Assert.Equal(
            pair.Server.ConnectionClosed, pair.Server.Features.Get<IConnectionLifetimeFeature>()!.ConnectionClosed);
        Assert.IsType<IPEndPoint>(pair.Server.LocalEndPoint);
        Assert.IsType<IPEndPoint>(pair.Server.RemoteEndPoint);

        int revision = pair.Server.Features.Revision;
        pair.Server.Features.Set("a feature");
        Assert.NotEqual(revision, pair.Server.Features.Revision);
        Assert.Equal("a feature", pair.Server.Features.Get<string>());
        Assert.Equal("a feature", pair.Server.Features[typeof(string)]);
        Assert.Contains(pair.Server.Features, feature => feature.Key == typeof(string));
        pair.Server.Features.Set<string>(null);
        Assert.Null(pair.Server.Features.Get<string>());
        pair.Server.Features[typeof(IConnectionItemsFeature)] = null;
        Assert.Null(pair.Server.Features.Get<IConnectionItemsFeature>());
        Assert.False(pair.Server.Features.IsReadOnly);

        var wrapped = new Wrapped(pair.Server.Transport.Input, pair.Server.Transport.Output);
        IDuplexPipe original = pair.Server.Transport;
        pair.Server.Features.Get<IConnectionTransportFeature>()!.Transport = wrapped;
        Assert.Same(wrapped, pair.Server.Transport);
        pair.Server.Transport = original;
    }

    private sealed record Wrapped(PipeReader Input, PipeWriter Output) : IDuplexPipe;

    private static async Task AssertClientSeesReset(TransportPair pair)
    {
        Exception exception =
            await Assert.ThrowsAnyAsync<Exception>(() => pair.Client.ReadAsync(new byte[1]).AsTask().WaitAsync(s_hang));
        SocketException cause =
            exception as SocketException ?? Assert.IsType<SocketException>(exception.InnerException);
        Assert.Equal(SocketError.ConnectionReset, cause.SocketErrorCode);
    }

    private static X509Certificate2 Certificate()
    {
        using var key = RSA.Create(2048);
        var request = new CertificateRequest("CN=localhost", key, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
        using X509Certificate2 certificate =
            request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1));
        return X509CertificateLoader.LoadPkcs12(certificate.Export(X509ContentType.Pkcs12), null);
    }
}

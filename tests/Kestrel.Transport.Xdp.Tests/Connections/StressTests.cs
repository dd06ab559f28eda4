using System.Buffers;
using System.IO.Pipelines;
using Kestrel.Transport.Xdp.Tests.Support;
using Microsoft.AspNetCore.Connections;

namespace Kestrel.Transport.Xdp.Tests.Connections;

/// <summary>
/// A reader, a writer, a queue, a peer and somebody who ends the connection, all at once. Everything must stop, and
/// everything must come home.
/// </summary>
public sealed class StressTests
{
    public static TheoryData<int> Seeds => [.. Enumerable.Range(0, 60)];

    [Theory]
    [MemberData(nameof(Seeds))]
    public async Task EverythingAtOnce_Ends(int seed)
    {
        var random = new Random(seed);
        bool frames = random.Next(2) == 0;
        using var queue = new FakeQueue(frames: 256, receiveReserve: 32);
        queue.StartWorker();
        FakePeer peer = queue.Connect(queue.Settings(frames, inline: random.Next(3) == 0) with
        {
            MaxReadBufferSize = random.Next(1, 30_000),
            MaxWriteBufferSize = random.Next(1, 30_000),
            ReceiveFrames = random.Next(0, 20),
            TransmitFrames = random.Next(0, 20),
        });
        ConnectionContext connection = peer.Connection;
        int rounds = random.Next(1, 300);
        Task reader = Task.Run(() => ReadAll(connection, new Random(seed + 1)));
        Task writer = Task.Run(() => WriteAll(connection, new Random(seed + 2), rounds));
        Task sender = Task.Run(() => SendAll(peer, new Random(seed + 3), rounds));
        Task receiver = Task.Run(() => ReceiveAll(peer));
        Task canceller = Task.Run(() =>
        {
            for (int i = 0; i < rounds; i++)
            {
                connection.Transport.Input.CancelPendingRead();
                connection.Transport.Output.CancelPendingFlush();
                Thread.Yield();
            }
        });
        int end = random.Next(5);
        Task ender = Task.Run(async () =>
        {
            for (int i = 0; i < rounds; i++)
                await Task.Yield();
            switch (end)
            {
                case 0:
                    connection.Abort(new ConnectionAbortedException("enough"));
                    break;
                case 1:
                    connection.Abort(null!);
                    break;
                case 2:
                    peer.SendReset();
                    break;
                case 3:
                    await writer;
                    connection.Transport.Output.Complete();
                    break;
                case 4:
                    await sender;
                    peer.SendFin();
                    break;
            }
        });
        await Task.WhenAll(reader, writer, sender, canceller, ender).WaitAsync(TimeSpan.FromSeconds(60));
        await connection.DisposeAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(60));
        peer.SendReset();
        await receiver.WaitAsync(TimeSpan.FromSeconds(60));
        Assert.Empty(queue.Logger.AboveDebug);
        queue.AssertAllHome();
    }

    private static async Task ReadAll(ConnectionContext connection, Random random)
    {
        PipeReader input = connection.Transport.Input;
        byte next = 0;
        try
        {
            while (true)
            {
                ReadResult result = await input.ReadAsync();
                long consumed = random.NextInt64(result.Buffer.Length + 1);
                foreach (ReadOnlyMemory<byte> memory in result.Buffer.Slice(0, consumed))
                {
                    foreach (byte value in memory.Span)
                        Assert.Equal(next++, value);
                }
                bool done = result.IsCompleted && consumed == result.Buffer.Length;
                SequencePosition position = result.Buffer.GetPosition(consumed);
                input.AdvanceTo(position, random.Next(3) == 0 ? result.Buffer.End : position);
                if (done)
                    return;
            }
        }
        catch (Exception exception) when (exception is ConnectionAbortedException or ConnectionResetException)
        {
        }
    }

    private static async Task WriteAll(ConnectionContext connection, Random random, int rounds)
    {
        PipeWriter output = connection.Transport.Output;
        for (int i = 0; i < rounds; i++)
        {
            int size = random.Next(4) == 0 ? random.Next(10_000) : random.Next(100);
            output.GetSpan(size)[..size].Fill(7);
            output.Advance(size);
            if ((await output.FlushAsync()).IsCompleted)
                return;
        }
    }

    private static void SendAll(FakePeer peer, Random random, int rounds)
    {
        byte next = 0;
        for (int i = 0; i < rounds; i++)
        {
            byte[] bytes = new byte[random.Next(4000)];
            foreach (ref byte value in bytes.AsSpan())
                value = next++;
            peer.Send(bytes);
        }
    }

    private static async Task ReceiveAll(FakePeer peer)
    {
        byte[] buffer = new byte[5000];
        try
        {
            while (true)
            {
                int count = await peer.ReceiveAsync(buffer);
                if (count == 0)
                    return;
                Assert.All(buffer[..count], value => Assert.Equal(7, value));
            }
        }
        catch (System.Net.Sockets.SocketException)
        {
        }
    }
}

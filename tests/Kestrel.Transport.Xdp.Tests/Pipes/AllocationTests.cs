using System.Buffers;
using System.IO.Pipelines;
using Kestrel.Transport.Xdp.Internal.Connections;
using Kestrel.Transport.Xdp.Tests.Support;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Tests.Pipes;

public sealed class AllocationTests
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void RequestAndResponse_InSteadyState_AllocateNothing(bool frames)
    {
        var queue = new FakeQueue();
        ConnectionSettings settings = queue.Settings(frames, inline: true) with
        {
            Logger = Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance,
        };
        var connection = new XdpConnection(FakePeer.Mss, sendBuffer: 0, settings);
        var tcp = new LoopTcp();
        int served = 0;
        int flushed = 0;

        ValueTask<ReadResult> pending = default;
        Action onRead = null!;
        onRead = () =>
        {
            Serve(pending);
            WaitForRequest();
        };

        void WaitForRequest()
        {
            pending = connection.Input.ReadAsync();
            while (pending.IsCompleted)
            {
                Serve(pending);
                pending = connection.Input.ReadAsync();
            }
            pending.GetAwaiter().UnsafeOnCompleted(onRead);
        }

        void Serve(ValueTask<ReadResult> completed)
        {
#pragma warning disable xUnit1031 // The read is complete.
            ReadResult result = completed.GetAwaiter().GetResult();
#pragma warning restore xUnit1031
            connection.Input.AdvanceTo(result.Buffer.End);
            Span<byte> span = connection.Output.GetSpan();
            span[..100].Fill((byte)served);
            connection.Output.Advance(50);
            connection.Output.Advance(50);
            if (connection.Output.FlushAsync().IsCompletedSuccessfully)
                flushed++;
            served++;
        }

        WaitForRequest();
        // When another test causes a garbage collection, the rest of this thread's allocation buffer counts as
        // allocated. So one round without any allocation is the proof.
        long least = long.MaxValue;
        for (int round = 0; round < 5; round++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            Run(1000);
            least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
        }
        Assert.Equal(0, least);
        Assert.Equal(5000, served);
        Assert.Equal(5000, flushed);
        Assert.Equal(500_000, tcp.Written);

        void Run(int count)
        {
            for (int i = 0; i < count; i++)
            {
                Block block = queue.Blocks.Take();
                block.Length = 200;
                tcp.Readable.Enqueue(block);
                connection.Queue.OnEvents(TcpEvents.Readable, new LoopTcp.Ref(tcp));
                connection.Queue.Deliver();
                connection.Queue.ApplyWork(connection.Queue.TakeWork(), new LoopTcp.Ref(tcp));
                connection.Queue.OnEvents(TcpEvents.Sent | TcpEvents.AllAcknowledged, new LoopTcp.Ref(tcp));
                connection.Queue.Deliver();
            }
        }
    }
}

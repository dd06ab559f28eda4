using Xunit;

namespace Xdp.TcpLite.Tests.Tcp.Sending;

/// <summary>The ring of segments. What is done with them is tested through their users.</summary>
public class SendQueueTests
{
    // Beyond the rings that a queue keeps.
    private const int Long = 1500, Payload = 1000;

    private readonly BlockPool _blocks = new();
    private readonly FramePool _frames = new(new byte[2048], 2048, 1, receiveReserve: 0);

    [Fact]
    public void LongFlights_OneAfterTheOther_AllocateNothing()
    {
        var queue = new SendQueue();
        for (int i = 0; i < 3; i++)
            Fly();
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 10; i++)
            Fly();
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);

        void Fly()
        {
            for (int i = 0; i < Long; i++)
                Send(queue, i);
            Acknowledge(queue, Long);
        }
    }

    [Fact]
    public void LongFlights_SideBySide_KeepTheirOwnSegments()
    {
        SendQueue[] queues = [new(), new(), new()];
        for (int round = 0; round < 3; round++)
        {
            for (int i = 0; i < Long; i++)
            {
                foreach (SendQueue queue in queues)
                    Send(queue, i);
            }
            // Each gives its ring back at another time.
            for (int q = 0; q < queues.Length; q++)
            {
                AssertInOrder(queues[q]);
                if ((q + round) % 2 == 0)
                    Acknowledge(queues[q], Long);
                else
                    queues[q].ReturnAll();
                for (int i = 0; i < Long; i++)
                    Send(queues[q], i);
                for (int other = q + 1; other < queues.Length; other++)
                    AssertInOrder(queues[other]);
                queues[q].ReturnAll();
            }
        }

        static void AssertInOrder(SendQueue queue)
        {
            Assert.Equal(Long, queue.Count);
            for (int i = 0; i < queue.Count; i++)
                Assert.Equal(SeqOf(i), queue[i].Seq);
        }
    }

    private static SeqNumber SeqOf(int segment) => new((uint)(segment * Payload));

    private void Send(SendQueue queue, int segment)
    {
        Block block = _blocks.Take(Payload);
        block.Length = Payload;
        BlockQueue data = default;
        data.Enqueue(block);
        queue.Append(ref data, _frames, Payload);
        queue.Cut(Payload, SeqOf(segment), fin: false, default);
    }

    private static void Acknowledge(SendQueue queue, int segments)
    {
        for (int i = 0; i < segments; i++)
            queue.Acknowledge(Payload);
    }
}

namespace Xdp.TcpLite.Tests;

public class ReplyQueueTests
{
    private readonly ReplyQueue _queue = new(new TcpStackOptions());
    private readonly byte[] _frame = new byte[2048];

    private bool TryEnqueue(uint seq)
    {
        var fields = new SegmentFields { Seq = new SeqNumber(seq), Flags = TcpFlags.Rst };
        return _queue.TryEnqueue(SegmentBuilder.Path, SegmentBuilder.FlowV6, fields);
    }

    private Packet WriteNext()
    {
        int start = _queue.WriteNext(_frame, out _);
        ReadOnlySpan<byte> written = _frame.AsSpan(start, FramePool.PayloadStart - start);
        Assert.Equal(DropReason.None, PacketParser.Parse(written, acceptPartialChecksum: false, out Packet packet));
        return packet;
    }

    [Fact]
    public void WriteNext_GivesPathFlowAndFields()
    {
        Assert.True(TryEnqueue(77));
        Packet packet = WriteNext();
        FlowKey flow = SegmentBuilder.FlowV6;
        Assert.Equal(new FlowKey(flow.Remote, flow.Local, flow.RemotePort, flow.LocalPort), packet.Flow);
        LinkPath path = SegmentBuilder.Path;
        Assert.Equal((path.RemoteMac, path.LocalMac), (packet.Path.LocalMac, packet.Path.RemoteMac));
        Assert.Equal((new SeqNumber(77), TcpFlags.Rst), (packet.Seq, packet.Flags));
    }

    [Fact]
    public void Queue_FilledAndHalfEmptiedRepeatedly_KeepsTheOrderAndDropsWhatDoesNotFit()
    {
        uint next = 0;
        uint expected = 0;
        for (int round = 0; round < 5; round++)
        {
            while (_queue.Count < ReplyQueue.Capacity)
                Assert.True(TryEnqueue(next++));
            Assert.False(TryEnqueue(uint.MaxValue));
            while (_queue.Count > ReplyQueue.Capacity / 3)
                Assert.Equal(new SeqNumber(expected++), WriteNext().Seq);
        }
        while (_queue.Count > 0)
            Assert.Equal(new SeqNumber(expected++), WriteNext().Seq);
        Assert.Equal(next, expected);
    }
}

using Kestrel.Transport.Xdp.Internal.Queues;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Tests.Queues;

public class PacketChainTests
{
    private const int Frames = 256;

    private readonly FramePool _pool = new(new byte[Frames * 2048], 2048, Frames, receiveReserve: 0);
    private readonly QueueCounters _counters = new();
    private readonly PacketChain _chain = new();

    private bool Add(int length, bool continues, out BlockQueue packet)
    {
        Block frame = _pool.TryTakeForFill()!;
        _pool.Received(frame);
        return _chain.Add(frame, 256, length, continues, _counters, out packet);
    }

    [Fact]
    public void Frames_UpToTheLast_AreOnePacketInTheirOrder()
    {
        Assert.False(Add(1792, continues: true, out _));
        Assert.True(_chain.IsOpen);
        Assert.False(Add(1791, continues: true, out _));
        Assert.True(Add(1, continues: false, out BlockQueue packet));

        Assert.False(_chain.IsOpen);
        Assert.Equal(3584, packet.Bytes);
        Assert.Equal((1792, 1791, 1), (packet.Dequeue()!.Length, packet.Dequeue()!.Length, packet.Dequeue()!.Length));
        Assert.True(packet.IsEmpty);
        Assert.Equal((1, 0), (_counters.Chained, _counters.ChainedDropped));
    }

    /// <summary>All or nothing: no frame of it is left, and the next packet is sound.</summary>
    [Fact]
    public void TooManyFrames_AreDropped_AndTheNextPacketIsTaken()
    {
        for (int i = 0; i < 3 * PacketChain.MostFrames; i++)
        {
            Assert.False(Add(1000, continues: true, out _));
            Assert.InRange(Frames - _pool.FreeCount, 0, PacketChain.MostFrames);
        }
        Assert.False(Add(1000, continues: false, out BlockQueue packet));

        Assert.True(packet.IsEmpty);
        Assert.False(_chain.IsOpen);
        Assert.Equal(Frames, _pool.FreeCount);
        Assert.Equal((0, 1), (_counters.Chained, _counters.ChainedDropped));
        AssertTakesTheNext();
    }

    [Fact]
    public void AsManyFramesAsAllowed_AreTaken()
    {
        for (int i = 1; i < PacketChain.MostFrames; i++)
            Assert.False(Add(1000, continues: true, out _));
        Assert.True(Add(1000, continues: false, out BlockQueue packet));
        packet.ReturnAll();
        Assert.Equal((1, 0), (_counters.Chained, _counters.ChainedDropped));
    }

    /// <summary>First, in the middle, at the end.</summary>
    [Theory]
    [InlineData(0, 100, 100)]
    [InlineData(100, 0, 100)]
    [InlineData(100, 100, 0)]
    public void AnEmptyPart_DropsThePacket(int first, int second, int third)
    {
        Assert.False(Add(first, continues: true, out _));
        Assert.False(Add(second, continues: true, out _));
        Assert.False(Add(third, continues: false, out BlockQueue packet));

        Assert.True(packet.IsEmpty);
        Assert.Equal(Frames, _pool.FreeCount);
        Assert.Equal((0, 1), (_counters.Chained, _counters.ChainedDropped));
        AssertTakesTheNext();
    }

    /// <summary>The queue ends in the middle of a packet.</summary>
    [Fact]
    public void Clear_BringsTheFramesHome()
    {
        Add(1000, continues: true, out _);
        Add(1000, continues: true, out _);
        _chain.Clear();

        Assert.Equal(Frames, _pool.FreeCount);
        Assert.False(_chain.IsOpen);
        AssertTakesTheNext();
    }

    private void AssertTakesTheNext()
    {
        Assert.False(Add(10, continues: true, out _));
        Assert.True(Add(20, continues: false, out BlockQueue packet));
        Assert.Equal(30, packet.Bytes);
        packet.ReturnAll();
        Assert.Equal(Frames, _pool.FreeCount);
    }
}

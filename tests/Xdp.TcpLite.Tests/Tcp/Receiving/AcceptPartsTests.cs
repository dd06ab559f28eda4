namespace Xdp.TcpLite.Tests;

/// <summary>Payload of a segment that lies in several blocks.</summary>
public class AcceptPartsTests
{
    private const int Buffer = 100_000;
    private const uint First = 0xffff_fd00;

    private readonly PartRig _rig = new(new TcpStackOptions { ReceiveBufferMax = Buffer });
    private Receiver _receiver;

    public AcceptPartsTests()
    {
        _receiver = new Receiver(Buffer, sndMss: 1460, _rig.Now);
        _receiver.Start(new SeqNumber(First) - 1, ushort.MaxValue, shift: 0);
    }

    /// <summary>
    /// A segment that begins so far from the stream's first byte, with its payload in blocks of these lengths. Each
    /// byte is the lower half of its number.
    /// </summary>
    private void Accept(int offset, params int[] lengths)
    {
        SeqNumber at = new SeqNumber(First) + offset;
        int length = lengths.Sum();
        byte[] payload = [.. Enumerable.Range(0, length).Select(i => (byte)(at + i).Value)];
        BlockQueue blocks = Chains.Cut(payload, _rig.Environment.Blocks, lengths);
        Block first = blocks.Dequeue()!;
        Packet packet = PartRig.Segment(TcpFlags.Ack, at.Value) with { PayloadLength = length };
        if (_receiver.TryTrim(packet, out SeqNumber seq, out _, out int left))
        {
            _rig.Environment.FurtherParts = blocks;
            bool kept = _receiver.AcceptParts(
                at, seq, first, first.Start, left, hasSack: true, _rig.Environment.Options, _rig.Environment);
            Assert.False(kept);
            blocks = _rig.Environment.FurtherParts;
            _rig.Environment.FurtherParts = default;
        }
        first.Return();
        blocks.ReturnAll();
    }

    private int ReadAll()
    {
        BlockQueue taken = _receiver.Take(long.MaxValue);
        int bytes = 0;
        while (taken.Dequeue() is { } block)
        {
            foreach (byte b in block.Bytes)
                Assert.Equal((byte)(new SeqNumber(First) + bytes++).Value, b);
            block.Return();
        }
        Assert.Equal(0, _rig.Environment.Blocks.InUse);
        return bytes;
    }

    [Fact]
    public void PartsInOrder_AreTheStream()
    {
        Accept(0, 700, 1, 299);
        Assert.Equal(1000, ReadAll());
    }

    [Fact]
    public void PartsAheadOfAGap_WaitForIt()
    {
        Accept(500, 300, 300);
        Assert.Equal(0, _receiver.ReadableBytes);
        Accept(0, 200, 300);
        Assert.Equal(1100, ReadAll());
    }

    /// <summary>Old, old and new, new.</summary>
    [Fact]
    public void WhatIsHereAlready_IsCutOff()
    {
        Accept(0, 450);
        Accept(0, 300, 300, 300);
        Assert.Equal(900, ReadAll());
        Assert.True(_receiver.Acks.HasDuplicate);
    }

    /// <summary>The first part fills a gap, and what was behind the gap is in the second part as well.</summary>
    [Fact]
    public void APartThatFillsAGap_LeavesNothingTwice()
    {
        Accept(300, 500);
        Accept(0, 300, 300, 300);
        Assert.Equal(900, ReadAll());
        Assert.True(_receiver.Acks.HasDuplicate);
    }

    [Fact]
    public void WhatIsBeyondTheWindow_IsCutOff()
    {
        for (int i = 0; i < ushort.MaxValue / 4000; i++)
            Accept(i * 4000, 2000, 2000);
        int left = _receiver.AnnouncedWindow;
        Accept(64_000, left - 10, 2000, 2000);
        Assert.Equal(0, _receiver.AnnouncedWindow);
        Assert.Equal(ushort.MaxValue, ReadAll());
    }

    /// <summary>
    /// What fills a block is taken, since the connection holds nothing. Once there is no memory for what is next, what
    /// follows would make a gap.
    /// </summary>
    [Fact]
    public void WithoutMemoryForAPart_NothingOfTheRestIsTaken()
    {
        var rig = new PartRig(new TcpStackOptions { ReceiveMinimum = 0, MemoryHigh = 0 });
        var receiver = new Receiver(Buffer, sndMss: 1460, rig.Now);
        receiver.Start(new SeqNumber(First) - 1, ushort.MaxValue, shift: 0);
        BlockQueue blocks = Chains.Cut(new byte[4696], rig.Environment.Blocks, 4096, 300, 300);
        Block first = blocks.Dequeue()!;
        rig.Environment.FurtherParts = blocks;

        receiver.AcceptParts(
            new SeqNumber(First), new SeqNumber(First), first, first.Start, 4696, hasSack: true,
            rig.Environment.Options, rig.Environment);

        Assert.Equal(new SeqNumber(First) + 4096, receiver.RcvNxt);
        rig.AssertDropped(DropReason.NoMemory);
        Assert.Equal(0, rig.Counters.OutOfOrderSegments);
        first.Return();
        rig.Environment.FurtherParts.ReturnAll();
        receiver.ReturnReceived();
        Assert.Equal(0, rig.Environment.Blocks.InUse);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void AnyOrderOfOverlappingSegments_IsTheStream(int seed)
    {
        const int Bytes = 30_000;
        var random = new Random(seed);
        while (_receiver.BytesReceived < Bytes)
        {
            int offset = random.Next(Math.Min(Bytes, (int)_receiver.BytesReceived + 4000));
            int[] lengths = [.. Enumerable.Range(0, random.Next(1, 6)).Select(_ => random.Next(1, 700))];
            if (offset + lengths.Sum() <= Bytes)
                Accept(offset, lengths);
            else
                Accept(offset, Bytes - offset);
        }
        Assert.Equal(Bytes, ReadAll());
    }
}

namespace Xdp.TcpLite.Tests;

public class TcpOptionTests
{
    private static Packet Parse(byte[] options, TcpFlags flags = TcpFlags.Syn)
    {
        Assert.Equal(0, options.Length % 4);
        var builder = new SegmentBuilder
        {
            Fields = new SegmentFields { Flags = flags },
            Payload = "abc"u8.ToArray(),
        };
        byte[] plain = builder.Build();
        byte[] frame = [.. plain[..54], .. options, .. plain[54..]];
        SegmentBuilder.Put(frame.AsSpan(16), (ushort)(frame.Length - 14));
        frame[34 + 12] = (byte)((20 + options.Length) << 2);
        SegmentBuilder.FixChecksums(frame, 14, 34, frame.Length - 34);
        Assert.Equal(DropReason.None, PacketParserTests.Parse(frame, out Packet packet));
        Assert.Equal("abc"u8, frame.AsSpan(packet.PayloadStart, packet.PayloadLength));
        return packet;
    }

    [Fact]
    public void Options_OfASyn_AreAllRead()
    {
        Packet packet = Parse([2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 7]);
        Assert.Equal(1460, packet.Mss);
        Assert.True(packet.SackPermitted);
        Assert.True(packet.HasTimestamps);
        Assert.Equal(1u, packet.TsVal);
        Assert.Equal(2u, packet.TsEcr);
        Assert.True(packet.HasWindowScale);
        Assert.Equal(7, packet.WindowScale);
    }

    [Fact]
    public void Options_SynOnly_DoNotCountElsewhere()
    {
        Packet packet = Parse([2, 4, 5, 0xb4, 1, 1, 4, 2, 1, 3, 3, 7], TcpFlags.Ack);
        Assert.Equal(0, packet.Mss);
        Assert.False(packet.SackPermitted);
        Assert.False(packet.HasWindowScale);
    }

    [Theory]
    [InlineData(0, 0)]
    [InlineData(14, 14)]
    [InlineData(15, 14)]
    [InlineData(255, 14)]
    public void WindowScale_Above14_CountsAs14(byte sent, byte seen) =>
        Assert.Equal(seen, Parse([1, 3, 3, sent]).WindowScale);

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(48)]
    [InlineData(65535)]
    public void Mss_AnyValue_IsGivenRaw(int mss) => Assert.Equal(mss, Parse([2, 4, (byte)(mss >> 8), (byte)mss]).Mss);

    [Theory]
    [InlineData(0)] // no length at all
    [InlineData(1)] // shorter than kind and length
    [InlineData(5)] // past the header
    [InlineData(255)]
    public void Options_BadLength_EndsThemAndKeepsWhatCameBefore(byte length)
    {
        Packet packet = Parse([2, 4, 5, 0xb4, 253, length, 3, 3]);
        Assert.Equal(1460, packet.Mss);
        Assert.False(packet.HasWindowScale);
    }

    [Fact]
    public void Options_KindInTheLastByte_IsIgnored() => Assert.Equal(536, Parse([2, 4, 2, 24, 1, 1, 1, 2]).Mss);

    [Fact]
    public void Options_AfterEnd_AreIgnored() => Assert.Equal(0, Parse([0, 2, 4, 5, 0xb4, 0, 0, 0]).Mss);

    [Fact]
    public void Options_Unknown_AreSkipped() =>
        Assert.Equal(1460, Parse([253, 6, 2, 4, 9, 9, 30, 2, 2, 4, 5, 0xb4]).Mss);

    [Fact]
    public void Options_Duplicated_TheLastCounts()
    {
        Packet packet = Parse([2, 4, 1, 1, 2, 4, 2, 2, 3, 3, 1, 3, 3, 2, 1, 1]);
        Assert.Equal(0x0202, packet.Mss);
        Assert.Equal(2, packet.WindowScale);
        packet = Parse([5, 10, 0, 0, 0, 1, 0, 0, 0, 2, 5, 10, 0, 0, 0, 3, 0, 0, 0, 4], TcpFlags.Ack);
        Assert.Equal(1, packet.Sack.Count);
        Assert.Equal((new SeqNumber(3), new SeqNumber(4)), packet.Sack[0]);
    }

    [Theory]
    [InlineData(new byte[] { 2, 3, 5, 1 })]
    [InlineData(new byte[] { 3, 4, 5, 1 })]
    [InlineData(new byte[] { 4, 3, 5, 1 })]
    [InlineData(new byte[] { 8, 9, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1 })]
    [InlineData(new byte[] { 8, 12, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1 })]
    [InlineData(new byte[] { 5, 2, 1, 1 })]
    [InlineData(new byte[] { 5, 9, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1 })]
    [InlineData(new byte[] { 5, 11, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1 })]
    public void Options_OfOtherLengthThanTheirKind_AreSkipped(byte[] options)
    {
        Packet packet = Parse(options);
        Assert.Equal(0, packet.Mss);
        Assert.False(packet.HasWindowScale);
        Assert.False(packet.SackPermitted);
        Assert.False(packet.HasTimestamps);
        Assert.Equal(0, packet.Sack.Count);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void Sack_UpToFourBlocks_AreRead(int count)
    {
        var options = new List<byte> { 1, 1, 5, (byte)(2 + 8 * count) };
        for (int i = 0; i < count; i++)
            options.AddRange([0, 0, (byte)i, 1, 0, 0, (byte)i, 9]);
        Packet packet = Parse([.. options], TcpFlags.Ack);
        Assert.Equal(count, packet.Sack.Count);
        for (int i = 0; i < count; i++)
            Assert.Equal((new SeqNumber((uint)(i << 8 | 1)), new SeqNumber((uint)(i << 8 | 9))), packet.Sack[i]);
    }

    [Fact]
    public void SackBlocks_Full_TakeNoMore()
    {
        var blocks = new SackBlocks();
        for (uint i = 0; i < SackBlocks.Capacity; i++)
            Assert.True(blocks.Add(new SeqNumber(i), new SeqNumber(i + 1)));
        Assert.False(blocks.Add(default, default));
        Assert.Equal(new SeqNumber(3), blocks[3].Left);
        Assert.Throws<ArgumentOutOfRangeException>(() => new SackBlocks()[0]);
    }
}

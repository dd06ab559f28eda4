namespace Xdp.TcpLite.Tests;

public class SegmentWriterTests
{
    private static byte[] Options(in SegmentFields fields)
    {
        var buffer = new byte[256];
        int start = SegmentWriter.Write(buffer, 200, 0, SegmentBuilder.Path, SegmentBuilder.FlowV4, fields);
        byte[] options = buffer[(start + 54)..200];
        Assert.Equal(options.Length, SegmentWriter.OptionsLength(fields));
        Assert.Equal((20 + options.Length) / 4, buffer[start + 46] >> 4);
        return options;
    }

    private static SackBlocks Blocks(int count)
    {
        var blocks = new SackBlocks();
        for (uint i = 0; i < count; i++)
            blocks.Add(new SeqNumber(i), new SeqNumber(i + 0x100));
        return blocks;
    }

    [Fact]
    public void Write_OptionSets_AreLaidOutAsLinuxDoes()
    {
        var ts = new SegmentFields { HasTimestamps = true, TsVal = 1, TsEcr = 2 };
        Assert.Empty(Options(new SegmentFields()));
        Assert.Equal([2, 4, 5, 0xb4], Options(new SegmentFields { Mss = 1460 }));
        Assert.Equal([1, 1, 4, 2], Options(new SegmentFields { SackPermitted = true }));
        Assert.Equal([1, 3, 3, 7], Options(new SegmentFields { HasWindowScale = true, WindowScale = 7 }));
        Assert.Equal([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2], Options(ts));
        Assert.Equal(
            [2, 4, 5, 0xb4, 1, 1, 4, 2, 1, 3, 3, 7],
            Options(new SegmentFields { Mss = 1460, SackPermitted = true, HasWindowScale = true, WindowScale = 7 }));
        Assert.Equal([2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 7],
            Options(ts with { Mss = 1460, SackPermitted = true, HasWindowScale = true, WindowScale = 7 }));
        Assert.Equal([1, 1, 5, 10, 0, 0, 0, 0, 0, 0, 1, 0], Options(new SegmentFields { Sack = Blocks(1) }));
        Assert.Equal([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1, 5, 18, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 1, 1],
            Options(ts with { Sack = Blocks(2) }));
    }

    [Theory]
    [InlineData(false, 4, 36)]
    [InlineData(true, 4, 40)]
    [InlineData(true, 3, 40)]
    public void Write_MoreSackBlocksThanFit_WritesTheFirst(bool timestamps, int blocks, int length) =>
        Assert.Equal(length, Options(new SegmentFields { HasTimestamps = timestamps, Sack = Blocks(blocks) }).Length);

    [Fact]
    public void Write_EveryPayloadLength_HasValidChecksumsAndLengths()
    {
        var random = new Random(3);
        foreach (FlowKey flow in new[] { SegmentBuilder.FlowV4, SegmentBuilder.FlowV6 })
        {
            for (int length = 0; length <= 1460; length += length < 70 ? 1 : 13)
            {
                var builder = new SegmentBuilder { Flow = flow, Payload = new byte[length] };
                random.NextBytes(builder.Payload);
                builder = builder with
                {
                    Fields = builder.Fields with
                    {
                        IpId = (ushort)random.Next(),
                        Ecn = (byte)random.Next(4),
                        Seq = new SeqNumber((uint)random.Next()),
                    },
                };
                byte[] frame = builder.Build();
                byte[] check = [.. frame];
                SegmentBuilder.FixChecksums(check, builder.IpStart, builder.TcpStart, frame.Length - builder.TcpStart);
                Assert.Equal(check, frame);
                Assert.Equal(DropReason.None, PacketParserTests.Parse(frame, out Packet packet));
                Assert.Equal(length, packet.PayloadLength);
            }
        }
    }

    [Fact]
    public void Write_SegmentToAnswerAPacket_NeedsOnlyTheParsedPacket()
    {
        LinkPath tagged = SegmentBuilder.Path with { TagCount = 1, OuterTag = LinkPath.Tag(0x8100, 7) };
        byte[] frame = new SegmentBuilder { Link = tagged }.Build();
        PacketParserTests.Parse(frame, out Packet packet);
        var buffer = new byte[SegmentWriter.MaxHeaderLength];
        var reset = new SegmentFields { Seq = packet.Ack, Flags = TcpFlags.Rst };
        int start = SegmentWriter.Write(buffer, buffer.Length, 0, packet.Path, packet.Flow, reset);
        byte[] answer = buffer[start..];
        Assert.Equal(frame[..6], answer[6..12]);
        Assert.Equal(frame[6..12], answer[..6]);
        Assert.Equal(DropReason.None, PacketParserTests.Parse(answer, out Packet seen));
        Assert.Equal(
            packet.Flow, new FlowKey(seen.Flow.Remote, seen.Flow.Local, seen.Flow.RemotePort, seen.Flow.LocalPort));
        Assert.Equal(packet.Path.OuterTag, seen.Path.OuterTag);
        Assert.True(seen.IsRst);
    }

    [Fact]
    public void Write_LargestHeaders_FitTheHeadroom()
    {
        Assert.Equal(122, SegmentWriter.MaxHeaderLength);
        LinkPath path = SegmentBuilder.Path with { TagCount = 2, OuterTag = 0x88a80001, InnerTag = 0x81000002 };
        var buffer = new byte[122];
        var fields = new SegmentFields { HasTimestamps = true, Sack = Blocks(3) };
        Assert.Equal(0, SegmentWriter.Write(buffer, 122, 0, path, SegmentBuilder.FlowV6, fields));
    }

    [Fact]
    public void Write_RandomSegments_ComeBackAsTheyWere()
    {
        var random = new Random(10);
        for (int i = 0; i < 20_000; i++)
        {
            SegmentFields fields = RandomFields(random);
            var builder = new SegmentBuilder
            {
                Flow = random.Next(2) == 0 ? SegmentBuilder.FlowV4 : SegmentBuilder.FlowV6,
                Fields = fields,
                Payload = new byte[random.Next(50)],
                Padding = random.Next(10),
            };
            byte[] frame = builder.Build();
            Assert.Equal(DropReason.None, PacketParserTests.Parse(frame, out Packet packet));
            Assert.Equal(fields.Seq, packet.Seq);
            Assert.Equal(fields.Ack, packet.Ack);
            Assert.Equal(fields.Flags, packet.Flags);
            Assert.Equal(fields.Window, packet.Window);
            Assert.Equal(fields.Ecn, packet.Ecn);
            Assert.Equal(fields.HasTimestamps, packet.HasTimestamps);
            Assert.Equal(fields.HasTimestamps ? (fields.TsVal, fields.TsEcr) : (0, 0), (packet.TsVal, packet.TsEcr));
            Assert.Equal(packet.IsSyn ? fields.Mss : 0, packet.Mss);
            Assert.Equal(packet.IsSyn && fields.HasWindowScale, packet.HasWindowScale);
            Assert.Equal(packet.IsSyn && fields.HasWindowScale ? fields.WindowScale : 0, packet.WindowScale);
            Assert.Equal(packet.IsSyn && fields.SackPermitted, packet.SackPermitted);
            Assert.Equal(builder.Payload.Length, packet.PayloadLength);
            int options = packet.PayloadStart - builder.TcpStart - 20;
            Assert.Equal(SegmentWriter.OptionsLength(fields), options);
            Assert.True(packet.Sack.Count == fields.Sack.Count || options + 8 > 40);
            for (int n = 0; n < packet.Sack.Count; n++)
                Assert.Equal(fields.Sack[n], packet.Sack[n]);
        }
    }

    private static SegmentFields RandomFields(Random random)
    {
        uint Word() => (uint)random.NextInt64(1L << 32);
        bool Coin() => random.Next(2) == 0;
        var fields = new SegmentFields
        {
            Seq = new SeqNumber(Word()),
            Ack = new SeqNumber(Word()),
            Flags = (TcpFlags)random.Next(256),
            Window = (ushort)Word(),
            Ecn = (byte)random.Next(4),
            IpId = (ushort)Word(),
            Mss = Coin() ? (ushort)Word() : (ushort)0,
            HasWindowScale = Coin(),
            WindowScale = (byte)random.Next(15),
            SackPermitted = Coin(),
            HasTimestamps = Coin(),
            TsVal = Word(),
            TsEcr = Word(),
        };
        for (int i = random.Next(5); i > 0; i--)
            fields.Sack.Add(new SeqNumber(Word()), new SeqNumber(Word()));
        return fields;
    }

    [Fact]
    public void WriteAndParse_DoNotAllocate()
    {
        var buffer = new byte[2048];
        SegmentFields fields = RandomFields(new Random(11));
        long allocated = 0;
        for (int round = 0; round < 2; round++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            for (int i = 0; i < 100; i++)
            {
                int start = SegmentWriter.Write(buffer, 256, i, SegmentBuilder.Path, SegmentBuilder.FlowV4, fields);
                PacketParser.Parse(buffer.AsSpan(start, 256 + i - start), acceptPartialChecksum: i % 2 == 0, out _);
            }
            allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        }
        Assert.Equal(0, allocated);
    }
}

namespace Xdp.TcpLite.Tests;

/// <summary>A segment that lies in several blocks is parsed as if it lay in one.</summary>
public class ChainParserTests
{
    private const int Length = 300;

    private readonly BlockPool _blocks = new();

    private static SegmentBuilder Segment(bool isIPv6) => new()
    {
        Flow = isIPv6 ? SegmentBuilder.FlowV6 : SegmentBuilder.FlowV4,
        Payload = [.. Enumerable.Range(1, Length).Select(i => (byte)(i * 7))],
    };

    private DropReason Parse(
        ReadOnlySpan<byte> frame, out Packet packet, bool acceptPartial = false, params ReadOnlySpan<int> lengths)
    {
        BlockQueue chain = Chains.Cut(frame, _blocks, lengths);
        Block first = chain.Dequeue()!;
        DropReason reason = PacketParser.Parse(first.Bytes, acceptPartial, out packet, LinkType.Ethernet, chain);
        first.Return();
        chain.ReturnAll();
        return reason;
    }

    /// <summary>With odd lengths, the halves of words that a part begins with are those of the part before.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void AnyCutBehindTheHeaders_IsTheSameSegment(bool isIPv6)
    {
        SegmentBuilder segment = Segment(isIPv6);
        byte[] frame = segment.Build();
        Assert.Equal(DropReason.None, PacketParserTests.Parse(frame, out Packet whole));
        int headers = whole.PayloadStart;
        for (int cut = headers; cut < frame.Length - 3; cut++)
        {
            Assert.Equal(
                DropReason.None, Parse(frame, out Packet packet, false, cut, 3, frame.Length - cut - 3));
            Assert.Equal(
                (whole.Flow, whole.Seq, whole.PayloadStart, Length),
                (packet.Flow, packet.Seq, packet.PayloadStart, packet.PayloadLength));
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void AWrongByteInAnyPart_IsABadChecksum(bool isIPv6)
    {
        byte[] frame = Segment(isIPv6).Build();
        for (int wrong = 100; wrong < frame.Length; wrong++)
        {
            frame[wrong] ^= 0x20;
            Assert.Equal(DropReason.BadTcpChecksum, Parse(frame, out _, false, 101, 33, 2, frame.Length - 136));
            frame[wrong] ^= 0x20;
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void ACutInTheHeaders_IsADrop(bool isIPv6)
    {
        byte[] frame = Segment(isIPv6).Build();
        Assert.Equal(DropReason.None, PacketParserTests.Parse(frame, out Packet whole));
        for (int cut = 0; cut < whole.PayloadStart; cut++)
            Assert.NotEqual(DropReason.None, Parse(frame, out _, true, cut, frame.Length - cut));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void LessThanTheIpHeaderSays_IsADrop(bool isIPv6)
    {
        byte[] frame = Segment(isIPv6).Build();
        Assert.Equal(DropReason.BadIpLength, Parse(frame.AsSpan(..^1), out _, true, 120, frame.Length - 121));
    }

    /// <summary>Also where a whole part is padding.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void PaddingBehindTheSegment_IsNoPayload(bool isIPv6)
    {
        byte[] frame = (Segment(isIPv6) with { Padding = 9 }).Build();
        Assert.Equal(DropReason.None, Parse(frame, out Packet packet, false, 120, frame.Length - 126, 6));
        Assert.Equal(Length, packet.PayloadLength);
    }

    /// <summary>What a device delivers that leaves the checksum to others: the sum of the pseudo-header.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void APartialChecksum_CoversTheWholeLength(bool isIPv6)
    {
        SegmentBuilder segment = Segment(isIPv6);
        byte[] frame = segment.Build();
        ulong pseudo = Checksum.PseudoHeader(
            segment.Flow.Local, segment.Flow.Remote, Checksum.ProtocolTcp, frame.Length - segment.TcpStart);
        SegmentBuilder.Put(frame.AsSpan(segment.TcpStart + 16), Checksum.Fold(pseudo));
        Assert.Equal(DropReason.None, Parse(frame, out _, acceptPartial: true, 120, frame.Length - 120));
        Assert.Equal(DropReason.BadTcpChecksum, Parse(frame, out _, acceptPartial: false, 120, frame.Length - 120));
    }
}

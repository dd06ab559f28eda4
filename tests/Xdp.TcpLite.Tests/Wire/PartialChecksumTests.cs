using System.Buffers.Binary;

namespace Xdp.TcpLite.Tests;

public class PartialChecksumTests
{
    [Theory]
    [InlineData(false, 0)]
    [InlineData(false, 101)]
    [InlineData(true, 64)]
    public void Complete_MakesTheSegmentGood(bool isIPv6, int payload)
    {
        byte[] whole = new SegmentBuilder
        {
            Flow = isIPv6 ? SegmentBuilder.FlowV6 : SegmentBuilder.FlowV4,
            Payload = new byte[payload],
        }.Build();
        byte[] partial = [.. whole];
        int field = (isIPv6 ? 54 : 34) + 16;
        BinaryPrimitives.WriteUInt16BigEndian(partial.AsSpan(field), 0x1234);
        Assert.Equal(DropReason.BadTcpChecksum, PacketParser.Parse(partial, acceptPartialChecksum: false, out _));
        PartialChecksum.Complete(partial);
        Assert.Equal(whole, partial);
    }

    [Fact]
    public void Complete_NoTcpSegment_StaysAsItIs()
    {
        byte[] packet = new byte[60];
        PartialChecksum.Complete(packet);
        Assert.All(packet, value => Assert.Equal(0, value));
        PartialChecksum.Complete([]);
    }
}

using System.Buffers.Binary;

namespace Xdp.TcpLite.Tests;

public class IcmpTests
{
    private static readonly IpAddr s_routerV4 = IpAddr.FromIPv4(0x0a0000fe);
    private static readonly IpAddr s_routerV6 = new(0xfe80_0000_0000_0000, 0xfe);

    /// <summary>
    /// A router's answer to a segment of this host's, quoting <paramref name="quoted"/> bytes of it. Too big, unless
    /// the type says otherwise.
    /// </summary>
    private static byte[] Error(
        bool isIPv6, uint mtu, int quoted, byte? type = null, byte? code = null, byte quotedProtocol = 6)
    {
        FlowKey flow = isIPv6 ? SegmentBuilder.FlowV6 : SegmentBuilder.FlowV4;
        var buffer = new byte[2048];
        int start = SegmentWriter.Write(
            buffer, 256, 100, SegmentBuilder.Path, flow, new SegmentFields { Seq = new SeqNumber(0xcafe0001) });
        byte[] quote = buffer[(start + 14)..(start + 14 + quoted)];
        if (quoted > 20)
            quote[isIPv6 ? 6 : 9] = quotedProtocol;
        byte[] icmp = [type ?? (byte)(isIPv6 ? 2 : 3), code ?? (byte)(isIPv6 ? 0 : 4), 0, 0, 0, 0, 0, 0, .. quote];
        BinaryPrimitives.WriteUInt32BigEndian(icmp.AsSpan(4), mtu);
        IpAddr router = isIPv6 ? s_routerV6 : s_routerV4;
        ulong pseudo = isIPv6 ? Checksum.PseudoHeader(router, flow.Local, 58, icmp.Length) : 0;
        SegmentBuilder.Put(icmp.AsSpan(2), (ushort)~Checksum.Fold(Checksum.Sum(icmp, pseudo)));

        byte[] outer = new SegmentBuilder { Flow = flow with { Remote = router } }.Build()[..(isIPv6 ? 54 : 34)];
        byte[] frame = [.. outer, .. icmp, 0xEE, 0xEE];
        if (isIPv6)
        {
            frame[14 + 6] = 58;
            SegmentBuilder.Put(frame.AsSpan(14 + 4), (ushort)icmp.Length);
        }
        else
        {
            frame[14 + 9] = 1;
            SegmentBuilder.Put(frame.AsSpan(14 + 2), (ushort)(20 + icmp.Length));
            SegmentBuilder.Put(frame.AsSpan(14 + 10), 0);
            SegmentBuilder.Put(frame.AsSpan(14 + 10), SegmentBuilder.NaiveChecksum(frame.AsSpan(14, 20)));
        }
        return frame;
    }

    [Theory]
    [InlineData(false, 1400u, 28)]
    [InlineData(false, 0u, 120)]
    [InlineData(true, 1280u, 48)]
    [InlineData(true, 0xffffffffu, 140)]
    public void ParseIcmp_TooBig_GivesFlowSequenceAndMtu(bool isIPv6, uint mtu, int quoted)
    {
        byte[] frame = Error(isIPv6, mtu, quoted);
        Assert.Equal(DropReason.NotTcp, PacketParserTests.Parse(frame, out _));
        Assert.Equal(DropReason.None, PacketParser.ParseIcmp(frame, out IcmpError error));
        Assert.Equal(isIPv6 ? SegmentBuilder.FlowV6 : SegmentBuilder.FlowV4, error.Flow);
        Assert.Equal(new SeqNumber(0xcafe0001), error.Seq);
        Assert.Equal((int)Math.Min(mtu, int.MaxValue), error.Mtu);
    }

    /// <summary>Whatever is in the place of the MTU, as in extended messages (RFC 4884), is none.</summary>
    [Theory]
    [InlineData(false, 3, 0)]
    [InlineData(false, 3, 1)]
    [InlineData(false, 3, 2)]
    [InlineData(false, 3, 3)]
    [InlineData(false, 3, 15)]
    [InlineData(false, 11, 0)]
    [InlineData(false, 12, 0)]
    [InlineData(true, 1, 0)]
    [InlineData(true, 1, 4)]
    [InlineData(true, 3, 0)]
    [InlineData(true, 4, 1)]
    public void ParseIcmp_NotDelivered_GivesFlowAndSequence(bool isIPv6, byte type, byte code)
    {
        Assert.Equal(
            DropReason.None, PacketParser.ParseIcmp(Error(isIPv6, 1280, 60, type, code), out IcmpError error));
        Assert.Equal(isIPv6 ? SegmentBuilder.FlowV6 : SegmentBuilder.FlowV4, error.Flow);
        Assert.Equal((new SeqNumber(0xcafe0001), null), (error.Seq, error.Mtu));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void ParseIcmp_CutAtEveryByte_IsDropped(bool isIPv6)
    {
        int whole = isIPv6 ? 48 : 28;
        for (int quoted = 0; quoted < whole; quoted++)
            Assert.Equal(DropReason.BadIcmp, PacketParser.ParseIcmp(Error(isIPv6, 1280, quoted), out _));
        byte[] frame = Error(isIPv6, 1280, whole);
        for (int length = 0; length < frame.Length - 2; length++)
            Assert.NotEqual(DropReason.None, PacketParser.ParseIcmp(frame.AsSpan(0, length), out _));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void ParseIcmp_EveryBitOfTheMessageFlipped_IsDropped(bool isIPv6)
    {
        byte[] frame = Error(isIPv6, 1280, 60);
        for (int at = isIPv6 ? 54 : 34; at < frame.Length - 2; at++)
        {
            frame[at] ^= 0x10;
            Assert.Equal(DropReason.BadIcmp, PacketParser.ParseIcmp(frame, out _));
            frame[at] ^= 0x10;
        }
    }

    [Fact]
    public void ParseIcmp_OtherMessages_AreDropped()
    {
        Assert.Equal(DropReason.BadIcmp, PacketParser.ParseIcmp(Error(false, 1280, 60, type: 8, code: 0), out _));
        Assert.Equal(DropReason.BadIcmp, PacketParser.ParseIcmp(Error(false, 1280, 60, code: 16), out _));
        Assert.Equal(DropReason.BadIcmp, PacketParser.ParseIcmp(Error(false, 1280, 60, type: 5, code: 1), out _));
        Assert.Equal(DropReason.BadIcmp, PacketParser.ParseIcmp(Error(true, 1280, 60, type: 5), out _));
        Assert.Equal(DropReason.BadIcmp, PacketParser.ParseIcmp(Error(true, 1280, 60, type: 129), out _));
        Assert.Equal(DropReason.BadIcmp, PacketParser.ParseIcmp(Error(false, 1280, 60, quotedProtocol: 17), out _));
        Assert.Equal(DropReason.BadIcmp, PacketParser.ParseIcmp(Error(true, 1280, 60, quotedProtocol: 17), out _));
        Assert.Equal(DropReason.NotTcp, PacketParser.ParseIcmp(new SegmentBuilder().Build(), out _));
    }
}

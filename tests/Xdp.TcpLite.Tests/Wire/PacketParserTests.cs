namespace Xdp.TcpLite.Tests;

public class PacketParserTests
{
    private static readonly SegmentBuilder s_v4 = new() { Payload = "hello"u8.ToArray() };
    private static readonly SegmentBuilder s_v6 = s_v4 with { Flow = SegmentBuilder.FlowV6 };

    internal static DropReason Parse(ReadOnlySpan<byte> frame, out Packet packet) =>
        PacketParser.Parse(frame, acceptPartialChecksum: false, out packet);

    private static DropReason Parse(ReadOnlySpan<byte> frame) => Parse(frame, out _);

    public static TheoryData<bool, int> FamiliesAndTags
    {
        get
        {
            var data = new TheoryData<bool, int>();
            foreach (bool isIPv6 in new[] { false, true })
            {
                for (int tags = 0; tags <= 2; tags++)
                    data.Add(isIPv6, tags);
            }
            return data;
        }
    }

    private static SegmentBuilder Full(bool isIPv6, int tags)
    {
        var sack = new SackBlocks();
        sack.Add(new SeqNumber(5), new SeqNumber(6));
        sack.Add(new SeqNumber(7), new SeqNumber(9));
        sack.Add(new SeqNumber(uint.MaxValue), new SeqNumber(3));
        return new SegmentBuilder
        {
            Flow = isIPv6 ? SegmentBuilder.FlowV6 : SegmentBuilder.FlowV4,
            Link = SegmentBuilder.Path with
            {
                TagCount = tags,
                OuterTag = tags > 0 ? LinkPath.Tag((ushort)(tags == 2 ? 0x88a8 : 0x8100), 0x2064) : 0,
                InnerTag = tags > 1 ? LinkPath.Tag(0x8100, 42) : 0,
            },
            Fields = new SegmentFields
            {
                Seq = new SeqNumber(0xfffffff0),
                Ack = new SeqNumber(0x80000001),
                Flags = TcpFlags.Ack | TcpFlags.Psh | TcpFlags.Fin | TcpFlags.Ece | TcpFlags.Cwr,
                Window = 0xabcd,
                Ecn = 3,
                IpId = 0x7777,
                HasTimestamps = true,
                TsVal = 0xdeadbeef,
                TsEcr = 0x01020304,
                Sack = sack,
            },
            Payload = "the quick brown fox"u8.ToArray(),
        };
    }

    [Theory]
    [MemberData(nameof(FamiliesAndTags))]
    public void Parse_WrittenSegment_GivesEveryFieldBack(bool isIPv6, int tags)
    {
        SegmentBuilder builder = Full(isIPv6, tags);
        foreach (int padding in new[] { 0, 1, 30 })
        {
            byte[] frame = (builder with { Padding = padding }).Build();
            Assert.Equal(DropReason.None, Parse(frame, out Packet packet));
            Assert.Equal(builder.Flow, packet.Flow);
            Assert.Equal(builder.Link, packet.Path);
            Assert.Equal(builder.Fields.Seq, packet.Seq);
            Assert.Equal(builder.Fields.Ack, packet.Ack);
            Assert.Equal(builder.Fields.Flags, packet.Flags);
            Assert.Equal(builder.Fields.Window, packet.Window);
            Assert.Equal(3, packet.Ecn);
            Assert.Equal(64, packet.Ttl);
            Assert.True(packet.HasTimestamps);
            Assert.Equal(0xdeadbeef, packet.TsVal);
            Assert.Equal(0x01020304u, packet.TsEcr);
            Assert.Equal(3, packet.Sack.Count);
            Assert.Equal((new SeqNumber(uint.MaxValue), new SeqNumber(3)), packet.Sack[2]);
            Assert.Equal(builder.Payload, frame.AsSpan(packet.PayloadStart, packet.PayloadLength).ToArray());
            Assert.Equal(builder.Payload.Length + 1, packet.SegmentLength);
            Assert.Equal(new SeqNumber(4), packet.End);
            Assert.False(packet.SackPermitted);
            Assert.False(packet.HasWindowScale);
            Assert.Equal(0, packet.Mss);
        }
    }

    [Theory]
    [MemberData(nameof(FamiliesAndTags))]
    public void Parse_CutAtEveryByte_IsDropped(bool isIPv6, int tags)
    {
        byte[] frame = Full(isIPv6, tags).Build();
        for (int length = 0; length < frame.Length; length++)
        {
            DropReason reason = Parse(frame.AsSpan(0, length));
            Assert.True(reason is DropReason.TooShort or DropReason.BadIpLength, $"{length}: {reason}");
        }
    }

    [Theory]
    [MemberData(nameof(FamiliesAndTags))]
    public void Parse_IpLengthCutAtEveryByte_NeverReadsBeyondIt(bool isIPv6, int tags)
    {
        SegmentBuilder builder = Full(isIPv6, tags);
        byte[] whole = builder.Build();
        int tcpLength = whole.Length - builder.TcpStart;
        for (int length = 0; length < tcpLength; length++)
        {
            byte[] frame = [.. whole];
            int field = isIPv6 ? builder.IpStart + 4 : builder.IpStart + 2;
            SegmentBuilder.Put(frame.AsSpan(field), (ushort)(isIPv6 ? length : 20 + length));
            if (length >= 18)
                SegmentBuilder.FixChecksums(frame, builder.IpStart, builder.TcpStart, length);
            else if (!isIPv6)
                FixIPv4(frame, builder.IpStart);
            DropReason reason = Parse(frame, out Packet packet);
            int headerLength = (frame[builder.TcpStart + 12] >> 4) * 4;
            if (length >= headerLength)
            {
                Assert.Equal(DropReason.None, reason);
                Assert.Equal(length - headerLength, packet.PayloadLength);
            }
            else
            {
                Assert.True(reason is DropReason.BadTcpHeader or DropReason.BadIpLength, $"{length}: {reason}");
            }
        }
    }

    private static void FixIPv4(byte[] frame, int ipStart)
    {
        Span<byte> ip = frame.AsSpan(ipStart, (frame[ipStart] & 0xf) * 4);
        ip[10] = ip[11] = 0;
        SegmentBuilder.Put(ip[10..], SegmentBuilder.NaiveChecksum(ip));
    }

    [Theory]
    [MemberData(nameof(FamiliesAndTags))]
    public void Parse_EveryBitFlipped_IsDroppedOrOutsideTheChecksums(bool isIPv6, int tags)
    {
        SegmentBuilder builder = Full(isIPv6, tags);
        byte[] frame = builder.Build();
        for (int bit = 0; bit < frame.Length * 8; bit++)
        {
            int at = bit / 8;
            frame[at] ^= (byte)(1 << bit % 8);
            DropReason reason = Parse(frame);
            frame[at] ^= (byte)(1 << bit % 8);
            // Without a checksum in the IPv6 header, only its lengths, next header and addresses are.
            int ip = at - builder.IpStart;
            bool covered = isIPv6 ? ip is 4 or 5 or 6 or >= 8 : ip >= 0;
            if (covered)
                Assert.True(reason != DropReason.None, $"bit {bit % 8} of byte {at}");
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Parse_EveryHeaderByteWithEveryValue_NeverThrowsAndStaysInTheFrame(bool isIPv6)
    {
        SegmentBuilder builder = Full(isIPv6, 1) with { Padding = 8 };
        byte[] original = builder.Build();
        int end = original.Length - 8;
        for (int at = 12; at < builder.TcpStart + 60; at++)
        {
            for (int value = 0; value < 256; value++)
            {
                byte[] frame = [.. original];
                frame[at] = (byte)value;
                SegmentBuilder.FixChecksums(frame, builder.IpStart, builder.TcpStart, end - builder.TcpStart);
                if (Parse(frame, out Packet packet) == DropReason.None)
                    Assert.InRange(packet.PayloadStart + packet.PayloadLength, builder.TcpStart + 20, end);
                PacketParser.ParseIcmp(frame, out _);
            }
        }
    }

    [Fact]
    public void Parse_RandomBytesAndRandomMutations_NeverThrow()
    {
        var random = new Random(20);
        var noise = new byte[200];
        for (int i = 0; i < 20_000; i++)
        {
            random.NextBytes(noise);
            SegmentBuilder.Put(noise.AsSpan(12), (ushort)(i % 2 == 0 ? 0x0800 : 0x86dd));
            Parse(noise.AsSpan(0, random.Next(noise.Length)));
            byte[] frame = Full(i % 2 == 1, i % 3).Build();
            for (int n = random.Next(1, 6); n > 0; n--)
                frame[random.Next(frame.Length)] = (byte)random.Next(256);
            PacketParser.Parse(frame, acceptPartialChecksum: true, out _);
            PacketParser.ParseIcmp(frame, out _);
        }
    }

    // ---- link

    [Theory]
    [InlineData((ushort)0x0806)]
    [InlineData((ushort)0x0000)]
    [InlineData((ushort)0x05dc)]
    public void Parse_OtherEtherType_IsNotIp(ushort etherType)
    {
        byte[] frame = s_v4.Build();
        SegmentBuilder.Put(frame.AsSpan(12), etherType);
        Assert.Equal(DropReason.NotIp, Parse(frame));
    }

    [Fact]
    public void Parse_ThreeTags_IsNotIp()
    {
        byte[] frame = Full(isIPv6: false, tags: 2).Build();
        Assert.Equal(DropReason.NotIp, Parse([.. frame[..12], 0x81, 0, 0, 1, .. frame[12..]]));
    }

    [Fact]
    public void Parse_LinkMulticast_IsDropped()
    {
        byte[] frame = s_v4.Build();
        frame.AsSpan(0, 6).Fill(0xff);
        Assert.Equal(DropReason.BadDestinationAddress, Parse(frame));
        frame = s_v4.Build();
        frame[6] |= 1;
        Assert.Equal(DropReason.BadSourceAddress, Parse(frame));
    }

    // ---- IPv4

    [Theory]
    [InlineData(0x40)]
    [InlineData(0x41)]
    [InlineData(0x44)]
    [InlineData(0x65)]
    [InlineData(0x05)]
    public void Parse_BadVersionOrIhl_IsBadIpHeader(byte first)
    {
        byte[] frame = s_v4.Build();
        frame[14] = first;
        Assert.Equal(DropReason.BadIpHeader, Parse(frame));
    }

    [Fact]
    public void Parse_IPv4Options_AreSkipped()
    {
        byte[] plain = s_v4.Build();
        byte[] frame = [.. plain[..34], .. new byte[] { 1, 1, 1, 148, 4, 0, 0, 0 }, .. plain[34..]];
        frame[14] = 0x47;
        SegmentBuilder.Put(frame.AsSpan(16), (ushort)(frame.Length - 14));
        SegmentBuilder.FixChecksums(frame, 14, 42, frame.Length - 42);
        Assert.Equal(DropReason.None, Parse(frame, out Packet packet));
        Assert.Equal("hello"u8, frame.AsSpan(packet.PayloadStart, packet.PayloadLength));
    }

    [Fact]
    public void Parse_BadIPv4Checksum_IsDropped()
    {
        byte[] frame = s_v4.Build();
        frame[14 + 10] ^= 1;
        Assert.Equal(DropReason.BadIpChecksum, Parse(frame));
    }

    [Theory]
    [InlineData(0x2000)]
    [InlineData(0x2001)]
    [InlineData(0x0001)]
    [InlineData(0x1fff)]
    public void Parse_IPv4Fragment_IsDropped(ushort flags) =>
        Assert.Equal(DropReason.Fragment, Parse(WithFragmentField(flags)));

    [Theory]
    [InlineData(0x0000)]
    [InlineData(0x4000)]
    [InlineData(0x8000)]
    public void Parse_IPv4NotFragment_IsTaken(ushort flags) =>
        Assert.Equal(DropReason.None, Parse(WithFragmentField(flags)));

    // Flags and fragment offset.
    private static byte[] WithFragmentField(ushort value)
    {
        byte[] frame = s_v4.Build();
        SegmentBuilder.Put(frame.AsSpan(14 + 6), value);
        FixIPv4(frame, 14);
        return frame;
    }

    [Fact]
    public void Parse_OtherProtocol_IsNotTcp()
    {
        byte[] frame = s_v4.Build();
        frame[14 + 9] = 17;
        FixIPv4(frame, 14);
        Assert.Equal(DropReason.NotTcp, Parse(frame));
        frame = s_v6.Build();
        frame[14 + 6] = 59;
        Assert.Equal(DropReason.NotTcp, Parse(frame));
    }

    // ---- addresses and ports

    [Theory]
    [InlineData(0x00000000u)]
    [InlineData(0x00000001u)]
    [InlineData(0x7f000001u)]
    [InlineData(0xe0000001u)]
    [InlineData(0xefffffffu)]
    [InlineData(0xffffffffu)]
    [InlineData(0x0a000001u)] // the host's own
    public void Parse_BadIPv4Address_IsDropped(uint address)
    {
        IpAddr addr = IpAddr.FromIPv4(address);
        Assert.Equal(
            DropReason.BadSourceAddress, Parse((s_v4 with { Flow = s_v4.Flow with { Remote = addr } }).Build()));
        if (addr != s_v4.Flow.Local)
            Assert.Equal(
                DropReason.BadDestinationAddress,
                Parse((s_v4 with { Flow = s_v4.Flow with { Local = addr } }).Build()));
    }

    [Theory]
    [InlineData(0UL, 0UL)]
    [InlineData(0UL, 1UL)]
    [InlineData(0xff02_0000_0000_0000UL, 1UL)]
    [InlineData(0xfd00_0000_0000_0000UL, 1UL)] // the host's own
    public void Parse_BadIPv6Address_IsDropped(ulong high, ulong low)
    {
        var addr = new IpAddr(high, low);
        Assert.Equal(
            DropReason.BadSourceAddress, Parse((s_v6 with { Flow = s_v6.Flow with { Remote = addr } }).Build()));
        if (addr != s_v6.Flow.Local)
            Assert.Equal(
                DropReason.BadDestinationAddress,
                Parse((s_v6 with { Flow = s_v6.Flow with { Local = addr } }).Build()));
    }

    [Fact]
    public void Parse_IPv4MappedAddressInIPv6_IsDropped()
    {
        byte[] mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 2];
        byte[] frame = s_v6.Build();
        mapped.CopyTo(frame, 14 + 8);
        SegmentBuilder.FixChecksums(frame, 14, 54, frame.Length - 54);
        Assert.Equal(DropReason.BadSourceAddress, Parse(frame));
        frame = s_v6.Build();
        mapped.CopyTo(frame, 14 + 24);
        SegmentBuilder.FixChecksums(frame, 14, 54, frame.Length - 54);
        Assert.Equal(DropReason.BadDestinationAddress, Parse(frame));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Parse_SameAddressAndPort_IsLand(bool isIPv6)
    {
        SegmentBuilder builder = isIPv6 ? s_v6 : s_v4;
        FlowKey flow = builder.Flow with { Remote = builder.Flow.Local, RemotePort = builder.Flow.LocalPort };
        Assert.Equal(DropReason.Land, Parse((builder with { Flow = flow }).Build()));
    }

    [Theory]
    [InlineData((ushort)0, (ushort)80)]
    [InlineData((ushort)80, (ushort)0)]
    [InlineData((ushort)0, (ushort)0)]
    public void Parse_PortZero_IsDropped(ushort local, ushort remote)
    {
        Assert.Equal(
            DropReason.PortZero,
            Parse((s_v4 with { Flow = s_v4.Flow with { LocalPort = local, RemotePort = remote } }).Build()));
        Assert.Equal(
            DropReason.PortZero,
            Parse((s_v6 with { Flow = s_v6.Flow with { LocalPort = local, RemotePort = remote } }).Build()));
    }

    // ---- TCP

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(4)]
    [InlineData(7)]
    [InlineData(15)]
    public void Parse_DataOffsetInHeaderOrPastTheEnd_IsBadTcpHeader(int words)
    {
        byte[] frame = (s_v4 with { Payload = new byte[4] }).Build();
        frame[34 + 12] = (byte)(words << 4);
        SegmentBuilder.FixChecksums(frame, 14, 34, frame.Length - 34);
        Assert.Equal(DropReason.BadTcpHeader, Parse(frame));
    }

    [Fact]
    public void Parse_ZeroChecksum_IsDropped()
    {
        foreach (SegmentBuilder builder in new[] { s_v4, s_v6 })
        {
            byte[] frame = builder.Build();
            SegmentBuilder.Put(frame.AsSpan(builder.TcpStart + 16), 0);
            Assert.Equal(DropReason.BadTcpChecksum, Parse(frame));
            Assert.Equal(DropReason.BadTcpChecksum, PacketParser.Parse(frame, acceptPartialChecksum: true, out _));
        }
    }

    [Fact]
    public void Parse_PartialChecksum_IsTakenOnlyOnRequest()
    {
        foreach (SegmentBuilder builder in new[] { s_v4, s_v6 })
        {
            byte[] frame = builder.Build();
            int length = frame.Length - builder.TcpStart;
            ushort partial = Checksum.Fold(Checksum.PseudoHeader(builder.Flow.Local, builder.Flow.Remote, 6, length));
            SegmentBuilder.Put(frame.AsSpan(builder.TcpStart + 16), partial);
            Assert.Equal(DropReason.BadTcpChecksum, Parse(frame));
            Assert.Equal(DropReason.None, PacketParser.Parse(frame, acceptPartialChecksum: true, out _));
            SegmentBuilder.Put(frame.AsSpan(builder.TcpStart + 16), (ushort)~partial);
            Assert.Equal(DropReason.BadTcpChecksum, PacketParser.Parse(frame, acceptPartialChecksum: true, out _));
        }
    }

    [Fact]
    public void Parse_Urgent_IsOrdinaryData()
    {
        byte[] frame = (s_v4 with { Fields = s_v4.Fields with { Flags = TcpFlags.Ack | TcpFlags.Urg } }).Build();
        SegmentBuilder.Put(frame.AsSpan(34 + 18), 0xffff);
        SegmentBuilder.FixChecksums(frame, 14, 34, frame.Length - 34);
        Assert.Equal(DropReason.None, Parse(frame, out Packet packet));
        Assert.Equal(5, packet.PayloadLength);
    }

    // ---- IPv6 extension headers

    private static readonly byte[] s_pad = [1, 4, 0, 0, 0, 0]; // PadN

    private static byte[] WithExtensions(params (byte Kind, byte[] Body)[] headers)
    {
        byte[] plain = s_v6.Build();
        var chain = new List<byte>();
        for (int i = 0; i < headers.Length; i++)
        {
            chain.Add(i + 1 < headers.Length ? headers[i + 1].Kind : (byte)6);
            chain.Add((byte)((headers[i].Body.Length + 2) / 8 - 1));
            chain.AddRange(headers[i].Body);
        }
        byte[] frame = [.. plain[..54], .. chain, .. plain[54..]];
        if (headers.Length > 0)
            frame[14 + 6] = headers[0].Kind;
        SegmentBuilder.Put(frame.AsSpan(14 + 4), (ushort)(frame.Length - 54));
        return frame;
    }

    [Fact]
    public void Parse_IPv6Chain_IsWalked()
    {
        byte[] frame = WithExtensions(
            (0, s_pad), (60, [0, 1, 1, 0, 0, 0]), (43, [0, 0, 0, 0, 0, 0]), (60, [1, 12, .. new byte[12]]));
        Assert.Equal(DropReason.None, Parse(frame, out Packet packet));
        Assert.Equal("hello"u8, frame.AsSpan(packet.PayloadStart, packet.PayloadLength));
        for (int length = 0; length < frame.Length; length++)
            Assert.NotEqual(DropReason.None, Parse(frame.AsSpan(0, length)));
    }

    [Fact]
    public void Parse_IPv6ChainCutByPayloadLength_IsDropped()
    {
        byte[] frame = WithExtensions((0, s_pad), (60, s_pad));
        for (ushort length = 0; length < 36; length++)
        {
            SegmentBuilder.Put(frame.AsSpan(14 + 4), length);
            DropReason reason = Parse(frame);
            Assert.True(reason is DropReason.BadIpLength or DropReason.BadTcpHeader, $"{length}: {reason}");
        }
    }

    [Fact]
    public void Parse_IPv6ChainWithoutEnd_IsBounded()
    {
        Assert.Equal(DropReason.None, Parse(WithExtensions([.. Enumerable.Repeat(((byte)60, s_pad), 6)])));
        Assert.Equal(DropReason.BadIpHeader, Parse(WithExtensions([.. Enumerable.Repeat(((byte)60, s_pad), 7)])));
    }

    [Fact]
    public void Parse_HopByHopNotFirst_IsDropped() =>
        Assert.Equal(DropReason.BadIpHeader, Parse(WithExtensions((60, s_pad), (0, s_pad))));

    [Fact]
    public void Parse_RoutingWithSegmentsLeft_IsDropped() =>
        Assert.Equal(DropReason.BadIpHeader, Parse(WithExtensions((43, [0, 1, 0, 0, 0, 0]))));

    [Fact]
    public void Parse_OptionThatAsksForDiscard_IsDropped()
    {
        Assert.Equal(DropReason.None, Parse(WithExtensions((60, [0x1e, 4, 0, 0, 0, 0]))));
        Assert.Equal(DropReason.BadIpHeader, Parse(WithExtensions((60, [0x5e, 4, 0, 0, 0, 0]))));
        Assert.Equal(DropReason.BadIpHeader, Parse(WithExtensions((0, [0xc2, 4, 0, 1, 0, 0])))); // jumbo payload
        Assert.Equal(DropReason.BadIpHeader, Parse(WithExtensions((60, [1, 5, 0, 0, 0, 0])))); // past the end
        Assert.Equal(DropReason.BadIpHeader, Parse(WithExtensions((60, [1, 3, 0, 0, 0, 1]))));
    }

    [Fact]
    public void Parse_IPv6Fragment_IsDropped()
    {
        Assert.Equal(DropReason.Fragment, Parse(WithExtensions((44, [0, 1, 0, 0, 0, 9]))));
        Assert.Equal(DropReason.Fragment, Parse(WithExtensions((60, s_pad), (44, [0x10, 0, 0, 0, 0, 9]))));
    }

    /// <summary>RFC 6946. The reserved bits of the header mean nothing.</summary>
    [Theory]
    [InlineData(0)]
    [InlineData(6)]
    public void Parse_IPv6AtomicFragment_IsAWholePacket(byte reserved)
    {
        byte[] header = [0, reserved, 0, 0, 0, 9];
        (byte, byte[])[][] chains =
            [[(44, header)], [(60, s_pad), (44, header)], [(44, header), (60, s_pad)]];
        foreach ((byte, byte[])[] chain in chains)
        {
            byte[] frame = WithExtensions(chain);
            Assert.Equal(DropReason.None, Parse(frame, out Packet packet));
            Assert.Equal("hello"u8, frame.AsSpan(packet.PayloadStart, packet.PayloadLength));
        }
        // What looks like a length is reserved too.
        byte[] odd = WithExtensions((44, header));
        odd[14 + 40 + 1] = 0xff;
        Assert.Equal(DropReason.None, Parse(odd));
    }
}

namespace Xdp.TcpLite.Tests;

public class ChecksumTests
{
    [Fact]
    public void Sum_Rfc1071Example_IsDdf2() =>
        Assert.Equal(0xddf2, Checksum.Fold(Checksum.Sum([0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])));

    [Fact]
    public void Sum_EveryLengthAndAlignment_EqualsNaive()
    {
        var random = new Random(1);
        var data = new byte[2000];
        random.NextBytes(data);
        for (int length = 0; length <= 1700; length++)
        {
            ReadOnlySpan<byte> part = data.AsSpan(length % 37, length);
            Assert.Equal(SegmentBuilder.NaiveChecksum(part), (ushort)~Checksum.Fold(Checksum.Sum(part)));
        }
    }

    [Theory]
    [InlineData(0x00)]
    [InlineData(0xff)]
    public void Sum_ExtremeBytes_EqualsNaive(byte value)
    {
        for (int length = 1; length < 70_000; length = length * 3 + 1)
        {
            byte[] data = Enumerable.Repeat(value, length).ToArray();
            Assert.Equal(SegmentBuilder.NaiveChecksum(data), (ushort)~Checksum.Fold(Checksum.Sum(data)));
        }
    }

    [Fact]
    public void Sum_InEvenParts_EqualsSumOfAll()
    {
        var data = new byte[777];
        new Random(2).NextBytes(data);
        ushort whole = Checksum.Fold(Checksum.Sum(data));
        for (int cut = 0; cut < data.Length; cut += 2)
            Assert.Equal(whole, Checksum.Fold(Checksum.Sum(data.AsSpan(cut), Checksum.Sum(data.AsSpan(0, cut)))));
    }

    [Theory]
    [InlineData(0UL, 0)]
    [InlineData(0xffffUL, 0xffff)]
    [InlineData(0x10000UL, 1)]
    [InlineData(0x1fffeUL, 0xffff)]
    [InlineData(0xffff_ffff_ffff_ffffUL, 0xffff)]
    [InlineData(0xffff_ffff_0000_0001UL, 1)]
    [InlineData(0x8000_0000_8000_0000UL, 1)]
    public void Fold_Extremes_StayCongruent(ulong sum, int expected) => Assert.Equal(expected, Checksum.Fold(sum));

    [Fact]
    public void PseudoHeader_BothFamilies_EqualSumOfTheirBytes()
    {
        byte[] v4 = [10, 0, 0, 2, 10, 0, 0, 1, 0, 6, 0x12, 0x34];
        Assert.Equal(Checksum.Fold(Checksum.Sum(v4)),
            Checksum.Fold(Checksum.PseudoHeader(SegmentBuilder.ClientV4, SegmentBuilder.ServerV4, 6, 0x1234)));

        var v6 = new byte[40];
        var source = new IpAddr(0x20010db8_ffffffff, 0xffffffff_fffffffe);
        source.WriteIPv6(v6);
        SegmentBuilder.ServerV6.WriteIPv6(v6.AsSpan(16));
        v6[33] = 1;
        v6[34] = 0x12;
        v6[35] = 0x34;
        v6[39] = 58;
        Assert.Equal(Checksum.Fold(Checksum.Sum(v6)),
            Checksum.Fold(Checksum.PseudoHeader(source, SegmentBuilder.ServerV6, 58, 0x11234)));
    }
}

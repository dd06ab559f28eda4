namespace Xdp.TcpLite.Tests;

public class SeqNumberTests
{
    public static TheoryData<uint> Bases => [0u, 1u, 0x7fffffffu, 0x80000000u, 0x80000001u, 0xfffffffeu, 0xffffffffu];

    [Theory]
    [MemberData(nameof(Bases))]
    public void Compare_AcrossTheWrap_FollowsTheCircle(uint value)
    {
        var seq = new SeqNumber(value);
        foreach (int distance in new[] { 1, 2, 1460, int.MaxValue })
        {
            SeqNumber later = seq + distance;
            Assert.True(seq < later);
            Assert.True(seq <= later);
            Assert.True(later > seq);
            Assert.True(later >= seq);
            Assert.False(later < seq);
            Assert.False(seq >= later);
            Assert.Equal(distance, later - seq);
            Assert.Equal(-distance, seq - later);
            Assert.Equal(seq, later - distance);
            Assert.Equal(later, seq + (uint)distance);
            Assert.Equal(seq, SeqNumber.Min(seq, later));
            Assert.Equal(seq, SeqNumber.Min(later, seq));
            Assert.Equal(later, SeqNumber.Max(seq, later));
            Assert.Equal(later, SeqNumber.Max(later, seq));
        }
        SeqNumber same = seq + 0;
        Assert.True(seq <= same);
        Assert.True(seq >= same);
        Assert.False(seq < same);
        Assert.False(seq > same);
    }

    [Fact]
    public void Arithmetic_AllRoundTheCircle_ComesBack()
    {
        var seq = new SeqNumber(12345);
        Assert.Equal(seq, seq + 0x80000000u + 0x80000000u);
        Assert.Equal(new SeqNumber(uint.MaxValue), new SeqNumber(0) - 1);
        Assert.Equal(new SeqNumber(uint.MaxValue), new SeqNumber(0) + -1);
    }

    [Fact]
    public void SeqNumber_HasNoTotalOrder() => Assert.DoesNotContain(
        typeof(SeqNumber).GetInterfaces(), type => type.Name.StartsWith("IComparable", StringComparison.Ordinal));
}

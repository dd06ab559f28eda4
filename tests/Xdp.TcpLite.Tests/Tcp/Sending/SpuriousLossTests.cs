namespace Xdp.TcpLite.Tests;

public class SpuriousLossTests
{
    /// <summary>
    /// RFC 3708: an episode is taken back when each of its retransmissions is reported as a duplicate.
    /// </summary>
    [Theory]
    [InlineData(0, 1, false)]
    [InlineData(1, 1, true)]
    [InlineData(3, 2, false)]
    [InlineData(3, 3, true)]
    [InlineData(3, 4, false)] // said once
    public void OnDuplicateReported_ForEachRetransmission_SaysSo(int retransmits, int reports, bool last)
    {
        var spurious = new SpuriousLoss();
        spurious.Begin(tsVal: 5);
        for (int i = 0; i < retransmits; i++)
            spurious.OnRetransmitted();
        bool said = false;
        for (int i = 0; i < reports; i++)
            said = spurious.OnDuplicateReported();
        Assert.Equal(last, said);
    }

    [Fact]
    public void Begin_Again_CountsAfresh()
    {
        var spurious = new SpuriousLoss();
        Assert.False(spurious.OnDuplicateReported());
        spurious.Begin(tsVal: 5);
        spurious.OnRetransmitted();
        spurious.End();
        Assert.False(spurious.OnDuplicateReported());
        spurious.Begin(tsVal: 0xffff_ffff);
        Assert.Equal((true, 0xffff_ffff), (spurious.MayUndo, spurious.FirstRetransmitTsVal));
        Assert.False(spurious.OnDuplicateReported());
        spurious.OnRetransmitted();
        Assert.True(spurious.OnDuplicateReported());
    }
}

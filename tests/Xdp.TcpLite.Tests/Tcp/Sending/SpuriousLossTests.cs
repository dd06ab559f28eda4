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
    [InlineData(65_535, 1, false)] // more than are counted
    public void OnDuplicateReported_ForEachRetransmission_SaysSo(int retransmits, int reports, bool last)
    {
        var spurious = new SpuriousLoss();
        spurious.Begin();
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
        spurious.Begin();
        spurious.OnRetransmitted();
        spurious.End();
        Assert.False(spurious.OnDuplicateReported());
        spurious.Begin();
        Assert.True(spurious.MayUndo);
        Assert.False(spurious.OnDuplicateReported());
        spurious.OnRetransmitted();
        Assert.True(spurious.OnDuplicateReported());
    }

    /// <summary>A block may report several segments. Those in flight when the episode began count, too.</summary>
    [Fact]
    public void OnDuplicateReported_OfSeveralSegments_CountsEach()
    {
        var spurious = new SpuriousLoss();
        spurious.Begin(inFlight: 1);
        for (int i = 0; i < 4; i++)
            spurious.OnRetransmitted();
        Assert.False(spurious.OnDuplicateReported(segments: 3));
        Assert.True(spurious.OnDuplicateReported(segments: 2));
    }
}

namespace Xdp.TcpLite.Tests;

public class RateReductionTests
{
    private const int Mss = 1000;

    /// <summary>
    /// RFC 9937, section 6: each ACK delivers a segment, and for each two of them one is sent, until the flight is
    /// half.
    /// </summary>
    [Fact]
    public void OnDelivered_AboveTheThreshold_SendsInProportion()
    {
        var reduction = new RateReduction();
        reduction.Begin(20 * Mss);
        long inFlight = 19 * Mss, sent = 0;
        for (int ack = 1; inFlight > 10 * Mss; ack++)
        {
            inFlight -= Mss;
            long allowed = reduction.OnDelivered(Mss, inFlight, ssthresh: 10 * Mss, Mss, isSafe: true);
            if (inFlight <= 10 * Mss)
                break;
            Assert.InRange(sent + allowed, ack * Mss / 2, ack * Mss / 2 + 1);
            if (allowed < Mss)
                continue;
            reduction.OnSent(Mss);
            sent += Mss;
            inFlight += Mss;
        }
        Assert.InRange(sent, 7 * Mss, 10 * Mss);
    }

    /// <summary>
    /// Below the threshold it is what was delivered, and a segment more where the ACK is safe (PRR-CRB and PRR-SSRB).
    /// </summary>
    [Theory]
    [InlineData(1, 0, 9, true, 1)] // up to the threshold
    [InlineData(1, 0, 2, true, 2)]
    [InlineData(1, 0, 2, false, 1)]
    [InlineData(4, 0, 2, true, 5)]
    [InlineData(4, 0, 2, false, 4)]
    [InlineData(4, 4, 2, true, 5)] // what is delivered now counts although so much was sent
    [InlineData(1, 9, 2, true, 2)]
    [InlineData(1, 9, 2, false, 1)]
    [InlineData(0, 0, 2, true, 1)]
    [InlineData(0, 0, 2, false, 0)]
    public void OnDelivered_BelowTheThreshold_IsBound(
        int delivered, int sent, int inFlight, bool isSafe, int allowed)
    {
        var reduction = new RateReduction();
        reduction.Begin(20 * Mss);
        reduction.OnSent(sent * Mss);
        Assert.Equal(
            allowed * Mss, reduction.OnDelivered(delivered * Mss, inFlight * Mss, 10 * Mss, Mss, isSafe));
    }

    [Fact]
    public void Begin_Again_ForgetsTheLastRecovery()
    {
        var reduction = new RateReduction();
        reduction.Begin(10 * Mss);
        reduction.OnSent(8 * Mss);
        reduction.OnDelivered(9 * Mss, 9 * Mss, 5 * Mss, Mss, isSafe: true);
        reduction.Begin(4 * Mss);
        Assert.Equal(Mss / 2, reduction.OnDelivered(Mss, 3 * Mss, 2 * Mss, Mss, isSafe: true));
    }
}

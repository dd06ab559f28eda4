namespace Xdp.TcpLite.Tests;

public class TailLossProbeTests
{
    /// <summary>
    /// RFC 8985, section 7.2: PTO = 2 × SRTT, and room for a delayed ACK when the ACK may wait.
    /// </summary>
    [Theory]
    [InlineData(30, false, 60)]
    [InlineData(30, true, 260)]
    [InlineData(1, false, 10)]
    [InlineData(0, true, 200)]
    public void Timeout_TwoRoundTrips(int srtt, bool single, int expected) => Assert.Equal(
        TimeSpan.FromMilliseconds(expected), TailLossProbe.Timeout(TimeSpan.FromMilliseconds(srtt), single));

    /// <summary>
    /// RFC 8985, section 7.4.2, for a probe that was the last segment once more: what an ACK tells of it.
    /// </summary>
    /// <param name="ack">Bytes behind the probe's end.</param>
    /// <param name="timestamps">The connection has them.</param>
    /// <param name="original">The echo is the original's.</param>
    /// <param name="sacks">The ACK carries a SACK block.</param>
    /// <param name="ends">The episode ends.</param>
    /// <param name="repaired">The probe repaired a loss.</param>
    [Theory]
    [InlineData(-1, true, false, false, false, false)]
    [InlineData(0, false, false, false, false, false)] // may be for either: the next ACK tells
    [InlineData(0, true, false, false, true, true)]
    [InlineData(0, true, true, false, true, false)]
    [InlineData(1, false, false, false, true, true)]
    [InlineData(1, true, false, true, true, false)]
    public void TryFinish_TailSentAgain_TellsALossFromADelay(
        int ack, bool timestamps, bool original, bool sacks, bool ends, bool repaired)
    {
        foreach (uint end in new[] { 5000u, 0u, 0x8000_0000u })
        {
            TailLossProbe probe = TailSentAgain(end);
            Assert.True(probe.SendsTail && probe.IsRetransmission);
            Packet packet = AckAt(end, ack, sacks) with { HasTimestamps = timestamps, TsEcr = original ? 6u : 7u };
            Assert.Equal(repaired, probe.TryFinish(packet, WithTimestamps(timestamps)));
            Assert.Equal(ends, probe.EndSeq is null);
        }
    }

    /// <summary>RFC 8985, section 7.4.2: a duplicate ACK at the probe's end is for both: nothing was lost.</summary>
    [Theory]
    [InlineData(0, 0, false, false, true)]
    [InlineData(-1, 0, false, false, false)]
    [InlineData(0, 1, false, false, false)] // these are no duplicates by RFC 5681, section 2
    [InlineData(0, 0, true, false, false)]
    [InlineData(0, 0, false, true, false)]
    public void OnAckWithoutNews_DuplicateAtTheEnd_EndsTheEpisode(
        int ack, int payload, bool sacks, bool windowChanged, bool ends)
    {
        foreach (uint end in new[] { 5000u, 0u, 0x8000_0000u })
        {
            TailLossProbe probe = TailSentAgain(end);
            probe.OnAckWithoutNews(AckAt(end, ack, sacks) with { PayloadLength = payload }, windowChanged);
            Assert.Equal(ends, probe.EndSeq is null);
        }
    }

    private static Timestamps WithTimestamps(bool enabled) =>
        new(new NegotiatedOptions { Timestamps = enabled }, new Instant(TimeSpan.TicksPerHour));

    private static TailLossProbe TailSentAgain(uint end)
    {
        var probe = new TailLossProbe();
        probe.BeginWithTail(new SeqNumber(end), tsVal: 7);
        return probe;
    }

    private static Packet AckAt(uint end, int behind, bool sacks)
    {
        Packet packet = PartRig.Segment(TcpFlags.Ack, 1, (new SeqNumber(end) + behind).Value);
        if (sacks)
            packet.Sack.Add(packet.Ack + 10, packet.Ack + 20);
        return packet;
    }

    [Fact]
    public void TryFinish_NewData_IsNoLoss()
    {
        var probe = new TailLossProbe();
        var end = new SeqNumber(10);
        probe.BeginWithNewData(end);
        Assert.True(probe.SendsNewData);
        probe.OnNewDataSent();
        Assert.Equal((false, end), (probe.SendsNewData, probe.EndSeq));
        Packet packet = PartRig.Segment(TcpFlags.Ack, 1, end.Value);
        Assert.False(probe.TryFinish(packet, WithTimestamps(true)));
        Assert.Null(probe.EndSeq);
    }

    [Theory]
    [InlineData(0, true)]
    [InlineData(-1, false)]
    public void OnDuplicateReported_OfTheProbe_EndsTheEpisode(int right, bool ends)
    {
        var probe = new TailLossProbe();
        var end = new SeqNumber(0);
        probe.BeginWithTail(end, tsVal: 7);
        probe.OnDuplicateReported(end + right);
        Assert.Equal(ends, probe.EndSeq is null);
    }

    [Fact]
    public void OnTimeout_NothingOfItIsLeft()
    {
        var probe = new TailLossProbe();
        probe.BeginWithTail(new SeqNumber(9), tsVal: 7);
        probe.OnTimeout();
        Assert.Equal((false, false, null), (probe.SendsTail, probe.SendsNewData, probe.EndSeq));
    }
}

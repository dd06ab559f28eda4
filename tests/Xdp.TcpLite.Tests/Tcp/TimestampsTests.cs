namespace Xdp.TcpLite.Tests;

public class TimestampsTests
{
    private static readonly Instant s_now = new(TimeSpan.TicksPerHour);

    private static Timestamps Create(uint recent, uint offset = 0, bool enabled = true) => new(
        new NegotiatedOptions { Timestamps = enabled, TsOffset = offset, TsRecent = recent }, s_now);

    private static Packet Packet(uint tsVal, uint tsEcr = 0, uint seq = 1) => PartRig.Segment(TcpFlags.Ack, seq) with
    {
        HasTimestamps = true,
        TsVal = tsVal,
        TsEcr = tsEcr,
    };

    /// <summary>
    /// RFC 7323, section 5.3: older by modulo-2^32 arithmetic; and 5.5: nothing is held against it for ever.
    /// </summary>
    [Theory]
    [InlineData(100u, 100u, 0, false)]
    [InlineData(5u, 0xffff_fff0u, 0, true)]
    [InlineData(0xffff_fff0u, 5u, 0, false)]
    [InlineData(0u, 0x7fff_ffffu, 0, false)]
    [InlineData(0u, 0x8000_0000u, 0, false)]
    [InlineData(0u, 0xffff_ffffu, 0, false)]
    [InlineData(1u, 0x8000_0003u, 0, true)]
    [InlineData(100u, 99u, 0, false)]
    [InlineData(100u, 98u, 0, true)]
    [InlineData(0u, 0xffff_fffeu, 0, false)]
    [InlineData(1u, 0xffff_fffeu, 0, true)]
    [InlineData(100u, 98u, 24, true)]
    [InlineData(100u, 98u, 25, false)]
    public void IsOld_ComparesWithRecent(uint recent, uint tsVal, int days, bool old)
    {
        Instant now = s_now + TimeSpan.FromDays(days);
        Assert.Equal(old, Create(recent).IsOld(Packet(tsVal), now));
        Assert.False(Create(recent).IsOld(Packet(tsVal) with { Flags = TcpFlags.Rst }, now));
        Assert.False(Create(recent).IsOld(Packet(tsVal) with { HasTimestamps = false }, now));
        Assert.False(Create(recent, enabled: false).IsOld(Packet(tsVal), now));
    }

    /// <summary>
    /// RFC 7323, section 4.3: only a segment at or before Last.ACK.sent is echoed, so delayed ACKs echo the first.
    /// </summary>
    [Theory]
    [InlineData(1000u, 200u, 200u)]
    [InlineData(999u, 200u, 200u)]
    [InlineData(1001u, 200u, 100u)]
    [InlineData(1000u, 99u, 100u)]
    public void Update_AtTheLeftEdge_TakesOver(uint seq, uint tsVal, uint recent)
    {
        foreach (uint shift in new[] { 0u, 0xffff_fc00u })
        {
            Timestamps timestamps = Create(100);
            timestamps.Update(Packet(tsVal, seq: unchecked(seq + shift)), new SeqNumber(1000) + shift, s_now);
            Assert.Equal(recent, timestamps.Recent);
        }
    }

    [Fact]
    public void Update_OldAfterTwentyFiveDays_IsTakenOver()
    {
        Timestamps timestamps = Create(100);
        timestamps.Update(Packet(50), new SeqNumber(1000), s_now + TimeSpan.FromDays(25));
        Assert.Equal(50u, timestamps.Recent);
        Assert.True(timestamps.IsOld(Packet(48), s_now + TimeSpan.FromDays(26)));
    }

    /// <summary>
    /// RFC 7323, section 4: the echo gives the round trip, in milliseconds, whatever the flow's offset.
    /// </summary>
    [Theory]
    [InlineData(0u)]
    [InlineData(0xffff_ffffu)]
    [InlineData(0x9e37_79b9u)]
    public void Elapsed_OfAnEcho_IsTheRoundTrip(uint offset)
    {
        Timestamps timestamps = Create(1, offset);
        uint sent = timestamps.At(s_now);
        Instant later = s_now + TimeSpan.FromMilliseconds(30);
        Assert.Equal(TimeSpan.FromMilliseconds(30), timestamps.Elapsed(Packet(1, sent), later));
        Assert.Equal(TimeSpan.FromMilliseconds(1), timestamps.Elapsed(Packet(1, sent), s_now));
        Assert.Null(timestamps.Elapsed(Packet(1, sent + 31), later)); // not sent yet
        Assert.Null(timestamps.Elapsed(Packet(1, sent) with { HasTimestamps = false }, later));
        Assert.Null(Create(1, offset, enabled: false).Elapsed(Packet(1, sent), later));
    }

    /// <summary>Eifel (RFC 3522): is the echo older than the retransmission?</summary>
    [Theory]
    [InlineData(10u, 11u, true)]
    [InlineData(11u, 11u, false)]
    [InlineData(0xffff_ffffu, 2u, true)]
    [InlineData(2u, 0xffff_ffffu, false)]
    [InlineData(0u, 11u, false)] // no echo
    public void EchoesBefore_ComparesAroundTheWrap(uint echo, uint tsVal, bool before) =>
        Assert.Equal(before, Create(1).EchoesBefore(Packet(1, echo), tsVal));

    [Fact]
    public void EchoesSince_TellsTransmissionsApart()
    {
        Timestamps timestamps = Create(1, 0xffff_0000);
        Instant again = s_now + TimeSpan.FromMilliseconds(5);
        Assert.False(timestamps.EchoesSince(Packet(1, timestamps.At(s_now)), again));
        Assert.True(timestamps.EchoesSince(Packet(1, timestamps.At(again)), again));
        Assert.Null(timestamps.EchoesSince(Packet(1, 0), again));
    }

    [Fact]
    public void Restart_SynAckWithoutTimestamps_KeepsRecent()
    {
        Timestamps timestamps = Create(100);
        timestamps.Restart(Packet(50));
        Assert.Equal(50u, timestamps.Recent);
        timestamps.Restart(Packet(70) with { HasTimestamps = false });
        Assert.Equal(50u, timestamps.Recent);
    }
}

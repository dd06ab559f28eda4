namespace Xdp.TcpLite.Tests;

/// <summary>The filters of draft-ietf-ccwg-bbr, section 5.5, each alone.</summary>
public class BbrModelTests
{
    private static readonly TimeSpan s_rtt = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan s_second = TimeSpan.FromSeconds(1);

    [Fact]
    public void SlottedMax_RemembersTwoSlots()
    {
        SlottedMax max = default;
        max.Add(5);
        max.Add(3);
        max.Advance();
        Assert.Equal(5, max.Value);
        max.Add(2);
        Assert.Equal(5, max.Value);
        max.Advance();
        Assert.Equal(2, max.Value);
    }

    /// <summary>An application that pauses must not make the path forgotten.</summary>
    [Fact]
    public void SlottedMax_SlotWithoutValue_DoesNotEnd()
    {
        SlottedMax max = default;
        max.Add(5);
        for (int i = 0; i < 3; i++)
            max.Advance();
        Assert.Equal(5, max.Value);
    }

    /// <summary>A round ends with the delivery of a segment that was sent after its beginning.</summary>
    [Fact]
    public void Rounds_AreCountedByWhatIsDelivered()
    {
        BbrRounds rounds = default;
        rounds.OnDelivered(1000, sinceSent: 1000);
        Assert.Equal((true, 1), (rounds.Started, rounds.Count));
        // Sent before that, delivered after it.
        rounds.OnDelivered(1000, sinceSent: 2000);
        Assert.Equal((false, 1), (rounds.Started, rounds.Count));
        rounds.OnDelivered(1000, sinceSent: 2000);
        Assert.Equal((true, 2), (rounds.Started, rounds.Count));
        rounds.OnDelivered(1000, sinceSent: 1000);
        rounds.Restart();
        rounds.OnDelivered(1000, sinceSent: 2000);
        Assert.Equal((false, 3, 5000), (rounds.Started, rounds.Count, rounds.Delivered));
    }

    [Fact]
    public void MinRtt_IsTheLeastOfTenSeconds_AndDueAfterFive()
    {
        BbrMinRtt min = default;
        var start = new Instant(TimeSpan.TicksPerHour);
        min.OnAck(2 * s_rtt, least: s_rtt, start);
        Assert.Equal((s_rtt, false), (min.Value, min.IsProbeDue));
        min.OnAck(2 * s_rtt, s_rtt, start + 5 * s_second);
        Assert.False(min.IsProbeDue);
        min.OnAck(3 * s_rtt, s_rtt, start + 5.1 * s_second);
        Assert.Equal((s_rtt, true), (min.Value, min.IsProbeDue));
        min.OnAck(2 * s_rtt, s_rtt, start + 6 * s_second);
        Assert.Equal((s_rtt, false), (min.Value, min.IsProbeDue));
        min.OnAck(3 * s_rtt, s_rtt, start + 10.1 * s_second);
        Assert.Equal(2 * s_rtt, min.Value);
        min.OnAck(s_rtt / 2, s_rtt, start + 10.2 * s_second);
        Assert.Equal(s_rtt / 2, min.Value);
    }

    [Fact]
    public void MinRtt_Probed_IsDueFiveSecondsLater()
    {
        BbrMinRtt min = default;
        var start = new Instant(TimeSpan.TicksPerHour);
        min.OnAck(s_rtt, s_rtt, start);
        min.OnProbed(start + 4 * s_second);
        min.OnAck(s_rtt, s_rtt, start + 9 * s_second);
        Assert.False(min.IsProbeDue);
        min.OnAck(s_rtt, s_rtt, start + 9.1 * s_second);
        Assert.True(min.IsProbeDue);
    }

    /// <summary>Ten segments at once, each 10 ms: all but what the rate explains is extra.</summary>
    [Fact]
    public void Aggregation_OfAcksThatComeAtOnce_IsExtra()
    {
        BbrAggregation aggregation = default;
        var now = new Instant(TimeSpan.TicksPerHour);
        for (int i = 0; i < 50; i++)
        {
            now += s_rtt / 10;
            for (int j = 0; j < 10; j++)
                aggregation.OnAck(1000, 1_000_000, 1 << 20, roundStarted: j == 0 && i % 10 == 0, isStartup: false, now);
        }
        Assert.Equal(10_000, aggregation.Extra);
        // After a gap in the ACKs all that is counted begins anew. Ten round trips later the burst is forgotten, and
        // what is acknowledged steadily is a segment ahead.
        now += s_rtt / 5;
        for (int i = 0; i < 1100; i++)
        {
            now += s_rtt / 100;
            aggregation.OnAck(1000, 1_000_000, 1 << 20, roundStarted: i % 100 == 0, isStartup: false, now);
        }
        Assert.Equal(1000, aggregation.Extra);
    }

    [Fact]
    public void Aggregation_IsNoMoreThanTheWindow_AndNotOfAPause()
    {
        BbrAggregation aggregation = default;
        var now = new Instant(TimeSpan.TicksPerHour);
        aggregation.OnAck(50_000, 1_000_000, cwnd: 20_000, roundStarted: true, isStartup: true, now);
        Assert.Equal(20_000, aggregation.Extra);
        now += s_second;
        aggregation.Restart(now);
        aggregation.OnAck(1000, 1_000_000, cwnd: 20_000, roundStarted: true, isStartup: true, now);
        aggregation.OnAck(1000, 1_000_000, cwnd: 20_000, roundStarted: true, isStartup: true, now);
        Assert.Equal(2000, aggregation.Extra);
    }

    [Fact]
    public void FullPipe_RoundsThatTellNothing_DoNotCount()
    {
        FullPipe pipe = default;
        pipe.OnRound(new RateSample { BytesPerSecond = 100 });
        for (int i = 0; i < 5; i++)
        {
            pipe.OnRound(new RateSample { BytesPerSecond = 50, IsAppLimited = true });
            pipe.OnRound(default);
        }
        pipe.OnRound(new RateSample { BytesPerSecond = 110 });
        pipe.OnRound(new RateSample { BytesPerSecond = 120 });
        Assert.False(pipe.IsFull);
        pipe.OnRound(new RateSample { BytesPerSecond = 124 });
        Assert.True(pipe.IsFull);
        pipe.Restart(100);
        Assert.False(pipe.IsFull);
    }
}

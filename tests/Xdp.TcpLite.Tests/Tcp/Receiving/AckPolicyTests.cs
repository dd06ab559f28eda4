namespace Xdp.TcpLite.Tests;

public class AckPolicyTests
{
    private const int Mss = 1460;

    private static readonly TimeSpan s_delay = TimeSpan.FromMilliseconds(40);
    private static readonly TimeSpan s_atTheStart = TimeSpan.FromMilliseconds(2);
    private static readonly Instant s_now = new(TimeSpan.TicksPerHour);

    /// <summary>One of a connection whose application has answered a request a moment ago.</summary>
    private static AckPolicy Answering()
    {
        var policy = new AckPolicy();
        Answer(ref policy, s_now);
        return policy;
    }

    private static void Answer(ref AckPolicy policy, Instant now)
    {
        policy.OnInOrder(1, Mss, s_delay, now);
        policy.OnDataSent(s_delay, now);
        policy.OnSent(settles: true);
    }

    /// <summary>How long the ACK of a small segment waits, and sends it then.</summary>
    private static TimeSpan Wait(ref AckPolicy policy, Instant now)
    {
        policy.OnInOrder(1, Mss, s_delay, now);
        TimeSpan wait = policy.Deadline - now;
        policy.OnSent(settles: true);
        return wait;
    }

    /// <summary>RFC 5681, section 4.2: an ACK for at least every second full segment.</summary>
    [Theory]
    [InlineData(new[] { Mss }, false)]
    [InlineData(new[] { Mss, Mss - 1 }, false)]
    [InlineData(new[] { Mss, Mss }, true)]
    [InlineData(new[] { 2 * Mss }, true)]
    [InlineData(new[] { 1, 1, 1, 1 }, false)]
    public void OnInOrder_TwoFullSegments_AreAcknowledgedAtOnce(int[] payloads, bool due)
    {
        var policy = new AckPolicy();
        foreach (int bytes in payloads)
            policy.OnInOrder(bytes, Mss, s_delay, s_now);
        Assert.Equal(due, policy.IsDue);
    }

    [Fact]
    public void OnInOrder_MoreData_DoesNotPutOffTheDelayedAck()
    {
        AckPolicy policy = Answering();
        policy.OnInOrder(10, Mss, s_delay, s_now);
        policy.OnInOrder(10, Mss, s_delay, s_now + s_delay / 2);
        Assert.Equal(s_now + s_delay, policy.Deadline);
        policy.OnDeadline();
        Assert.Equal((true, Instant.Never), (policy.IsDue, policy.Deadline));
        policy.OnSent(settles: true);
        Answer(ref policy, s_now + s_delay);
        policy.OnInOrder(Mss, Mss, s_delay, s_now + s_delay);
        Assert.Equal((false, s_now + 2 * s_delay), (policy.IsDue, policy.Deadline));
    }

    /// <summary>Linux: TCP_MAX_QUICKACKS, and again after an RTO without data.</summary>
    [Fact]
    public void OnInOrder_AtTheStartAndAfterIdling_SixteenAcksWaitForAMoment()
    {
        var policy = new AckPolicy();
        Instant now = s_now;
        for (int start = 0; start < 2; start++)
        {
            for (int ack = 1; ack <= 16; ack++, now += TimeSpan.FromMilliseconds(200))
                Assert.Equal(s_atTheStart, Wait(ref policy, now));
            Assert.Equal(s_delay, Wait(ref policy, now));
            now += TimeSpan.FromMilliseconds(201);
        }
    }

    [Fact]
    public void OnInOrder_DelayIsLessThanAtTheStart_IsKept()
    {
        var policy = new AckPolicy();
        policy.OnInOrder(1, Mss, TimeSpan.FromMilliseconds(1), s_now);
        Assert.Equal(s_now + TimeSpan.FromMilliseconds(1), policy.Deadline);
    }

    /// <summary>Linux's pingpong. What is sent long after the peer's data answers nothing.</summary>
    [Theory]
    [InlineData(0, true)]
    [InlineData(39, true)]
    [InlineData(40, false)]
    public void OnDataSent_SoonAfterData_EndsTheStart(int milliseconds, bool answers)
    {
        var policy = new AckPolicy();
        Assert.Equal(s_atTheStart, Wait(ref policy, s_now));
        Instant later = s_now + TimeSpan.FromMilliseconds(milliseconds);
        policy.OnDataSent(s_delay, later);
        Assert.Equal(answers ? s_delay : s_atTheStart, Wait(ref policy, later));
    }

    [Fact]
    public void OnDataSent_BeforeAnyData_IsNoAnswer()
    {
        var policy = new AckPolicy();
        policy.OnDataSent(s_delay, s_now);
        Assert.Equal(s_atTheStart, Wait(ref policy, s_now));
    }

    /// <summary>An application that answers, however long it idles between, is waited for.</summary>
    [Fact]
    public void OnInOrder_AfterAnswers_WaitsTheWholeDelay()
    {
        AckPolicy policy = Answering();
        Assert.Equal(s_delay, Wait(ref policy, s_now));
        Assert.Equal(s_delay, Wait(ref policy, s_now + TimeSpan.FromSeconds(10)));
    }

    /// <summary>Linux, tcp_delack_timer_handler: whoever is waited for in vain does not answer any more.</summary>
    [Fact]
    public void OnDeadline_NoAnswerCame_TheNextAckWaitsForAMoment()
    {
        AckPolicy policy = Answering();
        policy.OnInOrder(1, Mss, s_delay, s_now);
        policy.OnDeadline();
        policy.OnSent(settles: true);
        Assert.Equal(s_atTheStart, Wait(ref policy, s_now + s_delay));
    }

    /// <summary>
    /// A peer without SACK counts duplicate ACKs: one for each segment ahead of a gap, up to a bound.
    /// </summary>
    [Theory]
    [InlineData(false, 1, 1)]
    [InlineData(false, 3, 3)]
    [InlineData(false, 100, 5)]
    [InlineData(true, 1, 1)]
    [InlineData(true, 100, 1)]
    public void OnAhead_OwesAnAckForEachOnlyWithoutSack(bool hasSack, int segments, int acks)
    {
        var policy = new AckPolicy();
        for (int i = 0; i < segments; i++)
            policy.OnAhead(hasSack);
        int sent = 0;
        for (; policy.IsDue; sent++)
            policy.OnSent(settles: true);
        Assert.Equal(acks, sent);
    }

    [Fact]
    public void OnAhead_TheNextSixteenAcks_AreNotDelayed()
    {
        AckPolicy policy = Answering();
        policy.OnAhead(hasSack: true);
        policy.OnSent(settles: true);
        for (int ack = 2; ack <= 16; ack++)
        {
            policy.OnInOrder(1, Mss, s_delay, s_now);
            Assert.True(policy.IsDue, $"{ack}");
            policy.OnSent(settles: true);
        }
        policy.OnInOrder(1, Mss, s_delay, s_now);
        Assert.Equal((false, s_now + s_delay), (policy.IsDue, policy.Deadline));
    }

    [Fact]
    public void OnSent_DataWithoutRoomForSack_LeavesTheAckDue()
    {
        var policy = new AckPolicy();
        policy.OnAhead(hasSack: true);
        policy.OnSent(settles: false);
        Assert.True(policy.IsDue);
        policy.OnSent(settles: true);
        Assert.False(policy.IsDue);
    }

    [Theory]
    [InlineData(3, true, false)]
    [InlineData(4, true, true)]
    [InlineData(4, false, false)]
    [InlineData(1000, true, true)]
    public void IsDueWithinBatch_AfterFourSegmentsThatOweAnAck(int segments, bool owed, bool expected)
    {
        var policy = new AckPolicy();
        for (int i = 0; i < segments; i++)
            policy.OnSegment();
        if (owed)
            policy.Owe();
        Assert.Equal(expected, policy.IsDueWithinBatch);
        policy.OnSentWithinBatch();
        Assert.Equal((false, false), (policy.IsDueWithinBatch, policy.IsDue));
    }

    /// <summary>RFC 2883: each duplicate is reported once, the latest one.</summary>
    [Theory]
    [InlineData(1000u)]
    [InlineData(0xffff_fff0u)]
    public void WriteDuplicate_ReportsTheLatestOnce(uint left)
    {
        var policy = new AckPolicy();
        SackBlocks sack = default;
        policy.WriteDuplicate(ref sack);
        Assert.Equal(0, sack.Count);
        var start = new SeqNumber(left);
        policy.OnDuplicate(start - 10, start);
        policy.OnDuplicate(start, start + 0x20);
        Assert.True(policy.HasDuplicate);
        policy.WriteDuplicate(ref sack);
        policy.WriteDuplicate(ref sack);
        Assert.Equal(1, sack.Count);
        Assert.Equal((start, start + 0x20), sack[0]);
        Assert.False(policy.HasDuplicate);
    }
}

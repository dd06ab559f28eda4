namespace Xdp.TcpLite.Tests;

public class PacerTests
{
    private const int Mss = 1000;

    private static readonly Instant s_start = new(TimeSpan.TicksPerHour);

    private static TimeSpan Milliseconds(double value) => TimeSpan.FromMilliseconds(value);

    [Theory]
    [InlineData(0, false)]
    [InlineData(1.9, false)]
    [InlineData(2, true)]
    [InlineData(100, true)]
    public void Paces_RoundTripsFromTwoMilliseconds(double minRtt, bool paces) =>
        Assert.Equal(paces, Pacer.Paces(Milliseconds(minRtt)));

    [Fact]
    public void Holds_InitialWindow_LeavesAtOnce()
    {
        var pacer = new Pacer();
        pacer.Start(Mss);
        for (int i = 0; i < 10; i++)
        {
            Assert.False(pacer.Holds(s_start));
            pacer.OnSent(Mss, rate: 1000, Mss, s_start);
        }
        Assert.Equal(Instant.Never, pacer.Deadline);
    }

    [Fact]
    public void Holds_NoRate_Never()
    {
        var pacer = new Pacer();
        pacer.OnSent(Mss, rate: 1000, Mss, s_start);
        pacer.OnSent(Mss, rate: 1000, Mss, s_start);
        pacer.OnSent(Mss, rate: 0, Mss, s_start);
        Assert.False(pacer.Holds(s_start));
    }

    /// <summary>At least two segments a quantum, and what the rate gives in a tick of the wheel.</summary>
    /// <param name="rate">Bytes a second.</param>
    /// <param name="segments">That leave together.</param>
    /// <param name="milliseconds">From one quantum to the next.</param>
    [Theory]
    [InlineData(100_000, 2, 20)]
    [InlineData(2_000_000, 2, 1)]
    [InlineData(50_000_000, 50, 1)]
    public void Holds_SegmentsLeaveInQuanta(long rate, int segments, double milliseconds)
    {
        var pacer = new Pacer();
        Instant now = s_start;
        // What is collected while nothing is sent is spent first.
        SendAll(ref pacer, rate, now);
        for (int i = 0; i < 5; i++)
        {
            Instant next = pacer.Deadline;
            Assert.True(pacer.Holds(next - new TimeSpan(1)));
            Assert.False(pacer.Holds(next));
            pacer.OnDeadline();
            Assert.InRange(SendAll(ref pacer, rate, next), segments, segments + 1);
            Assert.InRange(pacer.Deadline - next, Milliseconds(milliseconds * 0.99), Milliseconds(milliseconds * 1.51));
        }
    }

    /// <summary>
    /// An ACK may let segments go when the deadline is over and the wheel has not fired yet. The pace holds for them.
    /// </summary>
    [Fact]
    public void Holds_DeadlineOverAndNotFired_KeepsThePace()
    {
        var pacer = new Pacer();
        SendAll(ref pacer, 100_000, s_start);
        Instant late = pacer.Deadline + new TimeSpan(1);
        int sent = 0;
        for (; sent < 10 && !pacer.Holds(late); sent++)
            pacer.OnSent(Mss, 100_000, Mss, late);
        Assert.InRange(sent, 2, 3);
        Assert.True(pacer.Deadline > late);
    }

    /// <summary>
    /// The wheel fires up to a tick late. Over time the rate is kept all the same, and never exceeded.
    /// </summary>
    [Theory]
    [InlineData(100_000, 0)]
    [InlineData(100_000, 0.9)]
    [InlineData(3_000_000, 0.5)]
    [InlineData(3_000_000, 1)]
    [InlineData(50_000_000, 1)]
    public void Holds_LateTimers_KeepTheRate(long rate, double late)
    {
        var pacer = new Pacer();
        Instant now = s_start;
        long sent = 0;
        long burst = SendAll(ref pacer, rate, now) * Mss;
        while (now < s_start + TimeSpan.FromSeconds(2))
        {
            now = pacer.Deadline + Milliseconds(late);
            pacer.OnDeadline();
            sent += SendAll(ref pacer, rate, now) * Mss;
        }
        double expected = rate * (now - s_start).TotalSeconds;
        Assert.InRange(sent, expected * 0.97 - burst, expected + Mss);
    }

    /// <summary>After a pause of the application no more than two quanta leave at once.</summary>
    [Fact]
    public void Holds_AfterPause_BurstIsBounded()
    {
        var pacer = new Pacer();
        SendAll(ref pacer, 2_000_000, s_start);
        pacer.OnDeadline();
        Assert.InRange(SendAll(ref pacer, 2_000_000, s_start + TimeSpan.FromSeconds(5)), 4, 5);
    }

    private static int SendAll(ref Pacer pacer, long rate, Instant now)
    {
        int count = 0;
        while (!pacer.Holds(now))
        {
            pacer.OnSent(Mss, rate, Mss, now);
            count++;
        }
        return count;
    }
}

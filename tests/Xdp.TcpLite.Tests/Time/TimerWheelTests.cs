namespace Xdp.TcpLite.Tests;

public class TimerWheelTests
{
    private static readonly Instant s_origin = new(TimeSpan.FromDays(2).Ticks + 4321);

    private sealed class Timer : TimerEntry
    {
        public Instant Due = Instant.Never;
    }

    private static Instant At(double milliseconds) =>
        s_origin + TimeSpan.FromTicks((long)(milliseconds * TimeSpan.TicksPerMillisecond));

    [Theory]
    [InlineData(0.5)]
    [InlineData(1)]
    [InlineData(1.0001)]
    [InlineData(255)]
    [InlineData(256)]
    [InlineData(257)]
    [InlineData(65535)]
    [InlineData(65536)]
    [InlineData(65537)]
    [InlineData(16777215)]
    [InlineData(16777216)]
    [InlineData(4294967295)]
    [InlineData(4294967296)]
    [InlineData(30e9)]
    public void TakeExpired_FollowingNextDeadline_FiresAtTheDeadlineOrLessThanATickLater(double milliseconds)
    {
        var wheel = new TimerWheel(s_origin);
        var timer = new Timer();
        wheel.Schedule(timer, At(milliseconds));
        Assert.Equal(At(milliseconds), timer.WheelDeadline);
        Assert.Null(wheel.TakeExpired(s_origin));
        int wakes = 0;
        while (true)
        {
            Instant next = wheel.NextDeadline;
            Assert.True(next < At(milliseconds) + TimeSpan.FromMilliseconds(1));
            if (wheel.TakeExpired(next) is { } expired)
            {
                Assert.Same(timer, expired);
                Assert.True(next >= At(milliseconds));
                break;
            }
            Assert.True(wheel.NextDeadline > next);
            Assert.True(++wakes < 20);
        }
        Assert.Equal(Instant.Never, wheel.NextDeadline);
        Assert.Equal(Instant.Never, timer.WheelDeadline);
        Assert.Null(wheel.TakeExpired(At(1e11)));
    }

    [Fact]
    public void TakeExpired_JustBeforeTheDeadline_GivesNothing()
    {
        foreach (double ms in new[] { 1, 3.3, 255, 256, 1000, 65536.5, 1e8 })
        {
            var wheel = new TimerWheel(s_origin);
            var timer = new Timer();
            wheel.Schedule(timer, At(ms));
            Assert.Null(wheel.TakeExpired(At(ms) - TimeSpan.FromTicks(1)));
            Assert.Same(timer, wheel.TakeExpired(At(ms) + TimeSpan.FromMilliseconds(1)));
        }
    }

    [Fact]
    public void Schedule_InThePast_IsDueAtOnce()
    {
        var wheel = new TimerWheel(s_origin);
        Assert.Null(wheel.TakeExpired(At(1000)));
        var timer = new Timer();
        wheel.Schedule(timer, At(-5));
        Assert.True(wheel.NextDeadline <= At(1000));
        Assert.Same(timer, wheel.TakeExpired(At(1000)));
    }

    [Fact]
    public void Schedule_PutOff_LeavesTheEntryAndFiresLater()
    {
        var wheel = new TimerWheel(s_origin);
        var timer = new Timer();
        wheel.Schedule(timer, At(200));
        for (int i = 1; i <= 1000; i++)
        {
            wheel.Schedule(timer, At(200 + i));
            Assert.Null(wheel.TakeExpired(At(i)));
        }
        Assert.Null(wheel.TakeExpired(At(1199)));
        Assert.Same(timer, wheel.TakeExpired(At(1200)));
    }

    [Fact]
    public void Schedule_BroughtForward_FiresEarlier()
    {
        var wheel = new TimerWheel(s_origin);
        var timer = new Timer();
        wheel.Schedule(timer, At(1e7));
        wheel.Schedule(timer, At(50));
        Assert.True(wheel.NextDeadline <= At(50));
        Assert.Same(timer, wheel.TakeExpired(At(50)));
        Assert.Null(wheel.TakeExpired(At(1e8)));
    }

    [Fact]
    public void Cancel_AndNever_TakeTheEntryOut()
    {
        var wheel = new TimerWheel(s_origin);
        var timer = new Timer();
        wheel.Cancel(timer);
        foreach (double ms in new[] { -1, 5, 500, 1e6 })
        {
            wheel.Schedule(timer, At(ms));
            wheel.Cancel(timer);
            wheel.Schedule(timer, At(ms));
            wheel.Schedule(timer, Instant.Never);
            Assert.False(timer.IsScheduled);
            Assert.Equal(Instant.Never, timer.WheelDeadline);
        }
        Assert.Null(wheel.TakeExpired(At(1e9)));
        Assert.Equal(Instant.Never, wheel.NextDeadline);
    }

    [Fact]
    public void Cancel_OfAnEntryThatIsDueButNotTaken_TakesItOut()
    {
        var wheel = new TimerWheel(s_origin);
        Timer[] timers = [new(), new(), new()];
        foreach (Timer timer in timers)
            wheel.Schedule(timer, At(10));
        var first = (Timer)wheel.TakeExpired(At(20))!;
        foreach (Timer timer in timers)
            wheel.Cancel(timer);
        Assert.Null(wheel.TakeExpired(At(20)));
        wheel.Schedule(first, At(30));
        Assert.Same(first, wheel.TakeExpired(At(30)));
    }

    [Theory]
    [InlineData(1, 10)]
    [InlineData(2, 1000)]
    [InlineData(3, 200_000)]
    [InlineData(4, 100_000_000)]
    public void Wheel_RandomOperationsAndJumps_BehavesAsASortedList(int seed, int range)
    {
        var random = new Random(seed);
        var wheel = new TimerWheel(s_origin);
        Timer[] timers = [.. Enumerable.Range(0, 200).Select(_ => new Timer())];
        Instant now = s_origin;
        for (int i = 0; i < 30_000; i++)
        {
            Timer timer = timers[random.Next(timers.Length)];
            int choice = random.Next(10);
            if (choice < 5)
                wheel.Schedule(
                    timer,
                    timer.Due = now
                        + TimeSpan.FromMilliseconds(random.NextDouble() * Math.Pow(range, random.NextDouble())));
            else if (choice < 6)
            {
                wheel.Cancel(timer);
                timer.Due = Instant.Never;
            }
            else
            {
                now += choice < 9 ? TimeSpan.FromMilliseconds(random.NextDouble() * 5)
                    : TimeSpan.FromMilliseconds(random.NextDouble() * random.NextDouble() * range);
                TakeAll(wheel, timers, now);
            }
            Instant first = First(timers);
            Assert.True(first == Instant.Never || wheel.NextDeadline < first + TimeSpan.FromMilliseconds(1), $"{i}");
        }
        TakeAll(wheel, timers, now + TimeSpan.FromDays(400));
        Assert.All(timers, t => Assert.Equal(Instant.Never, t.Due));
        Assert.Equal(Instant.Never, wheel.NextDeadline);
    }

    private static Instant First(Timer[] timers)
    {
        Instant first = Instant.Never;
        foreach (Timer timer in timers)
            first = Instant.Min(first, timer.Due);
        return first;
    }

    private static void TakeAll(TimerWheel wheel, Timer[] timers, Instant now)
    {
        while (wheel.TakeExpired(now) is Timer expired)
        {
            Assert.True(expired.Due <= now);
            expired.Due = Instant.Never;
        }
        Instant late = First(timers);
        Assert.True(late > now - TimeSpan.FromMilliseconds(1), $"{now - late} late");
        Assert.True(wheel.NextDeadline > now);
    }

    [Fact]
    public void TakeExpired_JumpOfDays_FiresInOrderOfTicks()
    {
        var random = new Random(9);
        var wheel = new TimerWheel(s_origin);
        for (int i = 0; i < 5000; i++)
        {
            var timer = new Timer { Due = At(random.NextDouble() * 1e9) };
            wheel.Schedule(timer, timer.Due);
        }
        Instant last = s_origin;
        int count = 0;
        while (wheel.TakeExpired(At(2e9)) is Timer timer)
        {
            Assert.True(timer.Due > last - TimeSpan.FromMilliseconds(1));
            last = timer.Due;
            count++;
        }
        Assert.Equal(5000, count);
    }
}

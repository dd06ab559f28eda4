using Kestrel.Transport.Xdp.Internal.Queues;

namespace Kestrel.Transport.Xdp.Tests.Queues;

/// <summary>When one flush is expected for what a connection was given.</summary>
public class AnswerHabitTests
{
    private AnswerHabit _habit = new();

    [Fact]
    public void OneFlushAndOneRead_IsFoundOut_AndStays()
    {
        Assert.False(_habit.IsSingle);
        Answer(times: 100, turns: 2);
        Assert.True(_habit.IsSingle);
        Answer(times: 20_000, turns: 2);
        Assert.True(_habit.IsSingle);
    }

    [Fact]
    public void MoreNowAndThen_ChangesNothing()
    {
        for (int i = 0; i < 1000; i++)
        {
            Answer(times: 9, turns: 2);
            Answer(times: 1, turns: 3);
            Assert.Equal(i >= 6, _habit.IsSingle);
        }
    }

    [Fact]
    public void MoreEachTime_IsTriedLessAndLessOften()
    {
        int trials = 0;
        for (int i = 0; i < 100_000; i++)
        {
            _habit.Delivered(1);
            trials += _habit.IsSingle ? 1 : 0;
            Turns(5);
        }
        Assert.InRange(trials, 50, 250);
        Assert.False(_habit.IsSingle);
    }

    [Fact]
    public void MoreFromNowOn_EndsItSoon()
    {
        Answer(times: 20_000, turns: 2);
        Answer(times: 40, turns: 5);
        Assert.False(_habit.IsSingle);
    }

    [Fact]
    public void SeveralConnectionsAtOnce_SayNothing()
    {
        for (int i = 0; i < 1000; i++)
        {
            _habit.Delivered(2);
            Turns(1);
        }
        Assert.False(_habit.IsSingle);
    }

    private void Answer(int times, int turns)
    {
        for (int i = 0; i < times; i++)
        {
            _habit.Delivered(1);
            Turns(turns);
        }
    }

    private void Turns(int count)
    {
        for (int i = 0; i < count; i++)
            _habit.TurnRan();
    }
}

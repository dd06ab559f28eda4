using Kestrel.Transport.Xdp.Internal.Queues;

namespace Kestrel.Transport.Xdp.Tests.Queues;

/// <summary>When one flush is expected for what a connection was given.</summary>
public class AnswerHabitTests
{
    private AnswerHabit _habit = new();
    private bool _expectsOne;

    [Fact]
    public void OneFlushAndOneRead_IsFoundOut_AndStays()
    {
        Answer(times: 1, turns: 2);
        Assert.False(_expectsOne);
        Answer(times: 100, turns: 2);
        Assert.True(_expectsOne);
        Answer(times: 20_000, turns: 2);
        Assert.True(_expectsOne);
    }

    [Fact]
    public void MoreNowAndThen_ChangesNothing()
    {
        for (int i = 0; i < 1000; i++)
        {
            Answer(times: 9, turns: 2);
            Answer(times: 1, turns: 3);
            Assert.Equal(i >= 6, _expectsOne);
        }
    }

    [Fact]
    public void MoreEachTime_IsTriedLessAndLessOften()
    {
        int trials = 0;
        for (int i = 0; i < 100_000; i++)
        {
            Answer(times: 1, turns: 5);
            trials += _expectsOne ? 1 : 0;
        }
        Assert.InRange(trials, 50, 250);
        Assert.False(_expectsOne);
    }

    [Fact]
    public void MoreFromNowOn_EndsItSoon()
    {
        Answer(times: 20_000, turns: 2);
        Answer(times: 40, turns: 5);
        Assert.False(_expectsOne);
    }

    /// <summary>Turns behind a batch say nothing of what is given to one.</summary>
    [Fact]
    public void BatchesInBetween_AreNotHeldAgainstIt()
    {
        Answer(times: 100, turns: 2);
        for (int i = 0; i < 1000; i++)
        {
            _habit.Delivered(64);
            Turns(4);
            Answer(times: 1, turns: 2);
        }
        Assert.True(_expectsOne);
    }

    [Fact]
    public void BatchesInBetween_DoNotProveIt()
    {
        Answer(times: 64, turns: 5);
        for (int i = 0; i < 40; i++)
        {
            Answer(times: 1, turns: 5);
            _habit.Delivered(2);
        }
        Assert.False(_expectsOne);
    }

    private void Answer(int times, int turns)
    {
        for (int i = 0; i < times; i++)
        {
            _habit.Delivered(1);
            _expectsOne = _habit.TryExpectOne();
            Turns(turns);
        }
    }

    private void Turns(int count)
    {
        for (int i = 0; i < count; i++)
            _habit.TurnRan();
    }
}

using Kestrel.Transport.Xdp.Internal.Queues;

namespace Kestrel.Transport.Xdp.Tests.Queues;

/// <summary>When one flush is expected for what a connection was given.</summary>
public class AnswerHabitTests
{
    private AnswerHabit _habit = new();

    [Fact]
    public void OneFlushEach_IsFoundOut_AndStays()
    {
        Assert.False(_habit.IsSingle);
        Answer(times: 100, flushes: 1);
        Assert.True(_habit.IsSingle);
        Answer(times: 20_000, flushes: 1);
        Assert.True(_habit.IsSingle);
    }

    [Fact]
    public void SeveralFlushesEach_AreTriedLessAndLessOften()
    {
        int trials = 0;
        for (int i = 0; i < 100_000; i++)
        {
            _habit.Delivered(1);
            trials += _habit.IsSingle ? 1 : 0;
            Flush(2);
        }
        Assert.InRange(trials, 5, 30);
        Assert.False(_habit.IsSingle);
    }

    [Fact]
    public void SecondFlush_EndsIt()
    {
        Answer(times: 100, flushes: 1);
        Answer(times: 1, flushes: 2);
        Assert.False(_habit.IsSingle);
    }

    [Fact]
    public void SeveralConnectionsAtOnce_SayNothing()
    {
        for (int i = 0; i < 1000; i++)
        {
            _habit.Delivered(2);
            Flush(1);
        }
        Assert.False(_habit.IsSingle);
    }

    [Fact]
    public void NoFlush_IsNoReasonToWait()
    {
        Answer(times: 100, flushes: 0);
        Assert.True(_habit.IsSingle);
    }

    private void Answer(int times, int flushes)
    {
        for (int i = 0; i < times; i++)
        {
            _habit.Delivered(1);
            Flush(flushes);
        }
    }

    private void Flush(int times)
    {
        for (int i = 0; i < times; i++)
            _habit.Flushed();
    }
}

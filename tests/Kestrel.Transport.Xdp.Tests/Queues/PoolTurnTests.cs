using Kestrel.Transport.Xdp.Internal.Queues;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Tests.Queues;

public class PoolTurnTests
{
    private readonly List<IThreadPoolWorkItem> _pool = [];
    private readonly PoolTurn _turn;
    private Instant _now = new(1000);
    private int _runs;

    public PoolTurnTests() => _turn = new PoolTurn(Run, _pool.Add, () => _now);

    private void Run()
    {
        _runs++;
        _turn.Ended();
    }

    private void Execute()
    {
        IThreadPoolWorkItem item = _pool[0];
        _pool.RemoveAt(0);
        item.Execute();
    }

    [Fact]
    public void Queue_Twice_IsInThePoolOnce()
    {
        _turn.Queue();
        _turn.Queue();
        Assert.Single(_pool);
        Assert.True(_turn.IsQueued);
        Execute();
        Assert.Equal(1, _runs);
        Assert.False(_turn.IsPending);
        _turn.Queue();
        Assert.Single(_pool);
    }

    [Fact]
    public void Queue_WhileTheTurnRuns_IsInThePoolOnceMore()
    {
        PoolTurn? turn = null;
        turn = new PoolTurn(
            () =>
            {
                Assert.False(turn!.IsQueued);
                Assert.True(turn.IsPending);
                turn.Queue();
                turn.Queue();
                turn.Ended();
            },
            _pool.Add, () => _now);
        turn.Queue();
        Execute();
        Assert.Single(_pool);
        Assert.True(turn.IsQueued);
    }

    [Fact]
    public void Pool_InTime_IsNotLate()
    {
        _turn.Queue();
        _now += PoolTurn.Patience - TimeSpan.FromTicks(1);
        _turn.CheckOverdue();
        Execute();
        Assert.False(_turn.IsLate);
        Assert.Equal(0, _turn.Overdue);
        Assert.Empty(_pool);
    }

    [Fact]
    public void Pool_TooLate_IsLateUntilItKeepsUpAgain()
    {
        _turn.Queue();
        _now += PoolTurn.Patience;
        _turn.CheckOverdue();
        Assert.False(_turn.IsLate);
        _turn.TurnRan(_now, receives: true, delivered: 0);
        _turn.CheckOverdue();
        _now += PoolTurn.Patience;
        _turn.CheckOverdue();
        Assert.True(_turn.IsLate);
        Assert.Equal(2, _turn.Overdue);
        _now += PoolTurn.Patience;

        // The pool comes to it at last. The next item shows whether the pool keeps up. It is ahead of all the work that
        // the turn gives the pool.
        Execute();
        Assert.True(_turn.IsLate);
        Assert.Single(_pool);
        _now += PoolTurn.Patience;
        Execute();
        Assert.True(_turn.IsLate);
        Execute();
        Assert.False(_turn.IsLate);
        Assert.Empty(_pool);
    }

    [Fact]
    public void QueuedAgain_OverdueCountsFromThen()
    {
        _turn.Queue();
        Execute();
        _now += 10 * PoolTurn.Patience;
        _turn.Queue();
        Assert.Equal(_now + PoolTurn.Patience, _turn.OverdueAt);
        _turn.CheckOverdue();
        Assert.False(_turn.IsLate);
    }

    /// <summary>
    /// A long batch before the item: those who flush send what is written, and not each answer by itself.
    /// </summary>
    [Fact]
    public void AnswerWritten_OverdueCountsFromTheLastTurn_WhoeverRanIt()
    {
        _turn.Queue();
        Assert.False(_turn.AnswerWritten());
        _now += PoolTurn.Patience;
        Assert.True(_turn.AnswerWritten());
        _turn.TurnRan(_now, receives: true, delivered: 0);
        Assert.False(_turn.AnswerWritten());
        _now += PoolTurn.Patience - TimeSpan.FromTicks(1);
        Assert.False(_turn.AnswerWritten());
        Execute();
        Assert.False(_turn.IsLate);
        Assert.False(_turn.AnswerWritten());
    }

    /// <summary>
    /// While the pool is late, answers of slow handlers leave one by one, and those of a fast batch together.
    /// </summary>
    /// <param name="microseconds">From one answer to the next.</param>
    /// <param name="together">How many leave together.</param>
    [Theory]
    [InlineData(5000, 1)]
    [InlineData(200, 1)]
    [InlineData(199, 3)]
    [InlineData(10, PoolTurn.MostAnswers)]
    public void AnswerWritten_WhileThePoolIsLate_SlowOnesLeaveAlone(int microseconds, int together)
    {
        _turn.Queue();
        _now += PoolTurn.Patience;
        _turn.CheckOverdue();
        _turn.CheckOverdue();
        Assert.True(_turn.IsLate);
        _turn.AnswerWritten();
        for (int turn = 0; turn < 3; turn++)
        {
            _turn.TurnRan(_now, receives: true, delivered: 0);
            int answers = 0;
            bool leave;
            do
            {
                _now += TimeSpan.FromMicroseconds(microseconds);
                answers++;
                leave = _turn.AnswerWritten();
            }
            while (!leave);
            Assert.Equal(together, answers);
        }
    }

    /// <summary>A turn that only sends does not keep the worker from looking at what has arrived.</summary>
    [Fact]
    public void OverdueAt_IsPutOffByTurnsThatReceive()
    {
        _turn.Queue();
        Instant first = _turn.OverdueAt;
        _now += PoolTurn.Patience / 2;
        _turn.TurnRan(_now, receives: false, delivered: 0);
        Assert.Equal(first, _turn.OverdueAt);
        _turn.TurnRan(_now, receives: true, delivered: 0);
        Assert.Equal(_now + PoolTurn.Patience, _turn.OverdueAt);
    }

    /// <summary>
    /// Whoever ran turns meanwhile: an item that has waited for long shows that the pool is late, unless the batch
    /// before it is the reason.
    /// </summary>
    /// <param name="batch">Connections that the turns before have given the pool.</param>
    /// <param name="late">The pool is late then.</param>
    [Theory]
    [InlineData(0, true)]
    [InlineData(2, true)]
    [InlineData(10, false)]
    public void Pool_SlowBecauseOfALongBatch_IsNotLate(int batch, bool late)
    {
        _turn.Queue();
        for (int i = 0; i < 2; i++)
        {
            _now += PoolTurn.Patience;
            _turn.CheckOverdue();
            _turn.TurnRan(_now, receives: true, delivered: batch / 2);
        }
        Assert.Equal(2, _turn.Overdue);
        Assert.Equal(late, _turn.IsLate);
        Execute();
        Assert.Equal(late, _turn.IsLate);
    }

    /// <summary>The clients of a long batch do not wait for all of it.</summary>
    [Fact]
    public void AnswerWritten_SoManyTogether_LeaveAtOnce()
    {
        _turn.Queue();
        for (int round = 0; round < 3; round++)
        {
            for (int i = 1; i < PoolTurn.MostAnswers; i++)
                Assert.False(_turn.AnswerWritten());
            Assert.True(_turn.AnswerWritten());
            _turn.TurnRan(_now, receives: false, delivered: 0);
        }
    }
}

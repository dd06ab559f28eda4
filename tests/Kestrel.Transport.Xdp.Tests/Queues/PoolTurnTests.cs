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
    public void IsOverdue_CountsFromTheLastTurn_WhoeverRanIt()
    {
        _turn.Queue();
        Assert.False(_turn.AnswersAreOverdue);
        _now += PoolTurn.Patience;
        Assert.True(_turn.AnswersAreOverdue);
        _turn.TurnRan(_now, receives: true, delivered: 0);
        Assert.False(_turn.AnswersAreOverdue);
        _now += PoolTurn.Patience - TimeSpan.FromTicks(1);
        Assert.False(_turn.AnswersAreOverdue);
        Execute();
        Assert.False(_turn.IsLate);
        Assert.False(_turn.AnswersAreOverdue);
    }

    [Fact]
    public void IsOverdue_WhileThePoolIsLate_IsSooner()
    {
        _turn.Queue();
        _now += PoolTurn.Patience;
        _turn.CheckOverdue();
        _turn.CheckOverdue();
        _turn.TurnRan(_now, receives: true, delivered: 0);
        Assert.False(_turn.AnswersAreOverdue);
        _now += PoolTurn.Patience / 5;
        Assert.True(_turn.AnswersAreOverdue);
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
    /// Whoever ran turns meanwhile: an item that has waited for long shows that the pool is still late.
    /// </summary>
    [Theory]
    [InlineData(0, true)]
    [InlineData(100, false)]
    public void Pool_Late_StaysSoUnlessTheBatchBeforeTheItemIsTheReason(int batch, bool late)
    {
        _turn.Queue();
        for (int i = 0; i < 2; i++)
        {
            _now += PoolTurn.Patience;
            _turn.CheckOverdue();
            _turn.TurnRan(_now, receives: true, delivered: batch / 2);
        }
        Assert.True(_turn.IsLate);
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

using System.Collections.Concurrent;
using Kestrel.Transport.Xdp.Internal.Queues;
using Kestrel.Transport.Xdp.Tests.Support;
using Xdp.Sockets;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Tests.Queues;

/// <summary>Who runs a queue's turns, with a queue and a pool that the tests play.</summary>
public sealed class QueueWorkerTests : IDisposable
{
    private readonly FakeTurns _turns = new();
    private readonly ConcurrentQueue<IThreadPoolWorkItem> _pool = new();
    private QueueWorker? _worker;

    public void Dispose()
    {
        _turns.Packets.Release(100);
        _worker?.Stop();
        _worker?.Dispose();
    }

    private QueueWorker Start(bool inline = false, Action<IThreadPoolWorkItem>? pool = null)
    {
        _worker = new QueueWorker(_turns, "queue under test", TimeSpan.Zero, inline, pool ?? _pool.Enqueue);
        _worker.Start();
        return _worker;
    }

    /// <summary>The pool comes to its oldest item.</summary>
    private void ExecuteNext()
    {
        Assert.True(_pool.TryDequeue(out IThreadPoolWorkItem? item));
        item.Execute();
    }

    /// <summary>Packets arrive, and the turn that receives them gives something to so many connections.</summary>
    private void Arrive(int connections)
    {
        _turns.ToDeliver.Enqueue(connections);
        _turns.Packets.Release();
    }

    private void Post()
    {
        Interlocked.Increment(ref _turns.Dirty);
        _worker!.Posted();
    }

    [SkippableFact]
    public void Posted_WhileTheWorkerSleeps_RunsTheTurnAtOnce()
    {
        Skip.IfNot(OperatingSystem.IsLinux());
        Start();
        _turns.AwaitSleep();
        Post();
        Assert.Equal(0, _turns.Dirty);
        Assert.Equal(TurnKind.Poster, _turns.Runs.Last());
        Assert.Empty(_pool);
    }

    /// <summary>Else the exception would end the process.</summary>
    [SkippableFact]
    public void WorkerThatCannotWait_TellsTheQueue_AndEnds()
    {
        Skip.IfNot(OperatingSystem.IsLinux());
        var failure = new InvalidOperationException("ppoll");
        _turns.WaitFails = failure;
        QueueWorker worker = Start();
        Eventually(() => _turns.WorkerFailure is not null);
        worker.Stop();
        Assert.Same(failure, _turns.WorkerFailure);
    }

    /// <summary>As after a start that the system has refused.</summary>
    [SkippableFact]
    public void Stop_OfAWorkerThatWasNotStarted_Returns()
    {
        Skip.IfNot(OperatingSystem.IsLinux());
        using var worker = new QueueWorker(_turns, "not started", TimeSpan.Zero, inline: false, _pool.Enqueue);
        worker.Stop();
        worker.Run(() => _turns.IsClosed = true);
        Assert.True(_turns.IsClosed);
        Assert.Empty(_turns.Runs);
    }

    [SkippableFact]
    public void Posted_AfterABatch_WaitsForThePoolsTurn_WhichAppliesAll()
    {
        Skip.IfNot(OperatingSystem.IsLinux());
        Start();
        _turns.AwaitSleep();
        // A pool that is played here may take its time. Beyond the worker's patience it runs the turn itself, and after
        // two of these it rests no more before an item has run in time.
        int done = 0;
        Eventually(() =>
        {
            _turns.Runs.Clear();
            Arrive(3);
            Eventually(() => !_pool.IsEmpty || _turns.ToDeliver.IsEmpty);
            Post();
            Post();
            Post();
            Assert.InRange(_pool.Count, 0, 1);
            bool isQueued = !_pool.IsEmpty;
            if (isQueued)
                ExecuteNext();
            if (isQueued && _turns.Runs.Contains(TurnKind.Pool) && _turns.AppliedBy == TurnKind.Pool)
                done++;
            Eventually(() => _turns.Dirty == 0);
            Drain();
            return done >= 20;
        });
    }

    [SkippableFact]
    public void PoolThatNeverComes_WorkerRunsTheTurn_AndThenThoseWhoFlush()
    {
        Skip.IfNot(OperatingSystem.IsLinux());
        QueueWorker worker = Start();
        _turns.AwaitSleep();
        Arrive(3);
        SpinWait.SpinUntil(() => !_pool.IsEmpty);
        Post();
        Eventually(() => _turns.Dirty == 0);
        Eventually(() => worker.PoolOverdue > 0);
        for (int i = 0; i < 10; i++)
        {
            Post();
            // By this thread, or by the worker if it was just then awake.
            Eventually(() => _turns.Dirty == 0);
        }
        Assert.Contains(TurnKind.Poster, _turns.Runs);
        Assert.Single(_pool);
        Assert.DoesNotContain(TurnKind.Pool, _turns.Runs);
    }

    [SkippableFact]
    public void PoolsTurn_WithNothingMoreToDo_LeavesPacketsToTheWorker()
    {
        Skip.IfNot(OperatingSystem.IsLinux());
        Start();
        _turns.AwaitSleep();
        for (int i = 0; i < 50; i++)
        {
            Arrive(2);
            SpinWait.SpinUntil(() => !_pool.IsEmpty);
            ExecuteNext();
            // Only the worker takes these: the pool has no item.
            _turns.Runs.Clear();
            Arrive(1);
            Eventually(() => _turns.ToDeliver.IsEmpty);
            Drain();
        }
    }

    [SkippableFact]
    public void PoolsTurn_ThatDelivers_IsQueuedAgain()
    {
        Skip.IfNot(OperatingSystem.IsLinux());
        Start();
        _turns.AwaitSleep();
        // Beyond the worker's patience it would run the turn itself: a pool that is played here may take its time.
        bool queuedAgain = false;
        while (!queuedAgain)
        {
            _turns.Runs.Clear();
            Arrive(2);
            SpinWait.SpinUntil(() => !_pool.IsEmpty);
            _turns.ToDeliver.Enqueue(2);
            ExecuteNext();
            queuedAgain = _turns.Runs.LastOrDefault() == TurnKind.Pool && _pool.Count == 1;
            Eventually(() => _turns.ToDeliver.IsEmpty);
            Drain();
        }
    }

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public void Stopped_WithTheItemQueued_TheItemDoesNoHarm(bool inline)
    {
        Skip.IfNot(OperatingSystem.IsLinux());
        QueueWorker worker = Start(inline);
        _turns.AwaitSleep();
        worker.Run(() => { });
        Arrive(2);
        if (!inline)
            SpinWait.SpinUntil(() => !_pool.IsEmpty);
        worker.Stop();
        worker.Run(() => _turns.IsClosed = true);
        worker.Dispose();
        Drain();
        Post();
        Assert.Equal(0, _turns.Dirty);
    }

    [SkippableFact]
    public void Closed_InAPoolTurn_WorkerEnds()
    {
        Skip.IfNot(OperatingSystem.IsLinux());
        QueueWorker worker = Start();
        _turns.AwaitSleep();
        Arrive(2);
        SpinWait.SpinUntil(() => !_pool.IsEmpty);
        _turns.CloseAtNextTurn = true;
        Drain();
        // Joins the thread.
        worker.Stop();
        Post();
        Assert.Equal(0, _turns.Dirty);
    }

    /// <summary>
    /// Many threads flush while packets come, on the process's own thread pool. Whatever is published is found.
    /// </summary>
    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task ManyPosters_NothingIsLeftLying(bool inline)
    {
        Skip.IfNot(OperatingSystem.IsLinux());
        const int Posters = 4, Rounds = 5_000;
        Start(inline, static item => ThreadPool.UnsafeQueueUserWorkItem(item, preferLocal: false));
        await Task.WhenAll(Enumerable.Range(0, Posters).Select(p => Task.Factory.StartNew(
            () =>
            {
                var random = new Random(p);
                for (int i = 0; i < Rounds; i++)
                {
                    switch (random.Next(8))
                    {
                        case 0:
                            Arrive(random.Next(4));
                            break;
                        case 1:
                            Volatile.Write(ref _turns.Other, true);
                            _worker!.Wake();
                            break;
                        default:
                            Post();
                            break;
                    }
                    if (random.Next(100) == 0)
                        Eventually(HasNothingLeft);
                    Thread.SpinWait(random.Next(2000));
                }
            }, TaskCreationOptions.LongRunning)));
        Eventually(HasNothingLeft);

        bool HasNothingLeft() => _turns.Dirty == 0 && !Volatile.Read(ref _turns.Other) && _turns.ToDeliver.IsEmpty;
    }

    private void Drain()
    {
        while (_pool.TryDequeue(out IThreadPoolWorkItem? item))
            item.Execute();
    }

    private static void Eventually(Func<bool> condition) =>
        Assert.True(SpinWait.SpinUntil(condition, TimeSpan.FromSeconds(30)));

    private sealed class FakeTurns : ITurns
    {
        internal readonly SemaphoreSlim Packets = new(0);
        internal readonly ConcurrentQueue<int> ToDeliver = new();
        internal readonly ConcurrentQueue<TurnKind> Runs = new();
        internal int Dirty;
        internal bool Other;
        private volatile bool _closed;
        private int _inTurn;
        private volatile int _sleeps;

        internal bool IsClosed
        {
            get => _closed;
            set => _closed = value;
        }

        internal bool CloseAtNextTurn { get; set; }

        internal TurnKind AppliedBy { get; private set; }

        bool ITurns.IsClosed => _closed;

        bool ITurns.IsDirty => Volatile.Read(ref Dirty) > 0;

        bool ITurns.HasOtherWork => Volatile.Read(ref Other);

        TurnReport ITurns.Run(TurnKind kind)
        {
            Assert.Equal(1, Interlocked.Increment(ref _inTurn));
            Runs.Enqueue(kind);
            _closed |= CloseAtNextTurn;
            if (Interlocked.Exchange(ref Dirty, 0) > 0)
                AppliedBy = kind;
            int delivered = 0;
            if (kind != TurnKind.Poster)
            {
                Volatile.Write(ref Other, false);
                while (ToDeliver.TryDequeue(out int some))
                    delivered += some;
            }
            Interlocked.Decrement(ref _inTurn);
            Instant now = Clock.Now;
            return new TurnReport
            {
                Now = now,
                DueAt = Instant.Never,
                Delivered = delivered,
                RxWaiting = !ToDeliver.IsEmpty,
                HasConnections = true,
            };
        }

        internal Exception? WaitFails { get; set; }

        internal Exception? WorkerFailure { get; private set; }

        void ITurns.WorkerFailed(Exception exception)
        {
            WorkerFailure = exception;
            _closed = true;
        }

        // In steps, since the event and the packets are two things here.
        WaitResult ITurns.Wait(EventFd wake, TimeSpan timeout)
        {
            _sleeps++;
            if (WaitFails is { } failure)
                throw failure;
            long end = Environment.TickCount64 + (long)timeout.TotalMilliseconds;
            do
            {
                if (wake.Wait(TimeSpan.Zero))
                    return WaitResult.Wake;
                if (Packets.Wait(1) || !ToDeliver.IsEmpty)
                    return WaitResult.None;
            }
            while (Environment.TickCount64 < end);
            return WaitResult.None;
        }

        /// <summary>The worker has nothing to do, and is in its long sleep.</summary>
        internal void AwaitSleep() => Eventually(() => _sleeps > 0 && Runs.LastOrDefault() == TurnKind.Worker);
    }
}

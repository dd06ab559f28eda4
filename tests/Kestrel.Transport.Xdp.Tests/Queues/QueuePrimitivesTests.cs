using System.Runtime.CompilerServices;
using Kestrel.Transport.Xdp.Internal.Connections;
using Kestrel.Transport.Xdp.Internal.Queues;

namespace Kestrel.Transport.Xdp.Tests.Queues;

public class QueuePrimitivesTests
{
    [Fact]
    public void DirtyList_TakeAll_FirstInFirstOut()
    {
        DirtyList list = default;
        QueueSide[] connections = Connections(5);
        Assert.True(list.IsEmpty);
        Assert.Null(list.TakeAll());
        foreach (QueueSide connection in connections)
            list.Push(connection);
        Assert.False(list.IsEmpty);
        Assert.Equal(connections, Walk(list.TakeAll()));
        Assert.True(list.IsEmpty);
    }

    private sealed class Shared
    {
        internal DirtyList List;
    }

    // Each producer posts its own connections over and over, each only after it was taken, as work words do.
    [Fact]
    public async Task DirtyList_ManyThreads_EveryPushIsTakenOnce()
    {
        const int Producers = 4, PerProducer = 16, Rounds = 20_000;
        var shared = new Shared();
        QueueSide[] connections = Connections(Producers * PerProducer);
        var index = connections.Select((c, i) => (c, i)).ToDictionary(p => p.c, p => p.i);
        int[] posted = new int[connections.Length];
        int[] pushes = new int[connections.Length];

        Task[] producers = [.. Enumerable.Range(0, Producers).Select(p => Task.Run(() =>
        {
            for (int round = 0; round < Rounds; round++)
            {
                int i = p * PerProducer + round % PerProducer;
                if (Interlocked.Exchange(ref posted[i], 1) == 0)
                {
                    pushes[i]++;
                    shared.List.Push(connections[i]);
                }
            }
        }))];

        int[] taken = new int[connections.Length];
        Task all = Task.WhenAll(producers);
        while (true)
        {
            bool last = all.IsCompleted;
            QueueSide? connection = shared.List.TakeAll();
            while (connection is not null)
            {
                QueueSide? next = connection.Work.NextDirty;
                connection.Work.NextDirty = null;
                int i = index[connection];
                taken[i]++;
                Assert.Equal(1, Interlocked.Exchange(ref posted[i], 0));
                connection = next;
            }
            if (last && shared.List.IsEmpty)
                break;
        }
        await all;
        Assert.Equal(pushes, taken);
    }

    [Fact]
    public void ConnectionList_HoldsWhatWasAddedAndNotRemoved()
    {
        ConnectionList list = default;
        QueueSide[] connections = Connections(4);
        foreach (QueueSide connection in connections)
            list.Add(connection);
        foreach (int removed in new[] { 1, 3, 0, 2 })
        {
            Assert.True(list.Remove(connections[removed]));
            Assert.False(list.Remove(connections[removed]));
            connections[removed] = null!;
            var left = new HashSet<QueueSide>();
            for (QueueSide? connection = list.First; connection is not null; connection = connection.NextInQueue)
                Assert.True(left.Add(connection));
            Assert.Equal(connections.OfType<QueueSide>().ToHashSet(), left);
        }
        Assert.Null(list.First);
    }

    [Fact]
    public void TurnToken_SameThread_NeverTwice()
    {
        var token = new TurnToken();
        Assert.False(token.IsMine);
        Assert.True(token.TryEnter());
        Assert.True(token.IsMine);
        Assert.False(token.TryEnter());
        Assert.Throws<InvalidOperationException>(token.Enter);
        token.Exit();
        Assert.False(token.IsMine);
        Assert.True(token.TryEnter());
        token.Exit();
    }

    [Fact]
    public void TurnToken_OtherThread_IsKeptOutUntilExit()
    {
        var token = new TurnToken();
        token.Enter();
        Assert.Equal((false, false), OnAnotherThread(token));
        token.Exit();
        Assert.Equal((true, true), OnAnotherThread(token));
    }

    private static (bool Entered, bool Mine) OnAnotherThread(TurnToken token)
    {
        bool entered = false, mine = false;
        var thread = new Thread(() =>
        {
            entered = token.TryEnter();
            mine = token.IsMine;
            if (entered)
                token.Exit();
        });
        thread.Start();
        thread.Join();
        return (entered, mine);
    }

    [SkippableFact]
    public async Task WakeGate_ManyProducers_NoWakeUpIsLost()
    {
        Skip.IfNot(OperatingSystem.IsLinux());
        const int Producers = 3, Rounds = 30_000;
        using var gate = new WakeGate();
        int published = 0, seen = 0, sleeps = 0;

        var worker = new Thread(() =>
        {
            while (seen < Producers * Rounds)
            {
                seen = Volatile.Read(ref published);
                gate.Announce(WorkerState.Sleeping);
                bool signalled = false;
                if (Volatile.Read(ref published) == seen && seen < Producers * Rounds)
                {
                    sleeps++;
                    // Nothing but a signal ends this within the test's time.
                    signalled = gate.Event.Wait(TimeSpan.FromSeconds(20));
                    if (!signalled)
                        return;
                }
                gate.Woke(signalled);
            }
        });
        worker.Start();
        Task[] producers = [.. Enumerable.Range(0, Producers).Select(p => Task.Factory.StartNew(
            () =>
            {
                var random = new Random(p);
                for (int i = 0; i < Rounds; i++)
                {
                    Interlocked.Increment(ref published);
                    if (gate.State != WorkerState.Awake)
                        gate.Signal();
                    Thread.SpinWait(random.Next(200));
                }
            }, TaskCreationOptions.LongRunning))];
        await Task.WhenAll(producers);
        Assert.True(worker.Join(TimeSpan.FromSeconds(60)));
        Assert.Equal(Producers * Rounds, seen);
        Assert.True(sleeps > 0);
    }

    // Their links are all that the list touches.
    private static QueueSide[] Connections(int count) =>
        [.. Enumerable.Range(0, count)
            .Select(_ => (QueueSide)RuntimeHelpers.GetUninitializedObject(typeof(QueueSide)))];

    private static List<QueueSide> Walk(QueueSide? connection)
    {
        var list = new List<QueueSide>();
        for (; connection is not null; connection = connection.Work.NextDirty)
            list.Add(connection);
        return list;
    }
}

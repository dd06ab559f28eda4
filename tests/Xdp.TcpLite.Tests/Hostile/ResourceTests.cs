using System.Runtime.CompilerServices;

namespace Xdp.TcpLite.Tests.Hostile;

/// <summary>What one client may take from the others: frames, heap, time.</summary>
[Collection(nameof(Alone))]
public class ResourceTests(Xunit.Abstractions.ITestOutputHelper output)
{
    [Fact]
    public void Writers_WhoTakeEveryFrameTheyCan_LeaveSomeForSegments()
    {
        var rig = new Rig();
        while (rig.Host.Frames.TryTakeForWriting() is not null)
        {
        }
        var peer = new Peer(rig);
        peer.Connect();
        peer.Data(0, 100);
        peer.Data(200, 300);
        Assert.NotEmpty(peer.Take());
    }

    [Fact]
    public void OutOfOrderFlood_OnManyConnections_LeavesHeapForDataInOrder()
    {
        var rig = new Rig(new TcpStackOptions { ForceHeap = true }, heap: 8 << 20);
        for (ushort i = 0; i < 10; i++)
        {
            var peer = new Peer(rig, port: (ushort)(40000 + i));
            peer.Connect();
            for (int from = 1; from < 1000; from += 2)
                peer.Data(from, from + 1);
        }
        var good = new Peer(rig, port: 50000);
        good.Connect();
        good.Data(0, 1000);
        Assert.Equal(1000, good.Read());
    }

    [Fact]
    public void InOrder_WhenTheHeapIsUsedUp_StaysInItsFrame()
    {
        var rig = new Rig(heap: 256 << 10);
        while (rig.Host.Blocks.TryTake() is not null)
        {
        }
        var peer = new Peer(rig);
        peer.Connect();
        peer.Data(0, 100);
        Assert.Equal(100, peer.Read());
    }

    /// <summary>
    /// Bytes of GC memory per idle connection, flow table included: what it takes today, and a little more. The aim is
    /// 512.
    /// </summary>
    private const int MostPerIdleConnection = 1700;

    /// <summary>GC memory once collections find nothing more to free.</summary>
    private static long SettledMemory()
    {
        long memory = GC.GetTotalMemory(forceFullCollection: true);
        while (true)
        {
            GC.WaitForPendingFinalizers();
            long next = GC.GetTotalMemory(forceFullCollection: true);
            if (next >= memory)
                return next;
            memory = next;
        }
    }

    [Fact]
    public void IdleConnections_TenThousand_HoldNoFrameAndLittleMemory()
    {
        const int count = 10_000;
        var rig = new Rig(new TcpStackOptions { Backlog = count });
        long before = SettledMemory();
        for (int i = 0; i < count; i++)
        {
            var peer = new Peer(rig, port: (ushort)(10_000 + i)) { Timestamps = true };
            peer.Connect();
            peer.Data(0, 200);
            peer.Nxt += 200;
            peer.Read();
            peer.Write(500);
            rig.Milliseconds(0.01);
            peer.AckUpTo(peer.Connection!.SndNxt);
            peer.Take();
            while (rig.Stack.TryTakeReady(out TcpConnection ready))
                ready.TakeEvents();
            if (i % 100 == 0)
                rig.Watched.Clear();
        }
        var connections = new List<TcpConnection>(rig.Watched);
        rig.Watched.Clear();
        rig.Milliseconds(1000);
        long each = (SettledMemory() - before) / count;
        output.WriteLine($"{each} bytes per idle connection");
        Assert.Equal((count, 0), (rig.Stack.ConnectionCount, rig.Host.Outstanding));
        Assert.InRange(each, 100, MostPerIdleConnection);
        GC.KeepAlive(connections);
    }

    [Fact]
    public void FlowTable_ChosenTuples_DoNotDegradeIt()
    {
        // Who knows the hash but not the key gains nothing: the longest run of occupied slots stays short.
        var rig = new Rig(new TcpStackOptions { Backlog = 20_000 });
        long start = System.Diagnostics.Stopwatch.GetTimestamp();
        for (uint i = 0; i < 10_000; i++)
        {
            var peer = new Peer(rig, port: (ushort)(1 + (i & 0xf) * 4096), address: 0x0b000000 + (i >> 4) * 65536);
            peer.Send(peer.Syn());
            peer.Take();
        }
        Assert.Equal(10_000, rig.Stack.HalfOpenCount);
        Assert.True(System.Diagnostics.Stopwatch.GetElapsedTime(start) < TimeSpan.FromSeconds(10));
    }

    /// <summary>A TIME-WAIT record that is renewed for ever must not keep those behind it in memory.</summary>
    [Fact]
    public void TimeWait_OldestKeptAliveWhileOthersAreReused_MemoryIsBounded()
    {
        var rig = new Rig();
        var pin = new Peer(rig, port: 1000);
        Enter(rig, pin);
        var records = new List<WeakReference>();
        var peer = new Peer(rig, port: 2000) { Timestamps = true };
        for (int i = 0; i < 50; i++)
        {
            peer = new Peer(rig, port: 2000, iss: (uint)(1000 + i * 1_000_000))
            {
                Timestamps = true,
                TsVal = (uint)(5000 + i * 1000),
            };
            Enter(rig, peer);
            records.Add(Record(rig, peer));
            rig.Milliseconds(1000);
            pin.Send(pin.Fields(TcpFlags.Ack | TcpFlags.Fin) with { Seq = pin.Nxt - 1 });
        }
        rig.Watched.Clear();
        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();
        Assert.True(
            records.Count(record => record.IsAlive) <= 2,
            $"{records.Count(record => record.IsAlive)} of {records.Count} records are still in memory");
        Assert.Equal(2, rig.Stack.TimeWaitCount);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static WeakReference Record(Rig rig, Peer peer) => new(rig.Stack.Environment.Flows.Find(peer.Flow));

    private static void Enter(Rig rig, Peer peer)
    {
        TcpConnection connection = peer.Connect();
        connection.Close();
        rig.Emit();
        Seen fin = peer.Take()[^1];
        peer.Ack = fin.Seq + 1;
        peer.Send(TcpFlags.Ack | TcpFlags.Fin);
        peer.Nxt += 1;
        peer.Take();
        Assert.Equal(TcpState.Closed, connection.State);
        Assert.True(rig.Stack.Owns(peer.Flow));
    }
}

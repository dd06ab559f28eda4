namespace Xdp.TcpLite.Tests.Hostile;

/// <summary>What a peer, or somebody who guesses, does to an established connection.</summary>
public class EstablishedTests
{
    private readonly Rig _rig = new();

    [Fact]
    public void Write_IntoZeroWindowThatWasAnnouncedBefore_IsProbed()
    {
        var peer = new Peer(_rig);
        peer.Connect();
        peer.Window = 0;
        peer.Send(TcpFlags.Ack);
        peer.Write(100);
        Assert.Empty(peer.Take());
        _rig.Advance(TimeSpan.FromSeconds(10)); // the window update is lost
        Assert.NotEmpty(peer.Take());
        peer.Window = 1000;
        peer.Send(TcpFlags.Ack);
        Assert.Equal(100, Assert.Single(peer.Take()).Payload.Length);
    }

    [Fact]
    public void Syn_OutOfWindow_IsChallengedAtALimitedRate()
    {
        var peer = new Peer(_rig);
        peer.Connect();
        for (int i = 0; i < 100; i++)
            peer.Send(peer.Fields(TcpFlags.Syn) with { Seq = peer.Nxt - 1000 - i });
        Assert.Single(peer.Take());
    }

    [Fact]
    public void OutOfOrder_EveryOtherByteUntilNoGapIsLeft_GapsCanStillBeFilled()
    {
        var peer = new Peer(_rig) { Window = 1000 };
        peer.Connect();
        const int count = 2 * ReassemblyQueue.MaxRuns + 200;
        for (int i = 1; i < count; i += 2)
            peer.Data(i, i + 1);
        Assert.True(_rig.Counters[DropReason.ReassemblyFull] > 0);
        for (int i = 0; i < count; i++)
        {
            peer.Data(i, i + 1);
            peer.Read();
        }
        Assert.Equal(peer.Nxt + count, peer.Connection!.RcvNxt);
        _rig.AssertFramesAddUp();
    }

    [Fact]
    public void OutOfOrder_OneConnection_LeavesMostFramesToOthers()
    {
        var peer = new Peer(_rig);
        peer.Connect();
        for (int from = 257; from + 257 < 65000; from += 257)
            peer.Data(from, from + 257);
        Assert.True(_rig.Host.Frames.FreeCount >= _rig.Host.Frames.FrameCount * 3 / 4, $"{_rig.Host.Frames.FreeCount} free");
        peer.Data(0, 257);
        Assert.Equal(64971 / 257 * 257, peer.Read());
        _rig.AssertFramesAddUp();
        Assert.Equal(0, _rig.Host.Outstanding);
    }

    [Fact]
    public void OutOfOrder_ManyConnections_LeaveTheReserveToReceive()
    {
        for (ushort i = 0; i < 20; i++)
        {
            var peer = new Peer(_rig, port: (ushort)(40000 + i));
            peer.Connect();
            for (int from = 1000; from + 1000 < 65000; from += 1000)
                peer.Data(from, from + 1000);
        }
        Assert.True(_rig.Host.Frames.FreeCount >= _rig.Host.Frames.FrameCount / 4, $"{_rig.Host.Frames.FreeCount} free");
        var good = new Peer(_rig, port: 50000);
        good.Connect();
        good.Data(0, 1000);
        Assert.Equal(1000, good.Read());
    }

    [Fact]
    public void Fin_InjectedAheadOfTheRealOne_DoesNotHideIt()
    {
        var peer = new Peer(_rig);
        peer.Connect();
        peer.Send(peer.Fields(TcpFlags.Ack | TcpFlags.Fin) with { Seq = peer.Nxt + 500 });
        peer.Data(0, 1000);
        peer.Send(peer.Fields(TcpFlags.Ack | TcpFlags.Fin) with { Seq = peer.Nxt + 1000 });
        Assert.Equal(TcpState.CloseWait, peer.Connection!.State);
    }

    [Fact]
    public void TailLossProbe_AfterAPause_LeavesTheNextDeadlineInTheFuture()
    {
        var peer = new Peer(_rig);
        peer.Connect();
        peer.Write(5000);
        _rig.Freeze(TimeSpan.FromSeconds(5));
        _rig.RunTimers();
        Assert.True(_rig.Stack.NextDeadline > _rig.Now);
        Assert.Equal(0, _rig.Counters.RtoFires);
    }
}

namespace Xdp.TcpLite.Tests.Hostile;

/// <summary>Peers that make a connection last after the application has closed it.</summary>
public class AfterCloseTests
{
    private static readonly TimeSpan s_probing = TimeSpan.FromSeconds(200);

    [Fact]
    public void ShutWindows_OnManyClosedConnections_HoldBoundedMemoryForABoundedTime()
    {
        const int count = 2_000;
        const int bytes = 60_000;
        const long most = 32 << 20;
        var rig = new Rig(new TcpStackOptions { Backlog = count, OrphanMemory = most });
        var peers = new List<Peer>();
        for (int i = 0; i < count; i++)
        {
            var peer = new Peer(rig, port: (ushort)(10_000 + i)) { Window = 0 };
            TcpConnection connection = peer.Connect();
            rig.Watched.Clear();
            peer.Write(bytes);
            connection.Close();
            rig.Emit();
            Assert.InRange(rig.Stack.OrphanMemory, 0, most);
            Assert.InRange(rig.Host.Blocks.InUse * (long)BlockPool.BlockSize, 0, most);
            peers.Add(peer);
        }
        int left = rig.Stack.OrphanCount;
        Assert.Equal((count - left, left), (rig.Counters.OrphansReset, rig.Stack.ConnectionCount));
        // It is not one too many that was reset.
        long each = rig.Stack.OrphanMemory / left;
        Assert.InRange(rig.Stack.OrphanMemory, most - each, most);
        Assert.Equal(count - left, peers.Count(peer => peer.Take().Exists(seen => (seen.Flags & TcpFlags.Rst) != 0)));
        rig.Advance(s_probing);
        Assert.Equal((0, 0L), (rig.Stack.OrphanCount, rig.Stack.OrphanMemory));
        Assert.Equal(left, rig.Counters.OrphansTimedOut);
        rig.AssertEmpty();
    }

    [Fact]
    public void Orphans_ThatNeverAcknowledge_AreBoundedInNumber()
    {
        const int most = 100;
        var rig = new Rig(new TcpStackOptions { MaxOrphans = most });
        for (int i = 0; i < 10 * most; i++)
        {
            new Peer(rig, port: (ushort)(10_000 + i)).Connect().Close();
            rig.Watched.Clear();
            rig.Emit();
            Assert.Equal(Math.Min(i + 1, most), rig.Stack.OrphanCount);
        }
        Assert.Equal(most, rig.Stack.ConnectionCount);
        rig.Advance(s_probing);
        rig.AssertEmpty();
    }

    /// <summary>A peer that reads a little now and then is not given up, however long that takes.</summary>
    [Fact]
    public void SlowReader_WhoSendsNothing_GetsAllOfTheResponse()
    {
        var rig = new Rig();
        var peer = new Peer(rig) { Window = 1, WindowScale = 10 };
        TcpConnection connection = peer.Connect();
        peer.Write(200_000);
        connection.Close();
        rig.Emit();
        for (int i = 0; connection.State != TcpState.FinWait2; i++)
        {
            Assert.InRange(i, 0, 1000);
            peer.Window = 0;
            peer.AckUpTo(connection.SndNxt);
            rig.Advance(TimeSpan.FromSeconds(20));
            peer.Window = 1;
            peer.AckUpTo(connection.SndNxt);
        }
        Assert.True(rig.Now - new Instant(TimeSpan.TicksPerHour) > TimeSpan.FromMinutes(60));
        Assert.Equal(200_000, connection.GetInfo(rig.Now).BytesAcked);
        Assert.DoesNotContain(peer.Take(), seen => (seen.Flags & TcpFlags.Rst) != 0);
    }

    /// <summary>The peer fills every window it is given, and reads nothing but the ACKs.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void FastSender_AfterClose_IsToldToStopAndResetInTime(bool acknowledgesTheFin)
    {
        var options = new TcpStackOptions { AfterCloseBytes = 1 << 20 };
        var rig = new Rig(options);
        var peer = new Peer(rig) { Timestamps = true };
        TcpConnection connection = peer.Connect();
        byte shift = SynOptions.WindowShift(options);
        Instant start = rig.Now;
        peer.Write(500);
        connection.Close();
        rig.Emit();
        long sent = 0;
        SeqNumber edge = peer.Nxt + options.ReceiveBufferInitial;
        Instant shut = Instant.Never;
        while (connection.State != TcpState.Closed)
        {
            if (acknowledgesTheFin)
                peer.Ack = connection.SndNxt;
            while (connection.State != TcpState.Closed && edge - peer.Nxt > 0)
            {
                int length = Math.Min(1448, edge - peer.Nxt);
                peer.Send(peer.Fields(TcpFlags.Ack), new byte[length]);
                peer.Nxt += length;
                sent += length;
            }
            foreach (Seen seen in peer.Take())
                edge = SeqNumber.Max(edge, seen.Ack + (seen.Packet.Window << shift));
            if (edge == peer.Nxt && shut == Instant.Never)
                shut = rig.Now;
            rig.Milliseconds(10);
            Assert.True(rig.Now - start <= options.AfterCloseTime, "it lasts too long");
        }
        Assert.InRange(sent, options.AfterCloseBytes, options.AfterCloseBytes + options.ReceiveBufferInitial);
        TimeSpan silence = options.AfterCloseSilence;
        Assert.InRange(rig.Now - shut, 0.9 * silence, 1.1 * silence);
        Assert.Equal(1, rig.Counters.DataAfterCloseResets);
        rig.AssertEmpty();
    }
}

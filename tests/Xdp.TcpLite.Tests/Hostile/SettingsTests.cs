namespace Xdp.TcpLite.Tests.Hostile;

/// <summary>What a stack does that its host has told to do without something.</summary>
public class SettingsTests
{
    private static Peer PeerOf(Rig rig, ushort port = 40000) => new(rig, port) { Timestamps = true };

    private static SegmentFields EcnSyn(Peer peer) =>
        peer.Syn() with { Flags = TcpFlags.Syn | TcpFlags.Ece | TcpFlags.Cwr };

    /// <summary>SYN-ACK, data, the ACK of TIME-WAIT, and RST.</summary>
    [Fact]
    public void TimeToLive_IsThatOfEachSegment()
    {
        var rig = new Rig(new TcpStackOptions { TimeToLive = 33, HopLimit = 34 });
        Peer peer = PeerOf(rig);
        peer.Send(peer.Syn());
        Seen synAck = Assert.Single(peer.Take());
        Assert.Equal(33, synAck.Packet.Ttl);
        peer = PeerOf(rig, port: 40001);
        peer.Connect();
        peer.Write(10);
        Assert.All(peer.Take(), seen => Assert.Equal(33, seen.Packet.Ttl));
        peer.Connection!.Abort();
        rig.Emit();
        Seen reset = Assert.Single(peer.Take());
        Assert.Equal((true, 33), (reset.Packet.IsRst, reset.Packet.Ttl));
    }

    [Fact]
    public void HopLimit_IsThatOfIPv6()
    {
        var options = new TcpStackOptions { TimeToLive = 33, HopLimit = 34 };
        Assert.Equal((33, 34), (options.HopsOf(SegmentBuilder.FlowV4), options.HopsOf(SegmentBuilder.FlowV6)));
        var replies = new ReplyQueue(options);
        byte[] frame = new byte[2048];
        Assert.True(replies.TryEnqueue(
            SegmentBuilder.Path, SegmentBuilder.FlowV6, new SegmentFields { Flags = TcpFlags.Rst }));
        int start = replies.WriteNext(frame, out _);
        Assert.Equal(
            DropReason.None,
            PacketParser.Parse(
                frame.AsSpan(start, FramePool.PayloadStart - start), acceptPartialChecksum: false, out Packet packet));
        Assert.Equal(34, packet.Ttl);
    }

    [Theory]
    [InlineData(false, true, true, true)]
    [InlineData(true, false, true, true)]
    [InlineData(true, true, false, true)]
    [InlineData(true, true, true, false)]
    public void OptionThatIsOff_IsNotAgreedOn_TheOthersAre(bool timestamps, bool sack, bool scaling, bool ecn)
    {
        var rig = new Rig(new TcpStackOptions
        {
            Timestamps = timestamps,
            Sack = sack,
            WindowScaling = scaling,
            Ecn = ecn,
        });
        Peer peer = PeerOf(rig);
        peer.Send(EcnSyn(peer));
        Packet synAck = Assert.Single(peer.Take()).Packet;
        Assert.Equal(
            (timestamps, sack, scaling, ecn),
            (synAck.HasTimestamps, synAck.SackPermitted, synAck.HasWindowScale, synAck.Has(TcpFlags.Ece)));
    }

    /// <summary>Both sides take the window as it stands then.</summary>
    [Fact]
    public void WithoutWindowScaling_NoWindowIsScaled()
    {
        var rig = new Rig(new TcpStackOptions { WindowScaling = false });
        var peer = new Peer(rig) { Window = 1000, WindowScale = 7 };
        TcpConnection connection = peer.Connect();
        Assert.Equal(1000, connection.GetInfo(rig.Now).SndWnd);
        peer.Data(0, 100);
        peer.Read();
        rig.Milliseconds(100);
        Assert.InRange(peer.Take()[^1].Packet.Window, 60_000, ushort.MaxValue);
    }

    /// <summary>A cookie keeps what the peer offered, and the connection has what both have.</summary>
    [Theory]
    [InlineData(false, true, true)]
    [InlineData(true, false, true)]
    [InlineData(true, true, false)]
    public void OptionThatIsOff_IsNotInACookiesConnection(bool timestamps, bool sack, bool scaling)
    {
        var rig = new Rig(new TcpStackOptions
        {
            Backlog = 1,
            Timestamps = timestamps,
            Sack = sack,
            WindowScaling = scaling,
        });
        Peer first = PeerOf(rig, port: 50000);
        first.Send(first.Syn());
        Peer peer = PeerOf(rig);
        peer.Window = 1000;
        TcpConnection connection = peer.Connect();
        Assert.Equal(1, rig.Counters.SynCookiesSent);
        Assert.Equal(timestamps && scaling ? 1000 << 7 : 1000, connection.GetInfo(rig.Now).SndWnd);
        // A gap is told of with SACK only if that was agreed on.
        peer.Take();
        peer.Data(100, 200);
        Packet ack = Assert.Single(peer.Take()).Packet;
        Assert.Equal((timestamps, timestamps && sack), (ack.HasTimestamps, ack.Sack.Count > 0));
    }

    [Fact]
    public void WithoutSynCookies_SynsBeyondTheBacklogAreDropped()
    {
        var rig = new Rig(new TcpStackOptions { Backlog = 1, SynCookies = false });
        Peer first = PeerOf(rig);
        first.Send(first.Syn());
        Assert.Single(first.Take());
        Peer second = PeerOf(rig, port: 40001);
        second.Send(second.Syn());
        Assert.Empty(second.Take());
        Assert.Equal((0, 1), (rig.Counters.SynCookiesSent, rig.Counters[DropReason.BacklogFull]));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(2)]
    [InlineData(40)]
    public void SynAckRetries_EndTheHandshake(int retries)
    {
        var rig = new Rig(new TcpStackOptions { SynAckRetries = retries });
        var peer = new Peer(rig);
        peer.Send(peer.Syn());
        rig.Advance(TimeSpan.FromHours(2));
        Assert.Equal(retries + 1, peer.Take().Count);
        Assert.Equal(0, rig.Stack.HalfOpenCount);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void SlowStartAfterIdle_DecaysTheWindow_OrNot(bool decays)
    {
        var rig = new Rig(new TcpStackOptions { SlowStartAfterIdle = decays });
        var peer = new Peer(rig);
        TcpConnection connection = peer.Connect();
        // The window grows. In the end nothing is in flight.
        peer.Write(400_000);
        while (connection.SndUna != connection.SndNxt || connection.UnsentBytes > 0)
        {
            rig.Milliseconds(5);
            peer.AckUpTo(connection.SndNxt);
        }
        long grown = connection.GetInfo(rig.Now).Cwnd;
        rig.Advance(TimeSpan.FromMinutes(1));
        peer.Write(100);
        long after = connection.GetInfo(rig.Now).Cwnd;
        Assert.True(decays ? after < grown : after == grown, $"{grown} has become {after}.");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void IgnoreResetsInTimeWait_KeepsTheRecord(bool ignores)
    {
        var rig = new Rig(new TcpStackOptions { IgnoreResetsInTimeWait = ignores });
        var peer = new Peer(rig);
        TcpConnection connection = peer.Connect();
        connection.Shutdown();
        rig.Emit();
        peer.Ack += 1;
        peer.Send(TcpFlags.Ack | TcpFlags.Fin);
        peer.Nxt += 1;
        Assert.Equal(1, rig.Stack.TimeWaitCount);
        peer.Send(TcpFlags.Rst);
        Assert.Equal(ignores ? 1 : 0, rig.Stack.TimeWaitCount);
    }
}

namespace Xdp.TcpLite.Tests.Hostile;

/// <summary>What comes to listeners, to half-open records, and to what is left of connections.</summary>
public class HandshakeTests
{
    private readonly Rig _rig = new();

    [Fact]
    public void SynFlood_Spoofed_StateIsBoundedAndAGoodClientIsServed()
    {
        var rig = new Rig(new TcpStackOptions { Backlog = 64 });
        for (uint i = 0; i < 20_000; i++)
        {
            var spoofed = new Peer(rig, port: (ushort)(1024 + i % 50_000), address: 0x0b000000 + i);
            spoofed.Send(spoofed.Syn());
            Assert.Single(spoofed.Take());
        }
        Assert.Equal(64, rig.Stack.HalfOpenCount);
        Assert.True(rig.Counters.SynCookiesSent >= 19_900);
        var good = new Peer(rig) { Timestamps = true };
        good.Connect();
        good.Data(0, 100);
        Assert.Equal(100, good.Read());
        good.Write(200);
        Assert.Contains(good.Take(), seen => seen.Payload.Length == 200);
        rig.Advance(TimeSpan.FromMinutes(3));
        Assert.Equal(0, rig.Stack.HalfOpenCount);
    }

    [Fact]
    public void SynFlood_FromOneSource_StateIsBounded()
    {
        var rig = new Rig(new TcpStackOptions { Backlog = 64 });
        for (int i = 0; i < 5000; i++)
        {
            var peer = new Peer(rig, port: (ushort)(1024 + i));
            peer.Send(peer.Syn());
        }
        Assert.Equal((64, 0), (rig.Stack.HalfOpenCount, rig.Stack.ConnectionCount));
    }

    [Fact]
    public void AcceptQueue_Full_DropsAndNeverResets()
    {
        var rig = new Rig(new TcpStackOptions { Backlog = 8 });
        for (ushort i = 0; i < 40; i++)
        {
            var peer = new Peer(rig, port: (ushort)(40000 + i));
            peer.Send(peer.Syn());
            if (peer.Take() is [Seen synAck])
            {
                peer.Nxt = peer.Iss + 1;
                peer.Ack = synAck.Seq + 1;
                peer.Send(TcpFlags.Ack);
            }
            Assert.DoesNotContain(peer.Take(), seen => (seen.Flags & TcpFlags.Rst) != 0);
        }
        Assert.Equal((8, 0L), (rig.Stack.ConnectionCount, rig.Counters.RstsSent));
        Assert.True(rig.Counters[DropReason.AcceptQueueFull] > 0);
    }

    /// <summary>
    /// Where nothing is half-open or in TIME-WAIT, a host need not ask for the owner of a segment without a connection.
    /// </summary>
    [Fact]
    public void ExpectsOtherSegments_WhileHalfOpenOrInTimeWait()
    {
        Assert.False(_rig.Stack.ExpectsOtherSegments);
        var peer = new Peer(_rig);
        peer.Send(peer.Syn());
        Assert.True(_rig.Stack.ExpectsOtherSegments);
        _rig.Advance(TimeSpan.FromMinutes(3));
        Assert.False(_rig.Stack.ExpectsOtherSegments);
        peer = new Peer(_rig, port: 40001);
        peer.Connect().Close();
        _rig.Emit();
        Assert.False(_rig.Stack.ExpectsOtherSegments);
        peer.Ack = Assert.Single(peer.Take()).Seq + 1;
        peer.Send(TcpFlags.Fin | TcpFlags.Ack);
        Assert.Equal(1, _rig.Stack.TimeWaitCount);
        Assert.True(_rig.Stack.ExpectsOtherSegments);
        _rig.Advance(TimeSpan.FromMinutes(2));
        Assert.False(_rig.Stack.ExpectsOtherSegments);
    }

    [Theory]
    [InlineData(TcpFlags.Syn | TcpFlags.Fin, 0)]
    [InlineData(TcpFlags.Syn | TcpFlags.Rst, 0)]
    [InlineData(TcpFlags.Rst, 0)]
    [InlineData(TcpFlags.Rst | TcpFlags.Ack, 0)]
    [InlineData(TcpFlags.Ack, 1)]
    [InlineData(TcpFlags.Syn | TcpFlags.Ack, 1)]
    [InlineData(TcpFlags.Fin, 0)]
    [InlineData(TcpFlags.None, 0)]
    public void Listener_OddSegments_OpenNothing(TcpFlags flags, int resets)
    {
        var peer = new Peer(_rig);
        peer.Send(flags);
        List<Seen> answers = peer.Take();
        Assert.All(answers, answer => Assert.NotEqual((TcpFlags)0, answer.Flags & TcpFlags.Rst));
        Assert.Equal(resets, answers.Count);
        _rig.AssertEmpty();
    }

    [Fact]
    public void Syn_WithData_IsAnsweredAndItsDataComesAgain()
    {
        var peer = new Peer(_rig);
        peer.Send(peer.Syn(), Peer.Pattern(0, 10));
        Seen synAck = Assert.Single(peer.Take());
        Assert.Equal(peer.Iss + 1, synAck.Ack);
        peer.Nxt = peer.Iss + 1;
        peer.Ack = synAck.Seq + 1;
        peer.Data(0, 10);
        Assert.True(_rig.Stack.TryAccept(out TcpConnection? connection));
        Assert.Equal(10, connection.ReadableBytes);
    }

    [Theory]
    [InlineData(0, 536)]
    [InlineData(1, 48)]
    [InlineData(48, 48)]
    public void Syn_OddMss_IsClamped(ushort mss, int expected)
    {
        var peer = new Peer(_rig) { Mss = mss };
        Assert.Equal(expected, peer.Connect().EffectiveMss);
        peer.Write(5000);
        Assert.All(peer.Take(), seen => Assert.InRange(seen.Payload.Length, 0, expected));
    }

    [Fact]
    public void Syn_WindowScaleBeyond14_CountsAs14()
    {
        var peer = new Peer(_rig) { WindowScale = 200, Window = 1 };
        Assert.Equal(1 << 14, peer.Connect().GetInfo(default).SndWnd);
    }

    [Fact]
    public void HalfOpen_FinalAckWithoutTimestamps_Connects()
    {
        var peer = new Peer(_rig) { Timestamps = true };
        peer.Send(peer.Syn());
        Seen synAck = Assert.Single(peer.Take());
        peer.Timestamps = false;
        peer.Nxt = peer.Iss + 1;
        peer.Ack = synAck.Seq + 1;
        peer.Send(TcpFlags.Ack);
        Assert.Equal(1, _rig.Stack.ConnectionCount);
    }

    [Fact]
    public void Resets_ForSegmentsOfNoConnection_AreRateLimited()
    {
        for (int i = 0; i < 5000; i++)
            new Peer(_rig, port: (ushort)(1024 + i)).Send(TcpFlags.Ack);
        Assert.InRange(_rig.Counters.RstsSent, 1, ResetLimiter.Burst);
    }

    [Fact]
    public void HalfOpen_SegmentsOutOfWindow_AreAnsweredAtALimitedRate()
    {
        var peer = new Peer(_rig);
        peer.Send(peer.Syn());
        Seen synAck = Assert.Single(peer.Take());
        peer.Ack = synAck.Seq + 1;
        for (int i = 0; i < 100; i++)
            peer.Send(peer.Fields(TcpFlags.Ack) with { Seq = peer.Iss - 5000 });
        Assert.Single(peer.Take());
        _rig.Milliseconds(600);
        peer.Send(peer.Fields(TcpFlags.Ack) with { Seq = peer.Iss - 5000 });
        Assert.Single(peer.Take());
    }

    [Theory]
    [InlineData(TcpFlags.Ack)]
    [InlineData(TcpFlags.Syn | TcpFlags.Ack)]
    public void TimeWait_SegmentsWithoutData_AreAnsweredAtALimitedRate(TcpFlags flags)
    {
        var peer = new Peer(_rig);
        TcpConnection connection = peer.Connect();
        connection.Close();
        _rig.Emit();
        peer.Ack = peer.Take()[^1].Seq + 1;
        peer.Send(TcpFlags.Ack | TcpFlags.Fin);
        Assert.Single(peer.Take());
        for (int i = 0; i < 100; i++)
            peer.Send(peer.Fields(flags) with { Seq = peer.Nxt - 5000 });
        Assert.Single(peer.Take());
        peer.Send(TcpFlags.Ack | TcpFlags.Fin); // the last ACK was lost: always answered
        peer.Send(TcpFlags.Ack | TcpFlags.Fin);
        Assert.Equal(2, peer.Take().Count);
    }
}

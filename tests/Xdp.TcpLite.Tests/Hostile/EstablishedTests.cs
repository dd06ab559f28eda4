namespace Xdp.TcpLite.Tests.Hostile;

/// <summary>What a peer, or somebody who guesses, does to an established connection.</summary>
public class EstablishedTests
{
    private readonly Rig _rig = new();

    /// <summary>An application may flush nothing before the connection is there. Nothing is held for that.</summary>
    [Fact]
    public void Write_OfNothingInSynSent_HoldsNoFlight()
    {
        var rig = new Rig();
        var peer = new Peer(rig);
        TcpConnection connection = peer.Open();
        peer.Write(0);
        Seen syn = Assert.Single(peer.Take());
        peer.Ack = syn.Seq + 1;
        peer.Send(peer.Syn() with { Flags = TcpFlags.Syn | TcpFlags.Ack, Ack = peer.Ack });
        Assert.Equal(TcpState.Established, connection.State);
        Invariants.Check(connection);
    }

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
        Assert.True(
            _rig.Host.Frames.FreeCount >= _rig.Host.Frames.FrameCount * 3 / 4, $"{_rig.Host.Frames.FreeCount} free");
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
        Assert.True(
            _rig.Host.Frames.FreeCount >= _rig.Host.Frames.FrameCount / 4, $"{_rig.Host.Frames.FreeCount} free");
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
    public void SimultaneousOpen_WithDataWritten_SendsItOnceEstablished()
    {
        var peer = new Peer(_rig, port: 5555);
        var flow = peer.Flow with { LocalPort = 7777 };
        peer = new Peer(_rig) { Flow = flow };
        peer.Open();
        peer.Write(100);
        Seen syn = Assert.Single(peer.Take());
        peer.Ack = syn.Seq + 1;
        peer.Send(peer.Syn());
        Assert.All(peer.Take(), seen => Assert.Empty(seen.Payload));
        peer.Nxt = peer.Iss + 1;
        peer.Send(TcpFlags.Ack);
        Assert.Equal(TcpState.Established, peer.Connection!.State);
        Seen data = Assert.Single(peer.Take(), seen => seen.Payload.Length > 0);
        Assert.Equal(syn.Seq + 1, data.Seq);
        Assert.Equal(100, data.Payload.Length);
        peer.AckUpTo(data.Seq + 100);
        Assert.Equal(data.Seq + 100, peer.Connection.SndUna);
    }

    [Fact]
    public void SimultaneousOpen_ClosedBeforeEstablished_SendsFinOnceEstablished()
    {
        var flow = new Peer(_rig).Flow with { LocalPort = 7777 };
        var peer = new Peer(_rig) { Flow = flow };
        peer.Open();
        peer.Connection!.Shutdown();
        Seen syn = Assert.Single(peer.Take());
        peer.Ack = syn.Seq + 1;
        peer.Send(peer.Syn());
        Assert.All(peer.Take(), seen => Assert.Equal((TcpFlags)0, seen.Flags & TcpFlags.Fin));
        peer.Nxt = peer.Iss + 1;
        peer.Send(TcpFlags.Ack);
        Seen fin = Assert.Single(peer.Take(), seen => (seen.Flags & TcpFlags.Fin) != 0);
        Assert.Equal(syn.Seq + 1, fin.Seq);
        peer.AckUpTo(fin.Seq + 1);
        Assert.Equal(TcpState.FinWait2, peer.Connection.State);
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(1)]
    public void SynReceived_AckOfAnythingButOurSyn_IsResetAndDisturbsNothing(int off)
    {
        var peer = new Peer(_rig) { Flow = new Peer(_rig).Flow with { LocalPort = 7777 } };
        peer.Open();
        Seen syn = Assert.Single(peer.Take());
        peer.Send(peer.Syn());
        peer.Take();
        peer.Nxt = peer.Iss + 1;
        peer.AckUpTo(syn.Seq + 1 + off);
        Assert.Equal(
            (TcpFlags.Rst, syn.Seq + 1 + off), (Assert.Single(peer.Take()) is var rst ? rst.Flags : 0, rst.Seq));
        Assert.Equal(TcpState.SynReceived, peer.Connection!.State);
        peer.AckUpTo(syn.Seq + 1);
        Assert.Equal(TcpState.Established, peer.Connection.State);
    }

    [Fact]
    public void ListenersOptions_AreItsConnections_AndNoOthers()
    {
        var rig = new Rig();
        TcpStackOptions stacks = rig.Stack.Options;
        TcpStackOptions own = stacks with
        {
            NoDelay = !stacks.NoDelay,
            KeepAlive = TimeSpan.FromSeconds(20),
            KeepAliveInterval = TimeSpan.FromSeconds(5),
            KeepAliveCount = 2,
            UserTimeout = TimeSpan.FromSeconds(7),
        };
        rig.Stack.Listen(Rig.ServerAddress, Rig.Port + 1, null, hasRoom: null, own);
        var other = new Peer(rig);
        other.Connect();
        var peer = new Peer(rig) { Flow = other.Flow with { LocalPort = Rig.Port + 1 } };
        peer.Connect();

        Assert.Equal(
            (own.NoDelay, own.KeepAlive, own.UserTimeout),
            (peer.Connection!.NoDelay, peer.Connection.KeepAlive, peer.Connection.UserTimeout));
        Assert.Equal(
            (stacks.NoDelay, stacks.KeepAlive, stacks.UserTimeout),
            (other.Connection!.NoDelay, other.Connection.KeepAlive, other.Connection.UserTimeout));
        // Probes after 20 and 25 s are not answered.
        rig.Advance(TimeSpan.FromSeconds(29));
        Assert.Equal(TcpState.Established, peer.Connection.State);
        rig.Advance(TimeSpan.FromSeconds(2));
        Assert.Equal(
            (TcpState.Closed, TcpState.Established), (peer.Connection.State, other.Connection.State));
    }

    [Fact]
    public void KeepAlive_EveryProbeAnswered_KeepsTheConnectionForEver()
    {
        var rig = new Rig(new TcpStackOptions { KeepAlive = TimeSpan.FromSeconds(20) });
        var peer = new Peer(rig);
        peer.Connect();
        for (int i = 0; i < 3600; i++)
        {
            rig.Advance(TimeSpan.FromSeconds(1));
            if (peer.Take().Count > 0)
                peer.Send(TcpFlags.Ack);
        }
        Assert.Equal(TcpState.Established, peer.Connection!.State);
        rig.Advance(TimeSpan.FromMinutes(15));
        Assert.Equal(TcpState.Closed, peer.Connection.State);
    }

    [Fact]
    public void UserTimeout_OverWhenTheProbeFallsDue_EndsTheConnectionAtOnce()
    {
        var peer = new Peer(_rig);
        peer.Connect().UserTimeout = TimeSpan.FromSeconds(2);
        peer.Write(5000);
        _rig.Freeze(TimeSpan.FromSeconds(3));
        _rig.RunTimers();
        Assert.Equal(TcpState.Closed, peer.Connection!.State);
    }

    [Theory]
    [InlineData(0, true)]
    [InlineData(1, false)]
    [InlineData(1000, false)]
    [InlineData(-1, false)]
    [InlineData(1_000_000, false)]
    public void RstStorm_OnlyTheExactOneCloses(int off, bool closes)
    {
        var peer = new Peer(_rig);
        peer.Connect();
        for (int i = 0; i < 100; i++)
            peer.Send(peer.Fields(TcpFlags.Rst) with { Seq = peer.Nxt + off });
        Assert.Equal(closes, peer.Connection!.State == TcpState.Closed);
        List<Seen> answers = peer.Take();
        Assert.InRange(answers.Count, 0, 1);
        Assert.DoesNotContain(answers, answer => (answer.Flags & TcpFlags.Rst) != 0);
    }

    [Fact]
    public void Acks_OptimisticDividedAndSpoofed_DoNotInflateTheWindow()
    {
        var peer = new Peer(_rig);
        TcpConnection connection = peer.Connect();
        peer.Write(1_000_000);
        long initial = connection.GetInfo(_rig.Now).Cwnd;
        SeqNumber una = connection.SndUna, nxt = connection.SndNxt;
        for (int i = 1; i <= 1460; i++)
            peer.AckUpTo(una + i); // one segment, byte by byte
        Assert.InRange(connection.GetInfo(_rig.Now).Cwnd, initial, initial + 1460);
        peer.AckUpTo(connection.SndNxt + 100_000); // never sent
        Assert.Equal(una + 1460, connection.SndUna);
        for (int i = 0; i < 1000; i++)
            peer.AckUpTo(una + 1460); // duplicates
        TcpConnectionInfo info = connection.GetInfo(_rig.Now);
        Assert.InRange(info.Unacked, 0, 2 * (nxt - una));
    }

    [Fact]
    public void Sack_RenegedOn_IsSentAgainAfterTheTimeout()
    {
        var peer = new Peer(_rig);
        TcpConnection connection = peer.Connect();
        peer.Write(5 * 1460);
        SeqNumber una = connection.SndUna;
        peer.AckUpTo(una, (una + 1460, una + 5 * 1460));
        peer.Take();
        peer.AckUpTo(una + 1460); // the first is here, and the peer has thrown the others away
        var again = new HashSet<uint>();
        for (int i = 0; i < 20; i++)
        {
            _rig.Milliseconds(1000);
            foreach (Seen seen in peer.Take())
            {
                again.Add(seen.Seq.Value);
                if (seen.Seq == connection.SndUna && seen.Payload.Length > 0)
                    peer.AckUpTo(seen.Seq + seen.Payload.Length);
            }
        }
        Assert.Equal(una + 5 * 1460, connection.SndUna);
        Assert.Equal(4, again.Count(seq => new SeqNumber(seq) > una));
    }

    [Fact]
    public void Window_ShutForEver_EndsAtTheUserTimeout()
    {
        var peer = new Peer(_rig);
        TcpConnection connection = peer.Connect();
        connection.UserTimeout = TimeSpan.FromMinutes(2);
        peer.Window = 0;
        peer.Send(TcpFlags.Ack);
        peer.Write(1000);
        connection.Close(); // an orphan, too
        int probes = 0;
        for (int i = 0; i < 130; i++)
        {
            _rig.Advance(TimeSpan.FromSeconds(1));
            foreach (Seen _ in peer.Take())
            {
                probes++;
                peer.Send(TcpFlags.Ack);
            }
        }
        Assert.Equal(TcpState.Closed, connection.State);
        Assert.InRange(probes, 3, 60);
        _rig.AssertEmpty();
    }

    [Fact]
    public void Window_OfOneByte_SendsFewSegments()
    {
        var peer = new Peer(_rig) { WindowScale = null };
        peer.Connect();
        peer.Write(10_000);
        peer.Take();
        peer.Window = 1;
        peer.AckUpTo(peer.Connection!.SndNxt);
        int segments = 0;
        for (int i = 0; i < 200; i++)
        {
            _rig.Milliseconds(10);
            foreach (Seen seen in peer.Take())
            {
                segments++;
                peer.AckUpTo(seen.Seq + seen.Payload.Length);
            }
        }
        Assert.InRange(segments, 0, 40);
    }

    [Fact]
    public void Window_ShrunkBelowWhatIsInFlight_IsRespectedByNewData()
    {
        var peer = new Peer(_rig) { WindowScale = null };
        TcpConnection connection = peer.Connect();
        peer.Write(100_000);
        peer.Take();
        SeqNumber una = connection.SndUna;
        peer.Window = 1000;
        peer.AckUpTo(una + 1460);
        Assert.Empty(peer.Take());
        _rig.AssertFramesAddUp();
    }

    [Fact]
    public void Timestamps_BackwardOrMissingOrAfterALongSleep()
    {
        var peer = new Peer(_rig) { Timestamps = true };
        TcpConnection connection = peer.Connect();
        peer.TsVal += 100;
        peer.Data(0, 10);
        peer.TsVal -= 50;
        peer.Data(10, 20);
        Assert.Equal(10, connection.ReadableBytes);
        Assert.Equal(1, _rig.Counters[DropReason.PawsFailed]);
        peer.Timestamps = false;
        peer.Data(10, 20);
        Assert.Equal(20, connection.ReadableBytes);
        peer.Timestamps = true;
        _rig.Advance(TimeSpan.FromDays(25));
        peer.Data(20, 30);
        Assert.Equal(30, connection.ReadableBytes);
    }

    [Fact]
    public void Fin_OutOfOrderAndBeyondTheWindow()
    {
        var peer = new Peer(_rig);
        TcpConnection connection = peer.Connect();
        peer.Send(peer.Fields(TcpFlags.Fin | TcpFlags.Ack) with { Seq = peer.Nxt + 100_000_000 });
        peer.Send(peer.Fields(TcpFlags.Fin | TcpFlags.Ack) with { Seq = peer.Nxt + 100 });
        Assert.Equal(TcpState.Established, connection.State);
        peer.Data(0, 100);
        Assert.Equal(TcpState.CloseWait, connection.State);
        Assert.Equal(peer.Nxt + 101, connection.RcvNxt);
    }

    [Fact]
    public void FinWait2_WithoutEnd_Ends()
    {
        var peer = new Peer(_rig);
        TcpConnection connection = peer.Connect();
        connection.Close();
        _rig.Emit();
        peer.Ack = peer.Take()[^1].Seq + 1;
        peer.Send(TcpFlags.Ack);
        Assert.Equal(TcpState.FinWait2, connection.State);
        for (int i = 0; i < 120; i++)
        {
            _rig.Milliseconds(1000);
            peer.Data(i, i + 1); // it goes on talking
        }
        Assert.Equal(TcpState.Closed, connection.State);
        _rig.AssertEmpty();
    }

    [Fact]
    public void Answers_ToAFlood_AreNoMoreThanTheSegments()
    {
        var peer = new Peer(_rig) { Sack = false };
        peer.Connect();
        long before = _rig.Emitted;
        for (int i = 0; i < 1000; i++)
            peer.Data(1 + 2 * i, 2 + 2 * i);
        Assert.InRange(_rig.Emitted - before, 1, 1000);
    }

    [Fact]
    public void TooBig_QuotingTheSyn_LeavesItsTimerAlone()
    {
        var peer = new Peer(_rig) { Flow = new Peer(_rig).Flow with { LocalPort = 7777 } };
        TcpConnection connection = peer.Open();
        Seen syn = Assert.Single(peer.Take());
        _rig.Milliseconds(100);
        connection.ReceiveIcmp(new IcmpError(peer.Flow, syn.Seq, 1000), _rig.Now);
        _rig.Milliseconds(500);
        Assert.Empty(peer.Take());
        _rig.Milliseconds(401);
        Assert.Single(peer.Take());
    }

    [Fact]
    public void Close_WhileThePeerSendsMoreThanTheBuffer_StillReachesItsFin()
    {
        var peer = new Peer(_rig);
        TcpConnection connection = peer.Connect();
        peer.Data(0, 1000);
        connection.Close();
        _rig.Emit();
        int at = 1000;
        const int total = 1_000_000;
        while (at < total)
        {
            List<Seen> seen = peer.Take();
            foreach (Seen s in seen.Where(s => (s.Flags & TcpFlags.Fin) != 0))
                peer.Ack = s.Seq + 1;
            peer.Data(at, at + 1000);
            Assert.Equal(peer.Nxt + at + 1000, connection.RcvNxt);
            at += 1000;
        }
        peer.Send(peer.Fields(TcpFlags.Fin | TcpFlags.Ack) with { Seq = peer.Nxt + total });
        Assert.Equal(TcpState.Closed, connection.State);
    }

    [Fact]
    public void TailLossProbe_ThatRepairedALoss_EndsItsEpisode()
    {
        var peer = new Peer(_rig) { Timestamps = true };
        TcpConnection connection = peer.Connect();
        int mss = connection.EffectiveMss;
        peer.Write(mss);
        _rig.Milliseconds(20);
        peer.TsEcr = peer.Take()[^1].Packet.TsVal;
        peer.AckUpTo(connection.SndNxt);
        peer.Write(10 * mss);
        SeqNumber end = connection.SndNxt;
        _rig.Milliseconds(100);
        Assert.Equal(1, _rig.Counters.TlpProbes);
        peer.TsEcr = peer.Take()[^1].Packet.TsVal; // the probe's, so the last segment had been lost
        peer.AckUpTo(end);
        long ssthresh = connection.GetInfo(_rig.Now).Ssthresh;
        Assert.Equal((long)(0.7 * 10 * mss), ssthresh);

        peer.Write(20 * mss);
        SeqNumber una = connection.SndUna;
        for (int i = 2; i < 6; i++)
        {
            _rig.Milliseconds(1);
            peer.AckUpTo(una, (una + mss, una + i * mss));
        }
        Assert.Equal(1, _rig.Counters.FastRetransmits);
        Assert.True(
            connection.GetInfo(_rig.Now).Ssthresh < ssthresh,
            $"{connection.GetInfo(_rig.Now).Ssthresh} after {ssthresh}");
    }

    [Fact]
    public void Ack_HalfTheSequenceSpaceAway_IsNotAnOldOne()
    {
        var peer = new Peer(_rig);
        peer.Connect();
        peer.Send(peer.Fields(TcpFlags.Ack) with { Ack = peer.Ack + 0x8000_0000u }, [1, 2, 3]);
        Assert.Equal(peer.Nxt, peer.Connection!.RcvNxt);
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

namespace Xdp.TcpLite.Tests;

public class HalfOpenTableTests
{
    private const uint PeerIss = 0xffff_fff0;
    private const uint PeerNxt = PeerIss + 1;
    private const int Window = 10_000;

    private static readonly Route s_route = new(SegmentBuilder.Path);

    private readonly PartRig _rig = new(new TcpStackOptions { ReceiveBufferInitial = Window });
    private readonly Listener _listener = new(null, backlog: 1);
    private readonly HalfOpenTable _table;

    public HalfOpenTableTests() => _table = new HalfOpenTable(_rig.Environment, new ResetLimiter(_rig.Environment));

    private static Packet Syn() => PartRig.Segment(TcpFlags.Syn, PeerIss) with
    {
        Mss = 1400,
        HasTimestamps = true,
        TsVal = 5000,
    };

    /// <summary>The segment that completes the handshake; <paramref name="ahead"/> puts it ahead of RCV.NXT.</summary>
    private static Packet Ack(HalfOpen half, int ahead = 0) => PartRig.Segment(TcpFlags.Ack, PeerNxt) with
    {
        Seq = new SeqNumber(PeerNxt) + ahead,
        Ack = half.Iss + 1,
        HasTimestamps = true,
        TsVal = 5000,
    };

    /// <summary>A record whose SYN-ACK has been taken.</summary>
    private HalfOpen Open()
    {
        _table.Open(_listener, Syn(), s_route, lowestIss: null, _rig.Now);
        _rig.TakeReply();
        return Assert.IsType<HalfOpen>(_rig.Environment.Flows.Find(SegmentBuilder.FlowV4));
    }

    private bool Receive(HalfOpen half, in Packet packet) => _table.Receive(half, packet, _rig.Now);

    private void AssertForgotten(HalfOpen half)
    {
        Assert.Equal((0, 0), (_table.Count, _listener.HalfOpenCount));
        Assert.Null(_rig.Environment.Flows.Find(half.Key));
        Assert.False(half.IsScheduled);
    }

    private void AssertKept(HalfOpen half)
    {
        Assert.Equal((1, 1), (_table.Count, _listener.HalfOpenCount));
        Assert.Same(half, _rig.Environment.Flows.Find(half.Key));
        Assert.True(half.IsScheduled);
    }

    private void AssertChallenge(HalfOpen half)
    {
        Packet challenge = _rig.TakeReply();
        Assert.Equal(TcpFlags.Ack, challenge.Flags);
        Assert.Equal((half.Iss + 1, half.Irs + 1), (challenge.Seq, challenge.Ack));
        Assert.Equal(Window >> half.Options.RcvWndShift, challenge.Window);
        Assert.True(challenge.HasTimestamps);
        Assert.Equal((TsClock.At(_rig.Now) + half.Options.TsOffset, 5000u), (challenge.TsVal, challenge.TsEcr));
    }

    // ---- opening

    [Fact]
    public void Open_Syn_IsRememberedAndAnswered()
    {
        _table.Open(_listener, Syn(), s_route, lowestIss: null, _rig.Now);
        var half = Assert.IsType<HalfOpen>(_rig.Environment.Flows.Find(SegmentBuilder.FlowV4));
        AssertKept(half);
        Assert.Equal(_rig.Environment.Isn.Next(half.Key, _rig.Now), half.Iss);
        Assert.Equal((1400, true, false), (half.Options.PeerMss, half.Options.Timestamps, half.Options.Sack));
        Assert.Equal(_rig.Now + _rig.Environment.Options.InitialRto, half.WheelDeadline);
        Packet synAck = _rig.TakeReply();
        Assert.Equal(TcpFlags.Syn | TcpFlags.Ack, synAck.Flags);
        Assert.Equal((half.Iss, new SeqNumber(PeerNxt)), (synAck.Seq, synAck.Ack));
        Assert.Equal((Window, 5000u), (synAck.Window, synAck.TsEcr));
    }

    [Theory]
    [InlineData(-1, 0)]
    [InlineData(0, 0)]
    [InlineData(1, 1)]
    [InlineData(70_000, 70_000)]
    public void Open_AfterAnotherConnection_StartsNoLowerThanIsAsked(int lowest, int expected)
    {
        SeqNumber iss = _rig.Environment.Isn.Next(SegmentBuilder.FlowV4, _rig.Now);
        _table.Open(_listener, Syn(), s_route, iss + lowest, _rig.Now);
        Assert.Equal(iss + expected, _rig.TakeReply().Seq);
    }

    // ---- arrival

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(Window)]
    public void Receive_AckInTheWindow_CompletesAndForgets(int ahead)
    {
        HalfOpen half = Open();
        Assert.True(Receive(half, Ack(half, ahead)));
        AssertForgotten(half);
        _rig.AssertNoReply();
    }

    [Fact]
    public void Receive_AckWithoutTimestamps_Completes()
    {
        HalfOpen half = Open();
        Assert.True(Receive(half, Ack(half) with { HasTimestamps = false, TsVal = 0 }));
        AssertForgotten(half);
    }

    [Fact]
    public void Receive_ResetAtRcvNxt_Forgets()
    {
        HalfOpen half = Open();
        Assert.False(Receive(half, PartRig.Segment(TcpFlags.Rst, PeerNxt)));
        AssertForgotten(half);
        _rig.AssertNoReply();
    }

    [Theory]
    [InlineData(1, true)]
    [InlineData(Window - 1, true)]
    [InlineData(Window, false)]
    [InlineData(-1, false)]
    public void Receive_ResetElsewhere_IsChallengedInTheWindowOnly(int ahead, bool challenged)
    {
        HalfOpen half = Open();
        Packet reset = PartRig.Segment(TcpFlags.Rst, PeerNxt);
        Assert.False(Receive(half, reset with { Seq = reset.Seq + ahead }));
        AssertKept(half);
        _rig.AssertDropped(DropReason.BadRst);
        if (challenged)
            AssertChallenge(half);
        else
            _rig.AssertNoReply();
    }

    [Fact]
    public void Receive_SameSyn_RepeatsTheSynAck()
    {
        _table.Open(_listener, Syn(), s_route, lowestIss: null, _rig.Now);
        Packet first = _rig.TakeReply();
        var half = (HalfOpen)_rig.Environment.Flows.Find(SegmentBuilder.FlowV4)!;
        Assert.False(half.IsRepeated);
        Assert.False(Receive(half, Syn()));
        Packet second = _rig.TakeReply();
        Assert.Equal((first.Flags, first.Seq, first.Ack), (second.Flags, second.Seq, second.Ack));
        Assert.Equal((first.Mss, first.TsEcr, first.Window), (second.Mss, second.TsEcr, second.Window));
        Assert.True(half.IsRepeated);
        AssertKept(half);
    }

    [Theory]
    [InlineData(TcpFlags.Syn, 1)]
    [InlineData(TcpFlags.Syn | TcpFlags.Ack, 0)]
    public void Receive_OtherSyn_IsChallenged(TcpFlags flags, int ahead)
    {
        HalfOpen half = Open();
        Assert.False(Receive(half, Syn() with { Flags = flags, Seq = half.Irs + ahead }));
        AssertKept(half);
        Assert.False(half.IsRepeated);
        _rig.AssertDropped(DropReason.BadSyn);
        AssertChallenge(half);
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(Window + 1)]
    public void Receive_OutsideTheWindow_IsChallenged(int ahead)
    {
        HalfOpen half = Open();
        Assert.False(Receive(half, Ack(half, ahead)));
        AssertKept(half);
        _rig.AssertDropped(DropReason.OutOfWindow);
        AssertChallenge(half);
    }

    [Fact]
    public void Receive_NoAckFlag_IsDropped()
    {
        HalfOpen half = Open();
        Assert.False(Receive(half, Ack(half) with { Flags = TcpFlags.Psh }));
        AssertKept(half);
        _rig.AssertDropped(DropReason.MissingAck);
        _rig.AssertNoReply();
    }

    [Fact]
    public void Receive_OlderTimestamp_IsChallenged()
    {
        HalfOpen half = Open();
        Assert.False(Receive(half, Ack(half) with { TsVal = 4999 }));
        AssertKept(half);
        _rig.AssertDropped(DropReason.PawsFailed);
        AssertChallenge(half);
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(1)]
    public void Receive_AckOfAnythingElse_IsReset(int off)
    {
        HalfOpen half = Open();
        Packet ack = Ack(half);
        Assert.False(Receive(half, ack with { Ack = ack.Ack + off }));
        AssertKept(half);
        _rig.AssertDropped(DropReason.BadAck);
        Packet reset = _rig.TakeReply();
        Assert.Equal((TcpFlags.Rst, ack.Ack + off), (reset.Flags, reset.Seq));
    }

    [Fact]
    public void Receive_AckWhileTheAcceptQueueIsFull_CountsAsLost()
    {
        HalfOpen half = Open();
        _listener.WaitingAdded();
        Assert.False(Receive(half, Ack(half)));
        AssertKept(half);
        _rig.AssertDropped(DropReason.AcceptQueueFull);
        _rig.AssertNoReply();
        _listener.WaitingRemoved();
        Assert.True(Receive(half, Ack(half)));
        AssertForgotten(half);
    }

    [Theory]
    [InlineData(TcpFlags.Ack, 1)]
    [InlineData(TcpFlags.Rst, 0)]
    public void Receive_ListenerIsClosed_ForgetsAndResets(TcpFlags flags, int resets)
    {
        HalfOpen half = Open();
        _listener.Close();
        Assert.False(Receive(half, Ack(half) with { Flags = flags }));
        AssertForgotten(half);
        List<Packet> replies = _rig.TakeReplies();
        Assert.Equal(resets, replies.Count);
        Assert.All(replies, reply => Assert.Equal(TcpFlags.Rst, reply.Flags));
    }

    /// <summary>Segments that would fail two checks: the reason is the one that comes first.</summary>
    [Theory]
    [InlineData(TcpFlags.Rst | TcpFlags.Syn, 1, 0, 0, DropReason.BadRst)]
    [InlineData(TcpFlags.Syn, 2 * Window, 0, 0, DropReason.BadSyn)]
    [InlineData(TcpFlags.None, 2 * Window, 0, 0, DropReason.OutOfWindow)]
    [InlineData(TcpFlags.None, 0, -1, 0, DropReason.MissingAck)]
    [InlineData(TcpFlags.Ack, 0, -1, 1, DropReason.PawsFailed)]
    [InlineData(TcpFlags.Ack, 0, 0, 1, DropReason.BadAck)]
    public void Receive_SeveralFaults_AreJudgedInOrder(
        TcpFlags flags, int ahead, int tsOff, int ackOff, DropReason reason)
    {
        HalfOpen half = Open();
        _listener.WaitingAdded();
        Packet packet = Ack(half, ahead);
        packet.Flags = flags;
        packet.TsVal = (uint)(packet.TsVal + tsOff);
        packet.Ack += ackOff;
        Assert.False(Receive(half, packet));
        AssertKept(half);
        _rig.AssertDropped(reason);
    }

    [Fact]
    public void Receive_Challenges_AreLimited()
    {
        HalfOpen half = Open();
        for (int i = 0; i < 100; i++)
            Receive(half, Ack(half, -1));
        Assert.Single(_rig.TakeReplies());
        Assert.Equal(1, _rig.Counters.ChallengeAcks);
        _rig.Advance(AnswerLimit.Interval);
        Receive(half, Ack(half, -1));
        AssertChallenge(half);
        Assert.Equal(2, _rig.Counters.ChallengeAcks);
    }

    // ---- deadlines

    [Fact]
    public void OnDeadline_SynAckComesAgainWithDoubledWaits_ThenTheRecordGoes()
    {
        HalfOpen half = Open();
        Instant start = _rig.Now;
        int[] seconds = [1, 3, 7, 15, 31];
        for (int i = 0; i < _rig.Environment.Options.SynAckRetries; i++)
        {
            _table.OnDeadline(_rig.TakeNextDue<HalfOpen>(), _rig.Now);
            Assert.Equal(TimeSpan.FromSeconds(seconds[i]), _rig.Now - start);
            Packet synAck = _rig.TakeReply();
            Assert.Equal((TcpFlags.Syn | TcpFlags.Ack, half.Iss), (synAck.Flags, synAck.Seq));
            Assert.Equal(i + 1, half.Retransmits);
            AssertKept(half);
        }
        _table.OnDeadline(_rig.TakeNextDue<HalfOpen>(), _rig.Now);
        Assert.Equal(TimeSpan.FromSeconds(63), _rig.Now - start);
        _rig.AssertNoReply();
        AssertForgotten(half);
    }

    [Fact]
    public void OnDeadline_ListenerIsClosed_Forgets()
    {
        HalfOpen half = Open();
        _listener.Close();
        _table.OnDeadline(_rig.TakeNextDue<HalfOpen>(), _rig.Now);
        _rig.AssertNoReply();
        AssertForgotten(half);
    }
}

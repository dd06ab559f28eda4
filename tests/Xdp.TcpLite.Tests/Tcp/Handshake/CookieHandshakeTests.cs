namespace Xdp.TcpLite.Tests;

public class CookieHandshakeTests
{
    private const uint PeerIss = 0xffff_ffff;
    private const TcpFlags EcnSyn = TcpFlags.Syn | TcpFlags.Ece | TcpFlags.Cwr;

    private static readonly TimeSpan s_tick = TimeSpan.FromTicks(1);

    private static readonly Route s_route = new(SegmentBuilder.Path);

    private readonly PartRig _rig = new();
    private readonly Listener _listener = new(null, backlog: 1);
    private readonly CookieHandshake _cookies;

    public CookieHandshakeTests() => _cookies = new CookieHandshake(_rig.Environment, PartRig.Secret);

    private static Packet Syn(bool timestamps) => PartRig.Segment(EcnSyn, PeerIss) with
    {
        Mss = 1440,
        HasWindowScale = true,
        WindowScale = 5,
        SackPermitted = true,
        HasTimestamps = timestamps,
        TsVal = timestamps ? 5000u : 0,
    };

    private static Packet AckOf(in Packet synAck) => PartRig.Segment(TcpFlags.Ack, unchecked(PeerIss + 1)) with
    {
        Ack = synAck.Seq + 1,
        HasTimestamps = synAck.HasTimestamps,
        TsVal = synAck.HasTimestamps ? 5001u : 0,
        TsEcr = synAck.TsVal,
    };

    private bool TryComplete(CookieHandshake cookies, in Packet ack, out HalfOpen? half)
    {
        half = null;
        if (!cookies.TryCheck(ack, _rig.Now, out SynCookieOptions cookie))
            return false;
        half = cookies.Complete(_listener, ack, cookie, s_route);
        return true;
    }

    private Packet Answer(bool timestamps)
    {
        _cookies.Answer(Syn(timestamps), s_route, _rig.Now);
        return _rig.TakeReply();
    }

    [Fact]
    public void IsExpected_OnlyForACookiesLifeAfterTheLastOne()
    {
        Assert.False(_cookies.IsExpected(_rig.Now));
        Answer(timestamps: false);
        Assert.True(_cookies.IsExpected(_rig.Now));
        _rig.Advance(TimeSpan.FromSeconds(100));
        Answer(timestamps: false);
        _rig.Advance(TimeSpan.FromSeconds(128));
        Assert.True(_cookies.IsExpected(_rig.Now));
        _rig.Advance(s_tick);
        Assert.False(_cookies.IsExpected(_rig.Now));
    }

    [Fact]
    public void Answer_KeepsNothingAndCounts()
    {
        Packet synAck = Answer(timestamps: true);
        Assert.Equal(new SeqNumber(PeerIss) + 1, synAck.Ack);
        Assert.Equal((0, Instant.Never), (_rig.Environment.Flows.Count, _rig.Environment.Wheel.NextDeadline));
        Assert.Equal(1, _rig.Counters.SynCookiesSent);
        _rig.AssertDropped(DropReason.BacklogFull);
    }

    [Fact]
    public void Answer_WithTimestamps_OffersEverything()
    {
        Packet synAck = Answer(timestamps: true);
        Assert.Equal(TcpFlags.Syn | TcpFlags.Ack | TcpFlags.Ece, synAck.Flags);
        Assert.True(synAck is { Mss: 1460, HasWindowScale: true, WindowScale: 7, SackPermitted: true });
        Assert.True(synAck.HasTimestamps);
        Assert.Equal(5000u, synAck.TsEcr);
        uint clock = unchecked(TsClock.At(_rig.Now) + _rig.Environment.Isn.TimestampOffset(SegmentBuilder.FlowV4));
        Assert.InRange(unchecked((int)(clock - synAck.TsVal)), 0, 64);
    }

    [Fact]
    public void Answer_WithoutTimestamps_OffersNothingThatWouldBeForgotten()
    {
        Packet synAck = Answer(timestamps: false);
        Assert.Equal(TcpFlags.Syn | TcpFlags.Ack, synAck.Flags);
        Assert.True(synAck is { Mss: 1460, HasWindowScale: false, SackPermitted: false, HasTimestamps: false });
    }

    [Fact]
    public void Complete_WithTimestamps_RestoresTheRecord()
    {
        Packet synAck = Answer(timestamps: true);
        Assert.True(TryComplete(_cookies, AckOf(synAck), out HalfOpen? half));
        Assert.NotNull(half);
        Assert.Same(_listener, half.Listener);
        Assert.Equal(SegmentBuilder.FlowV4, half.Flow);
        Assert.Equal(SegmentBuilder.Path, half.Route.Path);
        Assert.Equal((synAck.Seq, new SeqNumber(PeerIss)), (half.Iss, half.Irs));
        Assert.Equal(1, half.Retransmits); // no RTT sample, and no small window
        var expected = new NegotiatedOptions
        {
            PeerMss = 1440,
            WindowScaling = true,
            SndWndShift = 5,
            RcvWndShift = 7,
            Sack = true,
            Timestamps = true,
            Ecn = true,
            TsOffset = _rig.Environment.Isn.TimestampOffset(SegmentBuilder.FlowV4),
            TsRecent = 5001,
        };
        Assert.Equal(expected, half.Options);
        Assert.Equal(0, _rig.Environment.Flows.Count);
    }

    [Fact]
    public void Complete_WithoutTimestamps_RestoresTheMssAlone()
    {
        Packet synAck = Answer(timestamps: false);
        Assert.True(TryComplete(_cookies, AckOf(synAck), out HalfOpen? half));
        uint offset = _rig.Environment.Isn.TimestampOffset(SegmentBuilder.FlowV4);
        Assert.Equal(new NegotiatedOptions { PeerMss = 1440, TsOffset = offset }, half!.Options);
    }

    [Fact]
    public void Complete_NoCookieWasSent_RefusesEvenAGoodOne()
    {
        var other = new CookieHandshake(_rig.Environment, PartRig.Secret);
        Packet ack = AckOf(Answer(timestamps: false));
        Assert.False(TryComplete(other, ack, out HalfOpen? half));
        Assert.Null(half);
        Assert.True(TryComplete(_cookies, ack, out _));
    }

    [Fact]
    public void Complete_OtherAck_IsNoCookie()
    {
        Packet ack = AckOf(Answer(timestamps: true));
        Assert.False(TryComplete(_cookies, ack with { Ack = ack.Ack + 100 }, out HalfOpen? half));
        Assert.Null(half);
    }

    [Fact]
    public void Complete_AcceptQueueIsFull_CountsAsLostAndMayComeAgain()
    {
        Packet ack = AckOf(Answer(timestamps: true));
        _listener.WaitingAdded();
        Assert.True(TryComplete(_cookies, ack, out HalfOpen? half));
        Assert.Null(half);
        Assert.Equal(1, _rig.Counters[DropReason.AcceptQueueFull]);
        _listener.WaitingRemoved();
        Assert.True(TryComplete(_cookies, ack, out half));
        Assert.NotNull(half);
    }
}

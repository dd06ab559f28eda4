namespace Xdp.TcpLite.Tests;

public class EcnTests
{
    private const byte NotEct = 0;
    private const byte Ect0 = 2;
    private const byte Ce = 3;

    private static Packet Arriving(byte ecn = NotEct, TcpFlags flags = TcpFlags.Ack, int payload = 100, uint ack = 1) =>
        PartRig.Segment(flags, 1, ack) with { Ecn = ecn, PayloadLength = payload };

    private static SegmentFields Mark(ref Ecn ecn, int length, bool retransmission = false)
    {
        SegmentFields fields = default;
        ecn.Mark(ref fields, length, retransmission);
        return fields;
    }

    /// <summary>RFC 3168, section 6.1.3: ECE in every segment from the mark until CWR.</summary>
    [Fact]
    public void Receive_Mark_IsEchoedUntilCwr()
    {
        var ecn = new Ecn(enabled: true);
        Assert.False(ecn.Receive(Arriving(Ect0)));
        Assert.Equal(TcpFlags.None, Mark(ref ecn, 0).Flags);
        Assert.True(ecn.Receive(Arriving(Ce)));
        for (int i = 0; i < 3; i++)
        {
            Assert.False(ecn.Receive(Arriving(Ect0)));
            Assert.Equal(TcpFlags.Ece, Mark(ref ecn, i * 100).Flags);
        }
        Assert.False(ecn.Receive(Arriving(Ect0, TcpFlags.Ack | TcpFlags.Cwr)));
        Assert.Equal(TcpFlags.None, Mark(ref ecn, 0).Flags);
        // CWR and a new mark in one packet: the mark is newer.
        Assert.True(ecn.Receive(Arriving(Ce, TcpFlags.Ack | TcpFlags.Cwr)));
        Assert.Equal(TcpFlags.Ece, Mark(ref ecn, 0).Flags);
    }

    /// <summary>RFC 3168, section 6.1.5: a mark on what is no new data is no mark.</summary>
    [Fact]
    public void Receive_MarkWithoutPayload_IsIgnored()
    {
        var ecn = new Ecn(enabled: true);
        Assert.False(ecn.Receive(Arriving(Ce, payload: 0)));
        Assert.Equal(TcpFlags.None, Mark(ref ecn, 0).Flags);
    }

    /// <summary>RFC 3168, section 6.1.4 and 6.1.5: ECT on new data alone.</summary>
    [Theory]
    [InlineData(true, 100, false, Ect0)]
    [InlineData(true, 100, true, NotEct)]
    [InlineData(true, 0, false, NotEct)]
    [InlineData(false, 100, false, NotEct)]
    public void Mark_OnlyNewDataIsEct(bool enabled, int length, bool retransmission, byte expected)
    {
        var ecn = new Ecn(enabled);
        Assert.Equal(expected, Mark(ref ecn, length, retransmission).Ecn);
    }

    /// <summary>RFC 3168, section 6.1.2: one reduction a round trip, told by CWR on the next new data.</summary>
    [Theory]
    [InlineData(1000u)]
    [InlineData(0xffff_fff0u)]
    public void TryTakeEcho_OnceAFlight_ThenCwrOnce(uint una)
    {
        var ecn = new Ecn(enabled: true);
        var sndNxt = new SeqNumber(una) + 100;
        Packet Echo(int acked) => Arriving(flags: TcpFlags.Ack | TcpFlags.Ece, ack: (new SeqNumber(una) + acked).Value);
        Assert.False(ecn.TryTakeEcho(Arriving(ack: una), recovering: false, sndNxt));
        Assert.False(ecn.TryTakeEcho(Echo(0), recovering: true, sndNxt));
        Assert.True(ecn.TryTakeEcho(Echo(10), recovering: false, sndNxt));
        Assert.False(ecn.TryTakeEcho(Echo(100), recovering: false, sndNxt + 50));
        Assert.Equal(TcpFlags.None, Mark(ref ecn, 0).Flags);
        Assert.Equal(TcpFlags.None, Mark(ref ecn, 10, retransmission: true).Flags);
        Assert.Equal(TcpFlags.Cwr, Mark(ref ecn, 10).Flags);
        Assert.Equal(TcpFlags.None, Mark(ref ecn, 10).Flags);
        Assert.True(ecn.TryTakeEcho(Echo(101), recovering: false, sndNxt + 50));
    }

    [Fact]
    public void NotEnabled_NothingIsHeardOrSaid()
    {
        var ecn = new Ecn(enabled: false);
        Assert.False(ecn.Receive(Arriving(Ce)));
        Assert.False(ecn.TryTakeEcho(Arriving(flags: TcpFlags.Ece), recovering: false, default));
        Assert.Equal((TcpFlags.None, NotEct), (Mark(ref ecn, 10).Flags, Mark(ref ecn, 10).Ecn));
    }

    /// <summary>The number of a reduction is behind for the next 2 GiB, and then ahead again.</summary>
    [Fact]
    public void TryTakeEcho_MoreThanTwoGibibytesLater_IsHeard()
    {
        var ecn = new Ecn(enabled: true);
        const TcpFlags Echo = TcpFlags.Ack | TcpFlags.Ece;
        Assert.True(ecn.TryTakeEcho(Arriving(flags: Echo, ack: 1000), false, new SeqNumber(2000)));
        Assert.False(ecn.TryTakeEcho(Arriving(flags: Echo, ack: 2000), false, new SeqNumber(3000)));
        for (uint ack = 3000; ack < 0xc000_0000; ack += 0x1000_0000)
            Assert.False(ecn.TryTakeEcho(Arriving(ack: ack), false, new SeqNumber(ack + 1000)));
        Assert.True(ecn.TryTakeEcho(Arriving(flags: Echo, ack: 0xc000_0000), false, new SeqNumber(0xc000_1000)));
    }
}

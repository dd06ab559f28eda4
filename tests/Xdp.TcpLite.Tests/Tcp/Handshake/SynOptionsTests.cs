namespace Xdp.TcpLite.Tests;

public class SynOptionsTests
{
    private const byte OurShift = 7;
    private const uint Offset = 0x8000_0001;

    private static readonly Route s_route = new(SegmentBuilder.Path);
    private static readonly Instant s_now = new(TimeSpan.TicksPerHour);

    private static FlowKey FlowOf(bool isIPv6) => isIPv6 ? SegmentBuilder.FlowV6 : SegmentBuilder.FlowV4;

    private static SegmentFields Fields(
        in NegotiatedOptions options, bool answers, int mtu = 1500, int capacity = 1792, bool isIPv6 = false) =>
        SynOptions.Fields(
            new TcpStackOptions { Mtu = mtu }, capacity, FlowOf(isIPv6), options, s_route, answers, s_now);

    [Theory]
    [InlineData(1, 1)]
    [InlineData(65_535, 65_535)]
    [InlineData(128 << 10, 65_535)]
    public void InitialWindow_IsTheBufferAsFarAsTheFieldGoes(int buffer, int window) =>
        Assert.Equal(window, SynOptions.InitialWindow(new TcpStackOptions { ReceiveBufferInitial = buffer }));

    [Theory]
    [InlineData(1, 0)]
    [InlineData(65_535, 0)]
    [InlineData(65_536, 1)]
    [InlineData(131_070, 1)]
    [InlineData(131_071, 2)]
    [InlineData(6 << 20, 7)]
    [InlineData(int.MaxValue, 14)]
    public void WindowShift_IsTheSmallestThatCoversTheBuffer(int buffer, int shift) =>
        Assert.Equal(shift, SynOptions.WindowShift(new TcpStackOptions { ReceiveBufferMax = buffer }));

    [Theory]
    [InlineData(false, 536)]
    [InlineData(true, 1220)]
    public void Negotiate_BareSyn_AgreesOnNothing(bool isIPv6, ushort mss)
    {
        var syn = new Packet { Flow = FlowOf(isIPv6), Flags = TcpFlags.Syn };
        NegotiatedOptions options = SynOptions.Negotiate(new TcpStackOptions(), syn, Offset);
        Assert.Equal(new NegotiatedOptions { PeerMss = mss, TsOffset = Offset }, options);
    }

    [Fact]
    public void Negotiate_SynWithEverything_AgreesOnAllOfIt()
    {
        var syn = new Packet
        {
            Flow = SegmentBuilder.FlowV4,
            Flags = TcpFlags.Syn | TcpFlags.Ece | TcpFlags.Cwr,
            Mss = 1400,
            HasWindowScale = true,
            WindowScale = 3,
            SackPermitted = true,
            HasTimestamps = true,
            TsVal = 99,
        };
        var expected = new NegotiatedOptions
        {
            PeerMss = 1400,
            WindowScaling = true,
            SndWndShift = 3,
            RcvWndShift = OurShift,
            Sack = true,
            Timestamps = true,
            Ecn = true,
            TsOffset = Offset,
            TsRecent = 99,
        };
        Assert.Equal(expected, SynOptions.Negotiate(new TcpStackOptions(), syn, Offset));
    }

    [Theory]
    [InlineData(TcpFlags.Syn | TcpFlags.Ece | TcpFlags.Cwr, true)]
    [InlineData(TcpFlags.Syn | TcpFlags.Ece, false)]
    [InlineData(TcpFlags.Syn | TcpFlags.Cwr, false)]
    [InlineData(TcpFlags.Syn, false)]
    [InlineData(TcpFlags.Syn | TcpFlags.Ack | TcpFlags.Ece, false)]
    [InlineData(TcpFlags.Syn | TcpFlags.Ack | TcpFlags.Ece | TcpFlags.Cwr, false)]
    public void AsksForEcn_TakesBothFlagsOnASyn(TcpFlags flags, bool asks) =>
        Assert.Equal(asks, SynOptions.AsksForEcn(new Packet { Flags = flags }));

    [Fact]
    public void Fields_OfOurSyn_OfferEverythingButEcn()
    {
        NegotiatedOptions offer = SynOptions.Offer(new TcpStackOptions(), SegmentBuilder.FlowV4, Offset);
        Assert.Equal(536, offer.PeerMss);
        SegmentFields fields = Fields(offer, answers: false);
        Assert.Equal(TcpFlags.Syn, fields.Flags);
        Assert.Equal((ushort.MaxValue, (ushort)1460), (fields.Window, fields.Mss));
        Assert.True(fields is { HasWindowScale: true, WindowScale: 7, SackPermitted: true, HasTimestamps: true });
        Assert.Equal((unchecked(TsClock.At(s_now) + Offset), 0u), (fields.TsVal, fields.TsEcr));
    }

    [Fact]
    public void Fields_OfASyn_EchoNoTimestamp() =>
        Assert.Equal(0u, Fields(new NegotiatedOptions { Timestamps = true, TsRecent = 99 }, answers: false).TsEcr);

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Fields_OfOurSynAck_SayWhatWasAgreedOn(bool agreed)
    {
        var options = new NegotiatedOptions
        {
            WindowScaling = agreed,
            RcvWndShift = agreed ? OurShift : (byte)0,
            Sack = agreed,
            Timestamps = agreed,
            Ecn = agreed,
            TsRecent = 99,
        };
        SegmentFields fields = Fields(options, answers: true);
        Assert.Equal(TcpFlags.Syn | TcpFlags.Ack | (agreed ? TcpFlags.Ece : 0), fields.Flags);
        Assert.Equal((agreed, agreed, agreed), (fields.HasWindowScale, fields.SackPermitted, fields.HasTimestamps));
        Assert.Equal((agreed ? OurShift : 0, 99u), (fields.WindowScale, fields.TsEcr));
    }

    [Theory]
    [InlineData(1500, 1792, false, 1460)]
    [InlineData(1500, 1792, true, 1440)]
    [InlineData(576, 1792, false, 536)]
    [InlineData(9000, 1792, false, 1792)]
    [InlineData(9000, 1792, true, 1792)]
    public void Fields_Mss_IsWhatInterfaceAndFrameCarry(int mtu, int capacity, bool isIPv6, ushort mss) =>
        Assert.Equal(mss, Fields(default, answers: true, mtu, capacity, isIPv6).Mss);

    /// <summary>A packet that may be received in several frames; the field has 16 bits.</summary>
    [Theory]
    [InlineData(1500, false, 1460)]
    [InlineData(9000, false, 8960)]
    [InlineData(9000, true, 8940)]
    [InlineData(65_536, false, 65_496)]
    [InlineData(100_000, true, 65_535)]
    public void Fields_MssWithReceiveMtu_IsWhatMayBeReceived(int mtu, bool isIPv6, ushort mss)
    {
        var options = new TcpStackOptions { Mtu = 1500, ReceiveMtu = mtu };
        SegmentFields fields = SynOptions.Fields(options, 1792, FlowOf(isIPv6), default, s_route, answers: true, s_now);
        Assert.Equal(mss, fields.Mss);
    }
}

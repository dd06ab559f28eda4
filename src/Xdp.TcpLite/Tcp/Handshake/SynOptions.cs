namespace Xdp.TcpLite;

/// <summary>
/// What our SYNs say, and what follows from the peer's: MSS (RFC 9293, section 3.7.1), window scale and timestamps
/// (RFC 7323), SACK (RFC 2018), ECN (RFC 3168). Functions without state.
/// </summary>
internal static class SynOptions
{
    /// <summary>The largest shift there is (RFC 7323, section 2.3).</summary>
    private const byte MaxWindowShift = 14;

    /// <summary>The window of our SYN or SYN-ACK, in bytes. It is never scaled (RFC 7323, section 2.2).</summary>
    internal static int InitialWindow(TcpStackOptions options) =>
        Math.Min(options.ReceiveBufferInitial, ushort.MaxValue);

    /// <summary>The smallest shift with which the window field covers the largest receive buffer.</summary>
    internal static byte WindowShift(TcpStackOptions options)
    {
        byte shift = 0;
        while (shift < MaxWindowShift && (long)ushort.MaxValue << shift < options.ReceiveBufferMax)
            shift++;
        return shift;
    }

    /// <summary>The MSS of a peer that does not say one (RFC 9293, section 3.7.1).</summary>
    internal static ushort DefaultMss(in FlowKey flow) => (ushort)(flow.Local.IsIPv4 ? 536 : 1220);

    /// <summary>What we propose in the SYN of an active open. ECN is granted, never asked for.</summary>
    internal static NegotiatedOptions Offer(TcpStackOptions options, in FlowKey flow, uint tsOffset) => new()
    {
        PeerMss = DefaultMss(flow),
        RcvWndShift = options.WindowScaling ? WindowShift(options) : (byte)0,
        WindowScaling = options.WindowScaling,
        Sack = options.Sack,
        Timestamps = options.Timestamps,
        TsOffset = tsOffset,
    };

    /// <summary>
    /// What both sides agree on, given the peer's SYN or SYN-ACK: every option that it has and the settings allow.
    /// </summary>
    /// <param name="options">Settings.</param>
    /// <param name="syn">The peer's SYN or SYN-ACK.</param>
    /// <param name="tsOffset">The flow's, for <see cref="NegotiatedOptions.TsOffset"/>.</param>
    internal static NegotiatedOptions Negotiate(TcpStackOptions options, in Packet syn, uint tsOffset)
    {
        bool scaled = syn.HasWindowScale && options.WindowScaling;
        return new NegotiatedOptions
        {
            PeerMss = syn.Mss != 0 ? syn.Mss : DefaultMss(syn.Flow),
            WindowScaling = scaled,
            SndWndShift = scaled ? syn.WindowScale : (byte)0,
            RcvWndShift = scaled ? WindowShift(options) : (byte)0,
            Sack = syn.SackPermitted && options.Sack,
            Timestamps = syn.HasTimestamps && options.Timestamps,
            TsOffset = tsOffset,
            TsRecent = syn.TsVal,
            Ecn = AsksForEcn(syn) && options.Ecn,
        };
    }

    /// <summary>ECE and CWR on a SYN. ECE on a SYN-ACK would grant what we never ask for.</summary>
    internal static bool AsksForEcn(in Packet syn) => !syn.IsAck && syn.Has(TcpFlags.Ece) && syn.Has(TcpFlags.Cwr);

    /// <summary>The fields of our SYN or SYN-ACK, all but the sequence numbers.</summary>
    /// <param name="options">Settings.</param>
    /// <param name="payloadCapacity">See <see cref="FramePool.PayloadCapacity"/>.</param>
    /// <param name="flow">The 4-tuple.</param>
    /// <param name="negotiated">What is proposed, or what was agreed on.</param>
    /// <param name="route">The way to the peer.</param>
    /// <param name="answers">It is a SYN-ACK.</param>
    /// <param name="now">The present.</param>
    internal static SegmentFields Fields(
        TcpStackOptions options,
        int payloadCapacity,
        in FlowKey flow,
        in NegotiatedOptions negotiated,
        Route route,
        bool answers,
        Instant now) => new()
        {
            Flags = FlagsOf(negotiated, answers),
            Window = (ushort)InitialWindow(options),
            Mss = (ushort)OwnMss(options, payloadCapacity, flow, route),
            HasWindowScale = negotiated.WindowScaling,
            WindowScale = negotiated.RcvWndShift,
            SackPermitted = negotiated.Sack,
            HasTimestamps = negotiated.Timestamps,
            TsVal = TsClock.At(now) + negotiated.TsOffset,
            TsEcr = answers ? negotiated.TsRecent : 0,
        };

    private static TcpFlags FlagsOf(in NegotiatedOptions negotiated, bool answers)
    {
        if (!answers)
            return TcpFlags.Syn;
        return negotiated.Ecn ? TcpFlags.Syn | TcpFlags.Ack | TcpFlags.Ece : TcpFlags.Syn | TcpFlags.Ack;
    }

    /// <summary>
    /// The largest payload that we take: what the interface carries, and what a frame holds unless a packet may take
    /// several. No more than the route says, or carries.
    /// </summary>
    private static int OwnMss(TcpStackOptions options, int payloadCapacity, in FlowKey flow, Route route)
    {
        int headers = flow.Local.IsIPv4 ? 40 : 60;
        int mss = options.ReceiveMtu is { } mtu
            ? Math.Min(mtu - headers, ushort.MaxValue)
            : Math.Min(options.Mtu - headers, payloadCapacity);
        return Math.Min(mss, route.AdvertisedMss ?? route.Mtu - headers);
    }
}

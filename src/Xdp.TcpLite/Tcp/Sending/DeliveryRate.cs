namespace Xdp.TcpLite;

/// <summary>
/// What a segment remembers of the moment it was sent, for <see cref="DeliveryRate"/>. Times are the lower 32 bits of
/// ticks.
/// </summary>
internal struct DeliveryMark
{
    /// <summary>Bytes delivered by then.</summary>
    public uint Delivered;

    /// <summary>When the last of them was.</summary>
    public uint DeliveredAt;

    /// <summary>When the first segment of the flight was sent that this one belongs to.</summary>
    public uint FirstSentAt;

    /// <summary>Bytes in the network, this segment included.</summary>
    public uint InFlight;

    /// <summary>Bytes taken for lost by then.</summary>
    public uint Lost;
}

/// <summary>
/// What one ACK tells of the time between the sending and the delivery of a segment: the one that was sent last among
/// those which the ACK delivers.
/// </summary>
internal struct RateSample
{
    /// <summary>Bytes a second; 0 when the time was too short to tell.</summary>
    public long BytesPerSecond;

    /// <summary>Bytes delivered in that time.</summary>
    public long Delivered;

    /// <summary>Bytes taken for lost in that time.</summary>
    public long Lost;

    /// <summary>Bytes in the network when the segment was sent, the segment included.</summary>
    public long InFlightAtSend;

    /// <summary>The application had too little to send when the segment was sent.</summary>
    public bool IsAppLimited;
}

/// <summary>
/// How fast the path delivers (draft-ietf-ccwg-bbr, section 4.1.1): bytes acknowledged, over the time in which they
/// were sent or the time in which they were acknowledged, whichever is longer. So neither a burst of segments nor a
/// burst of ACKs makes the path look faster than it is.
/// </summary>
/// <remarks>
/// Spans are differences of 32-bit ticks, up to seven minutes. Nothing stays in flight for longer between two ACKs.
/// </remarks>
internal struct DeliveryRate
{
    private uint _delivered;
    private uint _deliveredAt;
    private uint _firstSentAt;

    /// <summary>The application ran out of data before this much was delivered.</summary>
    private uint _appLimitedUntil;
    private bool _isAppLimited;

    // Of the segment that was sent last among those which the present ACK delivers.
    private DeliveryMark _sample;
    private uint _sampleSentAt;
    private bool _hasSample;
    private bool _sampleIsAppLimited;

    /// <summary>The last rate that could be told, in bytes a second; 0 before the first.</summary>
    internal long BytesPerSecond { get; private set; }

    /// <summary>It was measured while the application had too little to send, so the path may be faster.</summary>
    internal bool IsAppLimited { get; private set; }

    /// <summary>A segment is sent, or sent again.</summary>
    /// <param name="segment">The segment. It remembers the moment.</param>
    /// <param name="firstInFlight">Nothing else is in flight.</param>
    /// <param name="inFlight">Bytes in the network, the segment included.</param>
    /// <param name="lost">Bytes taken for lost since the flight began; wraps.</param>
    internal void OnSent(ref SentSegment segment, bool firstInFlight, long inFlight, uint lost)
    {
        uint now = Low(segment.SentAt);
        if (firstInFlight)
            _firstSentAt = _deliveredAt = now;
        ref DeliveryMark mark = ref segment.Delivery;
        mark.Delivered = _delivered;
        mark.DeliveredAt = _deliveredAt;
        mark.FirstSentAt = _firstSentAt;
        mark.InFlight = (uint)inFlight;
        mark.Lost = lost;
        segment.Flags = _isAppLimited ? segment.Flags | SentFlags.AppLimited : segment.Flags & ~SentFlags.AppLimited;
    }

    /// <summary>Everything that was written has been sent, though the window had room for more.</summary>
    internal void OnAppLimited(long inFlight)
    {
        _isAppLimited = true;
        _appLimitedUntil = _delivered + (uint)inFlight;
    }

    /// <summary>A segment is acknowledged or SACKed for the first time.</summary>
    internal void OnDelivered(in SentSegment segment, int bytes, Instant now)
    {
        _delivered += (uint)bytes;
        _deliveredAt = Low(now);
        if (_isAppLimited && (int)(_delivered - _appLimitedUntil) > 0)
            _isAppLimited = false;
        if (_hasSample && (int)(segment.Delivery.Delivered - _sample.Delivered) < 0)
            return;
        _hasSample = true;
        _sample = segment.Delivery;
        _sampleSentAt = Low(segment.SentAt);
        _sampleIsAppLimited = segment.Has(SentFlags.AppLimited);
        _firstSentAt = _sampleSentAt;
    }

    /// <summary>An ACK has been worked through. A span shorter than the least round trip is no measure.</summary>
    /// <param name="minRtt">The least round trip.</param>
    /// <param name="lost">Bytes taken for lost since the flight began; wraps.</param>
    /// <param name="sample">What the ACK tells; default when it has delivered nothing.</param>
    internal void OnAckEnd(TimeSpan minRtt, uint lost, out RateSample sample)
    {
        sample = default;
        if (!_hasSample)
            return;
        _hasSample = false;
        uint sending = _sampleSentAt - _sample.FirstSentAt;
        uint acknowledging = _deliveredAt - _sample.DeliveredAt;
        long span = Math.Max(sending, acknowledging);
        uint delivered = _delivered - _sample.Delivered;
        bool isMeasured = span > 0 && span >= minRtt.Ticks;
        sample.Delivered = delivered;
        sample.Lost = lost - _sample.Lost;
        sample.InFlightAtSend = _sample.InFlight;
        sample.IsAppLimited = _sampleIsAppLimited;
        if (!isMeasured)
            return;
        BytesPerSecond = sample.BytesPerSecond = delivered * TimeSpan.TicksPerSecond / span;
        IsAppLimited = _sampleIsAppLimited;
    }

    private static uint Low(Instant at) => (uint)at.Ticks;
}

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

    internal void OnSent(ref SentSegment segment, bool firstInFlight)
    {
        uint now = Low(segment.SentAt);
        if (firstInFlight)
            _firstSentAt = _deliveredAt = now;
        segment.Delivery = new DeliveryMark
        {
            Delivered = _delivered,
            DeliveredAt = _deliveredAt,
            FirstSentAt = _firstSentAt,
        };
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
    internal void OnAckEnd(TimeSpan minRtt)
    {
        if (!_hasSample)
            return;
        _hasSample = false;
        uint sending = _sampleSentAt - _sample.FirstSentAt;
        uint acknowledging = _deliveredAt - _sample.DeliveredAt;
        long span = Math.Max(sending, acknowledging);
        if (span == 0 || span < minRtt.Ticks)
            return;
        BytesPerSecond = (_delivered - _sample.Delivered) * TimeSpan.TicksPerSecond / span;
        IsAppLimited = _sampleIsAppLimited;
    }

    private static uint Low(Instant at) => (uint)at.Ticks;
}

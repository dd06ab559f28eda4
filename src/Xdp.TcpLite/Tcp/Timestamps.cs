namespace Xdp.TcpLite;

/// <summary>
/// The timestamps option of a connection (RFC 7323): what is sent, what is echoed, and what the peer's echo tells.
/// </summary>
internal struct Timestamps
{
    /// <summary>Idle time after which TS.Recent is no longer held against a segment (section 5.5).</summary>
    private static readonly TimeSpan s_pawsExpiry = TimeSpan.FromDays(24);

    /// <summary>
    /// Ticks that a segment may be older than one that has come (Linux's TCP_PAWS_WINDOW). Two segments of one tick
    /// change places, and hosts with several processors stamp them out of order.
    /// </summary>
    private const int PawsTolerance = 1;

    private readonly uint _offset;
    private CoarseInstant _recentAt;

    internal Timestamps(in NegotiatedOptions options, Instant now)
    {
        Enabled = options.Timestamps;
        _offset = options.TsOffset;
        Recent = options.TsRecent;
        _recentAt = new CoarseInstant(now);
    }

    /// <summary>Both sides send them.</summary>
    internal bool Enabled { get; }

    /// <summary>TS.Recent.</summary>
    internal uint Recent { get; private set; }

    internal readonly uint Offset => _offset;

    /// <summary>TSval of a segment that is sent then.</summary>
    internal readonly uint At(Instant now) => TsClock.At(now) + _offset;

    /// <summary>PAWS (section 5.3): is the segment older than one that has come?</summary>
    internal readonly bool IsOld(in Packet packet, Instant now) =>
        Enabled && packet.HasTimestamps && !packet.IsRst && IsBefore(packet.TsVal, PawsTolerance, now);

    /// <summary>
    /// Takes over a segment's TSval, if the segment is at the left edge of what was acknowledged (section 4.3).
    /// </summary>
    internal void Update(in Packet packet, SeqNumber lastAckSent, Instant now)
    {
        if (!packet.HasTimestamps || !Enabled || packet.Seq > lastAckSent)
            return;
        if (IsBefore(packet.TsVal, tolerance: 0, now))
            return;
        Recent = packet.TsVal;
        _recentAt = new CoarseInstant(now);
    }

    /// <summary>The peer's SYN has come again, and acknowledges ours.</summary>
    internal void Restart(in Packet packet) => Recent = packet.HasTimestamps ? packet.TsVal : Recent;

    /// <summary>
    /// Round trip by the echo, in whole milliseconds: time since that TSval was sent. Null without a valid echo.
    /// </summary>
    internal readonly TimeSpan? Elapsed(in Packet packet, Instant now) =>
        HasEcho(packet) && (int)(At(now) - packet.TsEcr) is >= 0 and var elapsed
            ? TimeSpan.FromMilliseconds(Math.Max(elapsed, 1))
            : null;

    /// <summary>
    /// Is the ACK for a segment that was sent before <paramref name="tsVal"/> was? False when no echo tells.
    /// </summary>
    internal readonly bool EchoesBefore(in Packet packet, uint tsVal) =>
        HasEcho(packet) && (int)(packet.TsEcr - tsVal) < 0;

    /// <summary>Is the ACK for a segment that was sent at that time or later? Null when no echo tells.</summary>
    internal readonly bool? EchoesSince(in Packet packet, Instant sentAt) =>
        HasEcho(packet) ? (int)(packet.TsEcr - At(sentAt)) >= 0 : null;

    // A TS.Recent of 0 is that of a peer which sends 0 in its SYN, and the time in what follows. As for Linux it says
    // nothing.
    private readonly bool IsBefore(uint tsVal, int tolerance, Instant now) =>
        Recent != 0 && (int)(Recent - tsVal) > tolerance && _recentAt.Age(now) <= s_pawsExpiry;

    private readonly bool HasEcho(in Packet packet) => Enabled && packet.HasTimestamps && packet.TsEcr != 0;
}

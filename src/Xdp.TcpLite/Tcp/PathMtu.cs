namespace Xdp.TcpLite;

/// <summary>Bytes of the headers that each segment of a connection has.</summary>
/// <param name="isIPv4">Or else IPv6.</param>
/// <param name="hasTimestamps">Each segment carries the timestamps option.</param>
internal readonly struct HeaderLengths(bool isIPv4, bool hasTimestamps)
{
    private const int IPv4AndTcp = 40;
    private const int IPv6AndTcp = 60;

    /// <summary>Of the smallest packet that every path takes.</summary>
    internal int MinMtu => isIPv4 ? PathMtu.MinMtuIPv4 : PathMtu.MinMtuIPv6;

    /// <summary>TCP options among them.</summary>
    internal int Options => hasTimestamps ? SegmentWriter.TimestampsLength : 0;

    /// <summary>IP, TCP and its options.</summary>
    internal int All => (isIPv4 ? IPv4AndTcp : IPv6AndTcp) + Options;
}

/// <summary>
/// The largest packet that the path takes. A router says it (RFC 1191, RFC 8201), once its quote has been checked
/// (RFC 5927). Where the router's word does not get through, time-outs raise the suspicion, and a larger segment sent
/// among smaller ones proves or refutes it (RFC 4821). So an outage, in which everything is lost, costs nothing.
/// </summary>
internal struct PathMtu
{
    /// <summary>Whoever asks for less is more likely an attacker than a router (Linux's min_pmtu).</summary>
    internal const int MinMtuIPv4 = 552;
    internal const int MinMtuIPv6 = 1280;

    /// <summary>
    /// Time-outs in a row that a large segment may have before the path is suspected to swallow it (Linux's
    /// tcp_retries1).
    /// </summary>
    private const int BlackHoleTimeouts = 3;

    /// <summary>
    /// Tried first where the path may swallow segments (Linux's tcp_base_mss); then the protocol's least.
    /// </summary>
    private const int BaseMss = 1024;

    /// <summary>The search ends when so few bytes are left to win (Linux's tcp_probe_threshold).</summary>
    private const int SearchThreshold = 8;

    /// <summary>
    /// Options and payload. Smaller segments are not worth their headers: a peer that announces less gets this (Linux's
    /// tcp_min_snd_mss).
    /// </summary>
    private const int MinMss = 48;

    /// <summary>Nothing less than the link's MTU is known.</summary>
    private const ushort Unknown = ushort.MaxValue;

    /// <summary>
    /// Time after which the link's MTU is tried again: the path may have changed (RFC 1191, 6.3; Linux's
    /// tcp_probe_interval).
    /// </summary>
    private const int LifetimeSeconds = 600;

    /// <summary>MTUs in use, for routers that do not say theirs (RFC 1191, section 7.1).</summary>
    private static ReadOnlySpan<int> Plateaus => [32000, 17914, 8166, 4352, 2002, 1492, 1006, 576];

    /// <summary>The largest packet in use.</summary>
    private ushort _mtu = Unknown;

    /// <summary>A packet that did not get through; <see cref="Unknown"/> while that is only suspected.</summary>
    private ushort _tooLarge = Unknown;

    /// <summary>What the peer's SYN says; 0 before it came.</summary>
    private ushort _peerMss;

    /// <summary>
    /// When it was found, in seconds. After eighteen hours it counts afresh: then a try comes ten minutes late at most.
    /// </summary>
    private ushort _since;

    public PathMtu()
    {
    }

    internal void Negotiate(ushort peerMss) => _peerMss = peerMss;

    /// <summary>Less than the link's MTU is in use.</summary>
    internal readonly bool IsReduced => _mtu != Unknown;

    /// <summary>Payload bytes of a full segment.</summary>
    /// <param name="headers">Of each segment.</param>
    /// <param name="linkMtu">Of the interface.</param>
    /// <param name="capacity">Payload bytes that a frame holds.</param>
    internal readonly int EffectiveMss(HeaderLengths headers, int linkMtu, int capacity) =>
        PayloadOf(Math.Min(linkMtu, _mtu), headers, capacity);

    /// <summary>Payload bytes of the segment that should be tried next: more than a full one, or 0.</summary>
    /// <inheritdoc cref="EffectiveMss"/>
    internal readonly int ProbeMss(HeaderLengths headers, int linkMtu, int capacity, Instant now)
    {
        int mtu = NextProbe(linkMtu, now);
        int probe = mtu == 0 ? 0 : PayloadOf(mtu, headers, capacity);
        return probe > EffectiveMss(headers, linkMtu, capacity) ? probe : 0;
    }

    private readonly int NextProbe(int linkMtu, Instant now)
    {
        if (_mtu >= linkMtu)
            return 0;
        if (_tooLarge == Unknown || IsStale(now))
            return linkMtu;
        return _tooLarge - _mtu > SearchThreshold ? (_mtu + _tooLarge) / 2 : 0;
    }

    /// <summary>The peer's MSS does not count options (RFC 6691).</summary>
    private readonly int PayloadOf(int mtu, HeaderLengths headers, int capacity)
    {
        int mss = Math.Min(_peerMss - headers.Options, mtu - headers.All);
        return Math.Clamp(mss, MinMss - headers.Options, Math.Min(capacity, ushort.MaxValue));
    }

    /// <summary>It is known what became of a probe.</summary>
    /// <param name="probe">Its payload, and whether it got through.</param>
    /// <param name="headers">Of each segment.</param>
    /// <param name="linkMtu">Of the interface.</param>
    /// <param name="now">The present.</param>
    internal void OnProbe(in MtuProbeResult probe, HeaderLengths headers, int linkMtu, Instant now)
    {
        int mtu = probe.Length + headers.All;
        if (!probe.Passed)
            (_tooLarge, _since) = ((ushort)mtu, SecondOf(now));
        else if (mtu >= Math.Min(linkMtu, _peerMss - headers.Options + headers.All))
            _mtu = _tooLarge = Unknown;
        else
            _mtu = (ushort)Math.Max(mtu, (int)_mtu);
    }

    /// <summary>A router has dropped a packet that was in flight. False when that is no news.</summary>
    /// <param name="reported">The MTU it says; 0 when it does not say.</param>
    /// <param name="linkMtu">Of the interface.</param>
    /// <param name="isIPv4">The packet was.</param>
    /// <param name="now">The present.</param>
    internal bool OnTooBig(int reported, int linkMtu, bool isIPv4, Instant now)
    {
        int current = Math.Min(_mtu, linkMtu);
        int least = isIPv4 ? MinMtuIPv4 : MinMtuIPv6;
        int mtu = Math.Max(reported == 0 ? PlateauBelow(current) : reported, least);
        if (mtu >= current)
            return false;
        // What a router says is exact: nothing is left to search for.
        (_mtu, _tooLarge, _since) = ((ushort)mtu, (ushort)(mtu + 1), SecondOf(now));
        return true;
    }

    /// <summary>
    /// The first segment has timed out. True when it should be sent in smaller pieces. If those get through, the path
    /// seems to swallow large ones, or an outage is over: a probe tells.
    /// </summary>
    /// <param name="timeouts">Time-outs in a row, this one included.</param>
    /// <param name="length">Payload bytes of the segment.</param>
    /// <param name="mss">Payload bytes of a full segment.</param>
    /// <param name="headers">Of each segment.</param>
    internal bool OnTimeout(int timeouts, int length, int mss, HeaderLengths headers)
    {
        int least = headers.MinMtu - headers.All;
        int smaller = mss > BaseMss ? Math.Max(BaseMss, least) : least;
        if (timeouts <= BlackHoleTimeouts || length <= smaller)
            return false;
        _mtu = (ushort)Math.Min(_mtu, smaller + headers.All);
        _tooLarge = Unknown;
        return true;
    }

    /// <summary>
    /// True when a router's word is so old that the link's MTU is used again. If the path is as it was, the router says
    /// so once more.
    /// </summary>
    internal bool Forget(Instant now)
    {
        bool isTold = _tooLarge == _mtu + 1;
        if (!isTold || !IsStale(now))
            return false;
        _mtu = _tooLarge = Unknown;
        return true;
    }

    private readonly bool IsStale(Instant now) => (ushort)(SecondOf(now) - _since) >= LifetimeSeconds;

    private static ushort SecondOf(Instant at) => (ushort)(at.Ticks / TimeSpan.TicksPerSecond);

    private static int PlateauBelow(int mtu)
    {
        foreach (int plateau in Plateaus)
        {
            if (plateau < mtu)
                return plateau;
        }
        return Plateaus[^1];
    }
}

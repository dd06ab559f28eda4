namespace Xdp.TcpLite;

/// <summary>Bytes of the headers that each segment of a connection has.</summary>
/// <param name="isIPv4">Or else IPv6.</param>
/// <param name="hasTimestamps">Each segment carries the timestamps option.</param>
internal readonly struct HeaderLengths(bool isIPv4, bool hasTimestamps)
{
    private const int IPv4AndTcp = 40;
    private const int IPv6AndTcp = 60;

    /// <summary>TCP options among them.</summary>
    internal int Options => hasTimestamps ? SegmentWriter.TimestampsLength : 0;

    /// <summary>IP, TCP and its options.</summary>
    internal int All => (isIPv4 ? IPv4AndTcp : IPv6AndTcp) + Options;
}

/// <summary>
/// The largest packet that the path takes. A router says it (RFC 1191, RFC 8201), once its quote has been checked
/// (RFC 5927). Where the router's word does not get through, time-outs tell (RFC 4821).
/// </summary>
internal struct PathMtu
{
    /// <summary>Whoever asks for less is more likely an attacker than a router (Linux's min_pmtu).</summary>
    private const int MinMtuIPv4 = 552;
    private const int MinMtuIPv6 = 1280;

    /// <summary>
    /// Time-outs in a row that a large segment may have before the path is suspected to swallow it (Linux's
    /// tcp_retries1).
    /// </summary>
    private const int BlackHoleTimeouts = 3;

    /// <summary>Tried first where the path swallows segments; then half of it, and so on (tcp_base_mss).</summary>
    private const ushort BlackHoleMss = 1024;
    private const int BlackHoleMinMss = 48;

    /// <summary>
    /// Smaller segments are not worth their headers: a peer that announces less gets this (Linux's tcp_min_snd_mss).
    /// </summary>
    private const int MinMss = 36;

    /// <summary>Nothing less than the link's MTU is known.</summary>
    private const ushort Unknown = ushort.MaxValue;

    /// <summary>Time after which the link's MTU is tried again: the path may have changed (RFC 1191, 6.3).</summary>
    private static readonly TimeSpan s_lifetime = TimeSpan.FromMinutes(10);

    /// <summary>MTUs in use, for routers that do not say theirs (RFC 1191, section 7.1).</summary>
    private static ReadOnlySpan<int> Plateaus => [32000, 17914, 8166, 4352, 2002, 1492, 1006, 576];

    private ushort _mtu = Unknown;

    /// <summary>What the peer's SYN says; 0 before it came.</summary>
    private ushort _peerMss;
    private CoarseInstant _since;

    public PathMtu()
    {
    }

    internal void Negotiate(ushort peerMss) => _peerMss = peerMss;

    /// <summary>Payload bytes of a full segment. The peer's MSS does not count options (RFC 6691).</summary>
    /// <param name="headers">Of each segment.</param>
    /// <param name="linkMtu">Of the interface.</param>
    /// <param name="capacity">Payload bytes that a frame holds.</param>
    internal readonly int EffectiveMss(HeaderLengths headers, int linkMtu, int capacity)
    {
        int mss = Math.Min(_peerMss - headers.Options, Math.Min(linkMtu, _mtu) - headers.All);
        return Math.Clamp(mss, MinMss, Math.Min(capacity, ushort.MaxValue));
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
        Set(mtu, now);
        return true;
    }

    /// <summary>The first segment has timed out. True when the path seems to swallow segments of its size.</summary>
    /// <param name="timeouts">Time-outs in a row, this one included.</param>
    /// <param name="length">Payload bytes of the segment.</param>
    /// <param name="mss">Payload bytes of a full segment.</param>
    /// <param name="headers">Of each segment.</param>
    /// <param name="now">The present.</param>
    internal bool OnTimeout(int timeouts, int length, int mss, HeaderLengths headers, Instant now)
    {
        if (timeouts <= BlackHoleTimeouts || length <= BlackHoleMinMss || length < Math.Min(mss, BlackHoleMss))
            return false;
        int smaller = mss > BlackHoleMss ? BlackHoleMss : Math.Max(mss / 2, BlackHoleMinMss);
        Set(Math.Min(_mtu, smaller + headers.All), now);
        return true;
    }

    /// <summary>True when what was known is so old that the link's MTU is tried again.</summary>
    internal bool Forget(Instant now)
    {
        if (_mtu == Unknown || _since.Age(now) < s_lifetime)
            return false;
        _mtu = Unknown;
        return true;
    }

    private void Set(int mtu, Instant now)
    {
        _mtu = (ushort)mtu;
        _since = new CoarseInstant(now);
    }

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

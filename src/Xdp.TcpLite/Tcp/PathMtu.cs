namespace Xdp.TcpLite;

/// <summary>
/// The largest packet the path takes: what a router says (RFC 1191, RFC 8201), once its quote has been checked (RFC 5927), and what silence says when the
/// router's word does not get through (RFC 4821).
/// </summary>
internal struct PathMtu
{
    /// <summary>No IPv4 router may ask for less in our view: a lower claim is more likely an attack than a link (Linux's min_pmtu).</summary>
    private const int MinMtuIPv4 = 552;
    private const int MinMtuIPv6 = 1280;

    /// <summary>Back-to-back time-outs of a large segment after which the path is suspected to swallow it (Linux's tcp_retries1).</summary>
    private const int BlackHoleTimeouts = 3;

    /// <summary>What is tried first on a suspected black hole, and then half of it, and so on (Linux's tcp_base_mss).</summary>
    private const ushort BlackHoleMss = 1024;
    private const int BlackHoleMinMss = 48;

    /// <summary>Smaller segments than this are not worth their headers: a peer that announces less gets this (RFC 6691; Linux's tcp_min_snd_mss).</summary>
    private const int MinMss = 36;

    /// <summary>Nothing less than the link's MTU is known.</summary>
    private const ushort Unknown = ushort.MaxValue;

    /// <summary>The path may have changed: a larger MTU is tried again after this time (RFC 1191, section 6.3).</summary>
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

    /// <summary>Payload bytes of a full segment.</summary>
    /// <param name="headers">Bytes of IP and TCP headers in each, options included.</param>
    /// <param name="options">Bytes of TCP options among them, which the peer's MSS does not count (RFC 6691).</param>
    /// <param name="linkMtu">Of the interface.</param>
    /// <param name="capacity">Payload bytes that a frame holds.</param>
    internal readonly int EffectiveMss(int headers, int options, int linkMtu, int capacity)
    {
        int mss = Math.Min(_peerMss - options, Math.Min(linkMtu, _mtu) - headers);
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
        int mtu = Math.Max(reported == 0 ? PlateauBelow(current) : reported, isIPv4 ? MinMtuIPv4 : MinMtuIPv6);
        if (mtu >= current)
            return false;
        Set(mtu, now);
        return true;
    }

    /// <summary>The first segment has timed out, again. True when the path is taken for one that swallows segments of this size.</summary>
    /// <param name="timeouts">Time-outs before this one.</param>
    /// <param name="length">Payload bytes of the segment.</param>
    /// <param name="mss">Payload bytes of a full segment.</param>
    /// <param name="headers">Bytes of headers in each.</param>
    /// <param name="now">The present.</param>
    internal bool OnTimeout(int timeouts, int length, int mss, int headers, Instant now)
    {
        if (timeouts < BlackHoleTimeouts || length <= BlackHoleMinMss || length < Math.Min(mss, BlackHoleMss))
            return false;
        int smaller = mss > BlackHoleMss ? BlackHoleMss : Math.Max(mss / 2, BlackHoleMinMss);
        Set(Math.Min(_mtu, smaller + headers), now);
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

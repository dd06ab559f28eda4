namespace Xdp.TcpLite;

/// <summary>
/// The largest packet the path takes: what a router says (RFC 1191, RFC 8201), once its quote has been checked (RFC 5927), and what silence
/// says when the router's word does not get through (RFC 4821).
/// </summary>
public sealed partial class TcpConnection
{
    /// <summary>No IPv4 router may ask for less in our view: a lower claim is more likely an attack than a link (Linux's min_pmtu).</summary>
    private const int MinMtuIPv4 = 552;
    private const int MinMtuIPv6 = 1280;

    /// <summary>Back-to-back time-outs of a large segment after which the path is suspected to swallow it (Linux's tcp_retries1).</summary>
    private const int BlackHoleTimeouts = 3;

    /// <summary>What is tried first on a suspected black hole, and then half of it, and so on (Linux's tcp_base_mss).</summary>
    private const ushort BlackHoleMss = 1024;
    private const int BlackHoleMinMss = 48;

    /// <summary>The path may have changed: a larger MTU is tried again after this time (RFC 1191, section 6.3).</summary>
    private static readonly TimeSpan s_pathMtuLifetime = TimeSpan.FromMinutes(10);

    /// <summary>MTUs in use, for routers that do not say theirs (RFC 1191, section 7.1).</summary>
    private static ReadOnlySpan<int> Plateaus => [32000, 17914, 8166, 4352, 2002, 1492, 1006, 576];

    private ushort _pathMtu = NoPathMtu;
    private CoarseInstant _pathMtuSince;

    /// <summary>No more than the link's is known: no packet is larger.</summary>
    private const ushort NoPathMtu = ushort.MaxValue;

    /// <summary>A router has dropped a packet of ours and quotes it.</summary>
    internal void ReceiveTooBig(in IcmpTooBig news, Instant now)
    {
        if (news.Seq < SndUna || news.Seq >= SndNxt)
        {
            _stack.Drop(DropReason.UnknownIcmp);
            return;
        }
        bool isIPv4 = Key.Local.IsIPv4;
        int current = Math.Min(_pathMtu, _options.Mtu);
        int mtu = Math.Max(news.Mtu == 0 ? PlateauBelow(current) : news.Mtu, isIPv4 ? MinMtuIPv4 : MinMtuIPv6);
        if (mtu >= current)
        {
            _stack.Drop(DropReason.UnknownIcmp);
            return;
        }
        _pathMtu = (ushort)mtu;
        _pathMtuSince = new CoarseInstant(now);
        ShrinkTo(now);
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

    /// <summary>What is in flight and too large did not arrive: it goes out again, cut smaller. That is no sign of congestion.</summary>
    private void ShrinkTo(Instant now)
    {
        UpdateMss();
        _congestion.OnMssChanged(_sndMss);
        for (int i = 0; i < _flight.Count; i++)
        {
            ref SentSegment segment = ref _flight[i];
            if (segment.Length <= _sndMss || segment.Has(SentFlags.Sacked))
                continue;
            if (segment.Has(SentFlags.Retransmitted))
                _flight.RetransmittedBytes -= segment.SequenceLength;
            if (!segment.Has(SentFlags.Lost))
                _flight.LostBytes += segment.SequenceLength;
            segment.Flags = (segment.Flags & ~SentFlags.Retransmitted) | SentFlags.Lost;
        }
        _flight.NoneLostBefore = SndUna;
        if (_flight.LostBytes > 0 && _flight.Recovery == Recovery.Open)
            RepairWithoutCongestion();
        if (_flight.Count > 0)
            ArmLossTimer(now, restart: true);
        RequestEmit();
    }

    private void CheckBlackHole()
    {
        if (_flight.Backoff < BlackHoleTimeouts || _flight[0].Length <= BlackHoleMinMss || _flight[0].Length < Math.Min(_sndMss, BlackHoleMss))
            return;
        int mss = _sndMss > BlackHoleMss ? BlackHoleMss : Math.Max(_sndMss / 2, BlackHoleMinMss);
        _pathMtu = (ushort)Math.Min(_pathMtu, mss + TcpIpHeaderLength + (_negotiated.Timestamps ? TimestampOptionLength : 0));
        _pathMtuSince = new CoarseInstant(_stack.Now);
        UpdateMss();
        _congestion.OnMssChanged(_sndMss);
    }

    private void ForgetPathMtu(Instant now)
    {
        if (_pathMtu == NoPathMtu || _pathMtuSince.Age(now) < s_pathMtuLifetime)
            return;
        _pathMtu = NoPathMtu;
        UpdateMss();
        _congestion.OnMssChanged(_sndMss);
    }

    private int TcpIpHeaderLength => Key.Local.IsIPv4 ? 40 : 60;

    private void UpdateMss()
    {
        int ours = Math.Min(_options.Mtu, _pathMtu) - TcpIpHeaderLength;
        int mss = Math.Min(_negotiated.PeerMss, ours) - (_negotiated.Timestamps ? TimestampOptionLength : 0);
        _sndMss = (ushort)Math.Clamp(mss, MinMss, Math.Min(_stack.Frames.PayloadCapacity, ushort.MaxValue));
    }
}

namespace Xdp.TcpLite;

/// <summary>
/// What NewReno and CUBIC share: slow start, loss episodes and how they are undone, restart after idle time (RFC 5681,
/// RFC 6928). Most connections never leave slow start, so what is needed afterwards is made only then.
/// </summary>
internal abstract class LossBasedControl : ICongestionControl
{
    /// <summary>A threshold that no window reaches.</summary>
    internal const long Unlimited = int.MaxValue;

    /// <summary>No window of TCP's is larger (RFC 7323, section 2.3).</summary>
    internal const int MaxCwnd = 1 << 30;

    private int _cwnd;
    private int _ssthresh = (int)Unlimited;
    private int _priorCwnd;
    private int _priorSsthresh;
    private ushort _mss = 536;
    private bool _inEpisode;
    private bool _timedOut;

    /// <summary>The last episode, over or not, can be undone.</summary>
    private bool _mayUndo;

    public long Cwnd
    {
        get => _cwnd;
        private protected set => _cwnd = (int)Math.Min(value, MaxCwnd);
    }

    public long Ssthresh
    {
        get => _ssthresh;
        private protected set => _ssthresh = (int)Math.Min(value, Unlimited);
    }

    public bool SetsWindowInRecovery => false;

    public bool HoldsBack => false;

    private protected int Mss => _mss;

    public void Start(int mss)
    {
        _mss = (ushort)mss;
        Cwnd = InitialWindow(mss);
        Ssthresh = Unlimited;
    }

    public void OnMssChanged(int mss)
    {
        _mss = (ushort)mss;
        Cwnd = Math.Max(Cwnd, mss);
        Ssthresh = Math.Max(Ssthresh, 2L * mss);
    }

    /// <summary>
    /// As Linux: twice the window each round trip in slow start, so that it can double; afterwards a fifth more.
    /// </summary>
    public long PacingRate(TimeSpan srtt) =>
        srtt <= TimeSpan.Zero ? 0 : (long)((Cwnd < Ssthresh / 2 ? 2.0 : 1.2) * Cwnd / srtt.TotalSeconds);

    public void OnFirstSent(Instant now)
    {
    }

    /// <summary>What matters is that there was a loss, which <see cref="OnCongestion"/> tells.</summary>
    public void OnLost(in LossSample sample)
    {
    }

    public void OnAck(in AckSample sample)
    {
        if (!sample.MayGrow)
            return;
        ObserveAck(sample.Now, sample.CwndLimited);
        if (!sample.CwndLimited)
            return;
        long ackedBytes = sample.AckedBytes;
        if (Cwnd < Ssthresh)
        {
            // Bytes, not ACKs, are counted: neither dividing nor stretching ACKs changes the growth (RFC 3465).
            long growth = Math.Min(ackedBytes, Ssthresh - Cwnd);
            ackedBytes -= growth;
            Cwnd += SlowStart(sample, growth);
        }
        if (ackedBytes > 0)
            Avoid(ackedBytes, sample.Srtt, sample.Now);
    }

    public void OnCongestion(Instant now)
    {
        if (!_inEpisode)
            Begin(isTimeout: false);
    }

    public void SetCwnd(long cwnd) => Cwnd = Math.Max(cwnd, Mss);

    public void OnRecoveryExit(Instant now)
    {
        if (_inEpisode && !_timedOut)
            Cwnd = Math.Max(Ssthresh, 2L * Mss);
        _inEpisode = false;
        _timedOut = false;
    }

    public void OnRto(Instant now)
    {
        if (_timedOut || !_inEpisode)
            Begin(isTimeout: true);
        _timedOut = true;
        Cwnd = Mss;
    }

    public void OnIdle(TimeSpan idle, TimeSpan rto, Instant now)
    {
        _mayUndo = false;
        ObserveIdle(idle, now);
        if (rto <= TimeSpan.Zero)
            return;
        long restart = Math.Min(InitialWindow(Mss), Cwnd);
        Ssthresh = Math.Max(Ssthresh, Cwnd / 4 * 3);
        for (TimeSpan left = idle - rto; left > TimeSpan.Zero && Cwnd > restart; left -= rto)
            Cwnd /= 2;
        Cwnd = Math.Max(Cwnd, restart);
    }

    public void Undo()
    {
        if (!_mayUndo)
            return;
        Cwnd = Math.Max(Cwnd, _priorCwnd);
        Ssthresh = Math.Max(Ssthresh, _priorSsthresh);
        RestoreState();
        _inEpisode = false;
        _timedOut = false;
        _mayUndo = false;
    }

    /// <summary>IW of RFC 6928: ten segments, but no more than 14600 bytes unless two are more.</summary>
    internal static long InitialWindow(int mss) => Math.Min(10L * mss, Math.Max(2L * mss, 14600));

    private void Begin(bool isTimeout)
    {
        _inEpisode = true;
        _mayUndo = true;
        _priorCwnd = _cwnd;
        _priorSsthresh = _ssthresh;
        SaveState();
        Ssthresh = Math.Max(Reduce(isTimeout), 2L * Mss);
    }

    /// <summary>How much of <paramref name="growth"/> the window gets in slow start.</summary>
    private protected virtual long SlowStart(in AckSample sample, long growth) => growth;

    /// <summary>Congestion avoidance: grows the window.</summary>
    private protected abstract void Avoid(long ackedBytes, TimeSpan srtt, Instant now);

    /// <summary>The threshold after a loss, with <see cref="Cwnd"/> still as it was.</summary>
    private protected abstract long Reduce(bool isTimeout);

    /// <summary>Keeps what <see cref="RestoreState"/> brings back.</summary>
    private protected abstract void SaveState();

    private protected abstract void RestoreState();

    private protected virtual void ObserveAck(Instant now, bool cwndLimited)
    {
    }

    private protected virtual void ObserveIdle(TimeSpan idle, Instant now)
    {
    }
}

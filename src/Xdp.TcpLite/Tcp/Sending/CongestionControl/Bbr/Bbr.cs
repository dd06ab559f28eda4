namespace Xdp.TcpLite;

/// <summary>
/// BBRv3 (draft-ietf-ccwg-bbr-06; sections in this folder are its). It sends as fast as the path delivers, and keeps in
/// flight what that takes, instead of filling the queue until something is lost. So losses that are no congestion cost
/// little. It relies on pacing. Here is the state machine; what is measured is in the <see cref="BbrModel"/>, how the
/// bound of what may be in flight is searched in <see cref="BbrProbe"/>.
/// </summary>
/// <remarks>
/// A congestion mark (ECN) counts as the loss of a segment: the draft leaves it open. Of the draft's send quantum there
/// is only the part that the window needs; how large bursts are is the pacer's affair.
/// </remarks>
internal sealed class Bbr : ICongestionControl
{
    /// <summary>BBR.StartupPacingGain, 4 ln 2: twice as fast each round trip.</summary>
    internal const double StartupPacingGain = 2.77;

    /// <summary>BBR.PacingMarginPercent: a little slower than the path, so that queues drain.</summary>
    internal const double PacingMargin = 0.99;

    /// <summary>BBRStartupFullLossCnt: so many gaps in a round trip are no chance.</summary>
    private const int StartupFullLossCount = 6;

    /// <summary>Round trips in which the queue of Startup should have drained.</summary>
    private const int DrainRounds = 3;

    /// <summary>The least in flight, in segments: the peer acknowledges every second one (BBR.MinPipeCwnd).</summary>
    private const int MinPipe = 4;

    /// <summary>C.send_quantum's bound in bytes.</summary>
    private const int LargestQuantum = 64 << 10;

    /// <summary>Quanta on the way within both hosts (BBR.offload_budget).</summary>
    private const int QuantaInHosts = 3;

    /// <summary>BBR.ProbeRTTDuration.</summary>
    private static readonly TimeSpan s_probeRttDuration = TimeSpan.FromMilliseconds(200);

    private BbrModel _model = new();
    private BbrProbe _probe;
    private FullPipe _pipe;
    private BbrState _state;
    private int _mss = 536;
    private long _cwnd;
    private long _pacingRate;

    /// <summary>The path was full once (BBR.full_bw_reached).</summary>
    private bool _hasFilledPipe;

    /// <summary>Something is sent for the first time after a pause (BBR.idle_restart).</summary>
    private bool _restarts;
    private long _drainStart;
    private bool _hasSack = true;

    // Gaps of the present round trip, in Startup.
    private SeqNumber _gapEnd;
    private int _gaps;

    // ProbeRTT: when it may end, once little enough is in flight, and whether a round trip has passed since.
    private Instant? _probeRttEnd;
    private bool _probeRttRoundDone;

    // What an episode of losses began with.
    private bool _inEpisode;
    private bool _mayUndo;
    private long _priorCwnd;
    private BbrState? _undoState;
    private long _undoBandwidthShortterm;
    private long _undoInflightShortterm;
    private long _undoInflightLongterm;

    /// <param name="seed">Flows with different ones do not look for bandwidth at the same moments.</param>
    internal Bbr(uint seed) => _probe = new BbrProbe(seed);

    public long Cwnd => _cwnd;

    /// <summary>A threshold is what loss-based algorithms have.</summary>
    public long Ssthresh => LossBasedControl.Unlimited;

    public bool SetsWindowInRecovery => true;

    public bool HoldsBack => _state == BbrState.ProbeRtt;

    internal BbrState State => _state;

    internal ref readonly BbrModel Model => ref _model;

    internal bool HasFilledPipe => _hasFilledPipe;

    private long InitialWindow => LossBasedControl.InitialWindow(_mss);

    private long MinPipeCwnd => MinPipe * (long)_mss;

    private bool IsInProbeBw => _state is >= BbrState.Down and <= BbrState.Up;

    private bool IsProbing => _state is BbrState.Startup or BbrState.Refill or BbrState.Up;

    private double PacingGain => _state switch
    {
        BbrState.Startup => StartupPacingGain,
        BbrState.Drain => 0.5,
        BbrState.Down => 0.9,
        BbrState.Up => 1.25,
        _ => 1,
    };

    private double CwndGain => _state switch
    {
        BbrState.Up => 2.25,
        BbrState.ProbeRtt => 0.5,
        _ => 2,
    };

    public void Start(int mss)
    {
        _mss = mss;
        _cwnd = InitialWindow;
    }

    public void OnMssChanged(int mss)
    {
        _mss = mss;
        _cwnd = Math.Max(_cwnd, mss);
    }

    public long PacingRate(TimeSpan srtt) => _pacingRate > 0 ? _pacingRate : FirstPacingRate(srtt);

    public void SetCwnd(long cwnd) => _cwnd = Math.Clamp(cwnd, _mss, LossBasedControl.MaxCwnd);

    // ---- sending

    public void OnFirstSent(Instant now)
    {
        _restarts = true;
        _model.Aggregation.Restart(now);
        if (IsInProbeBw)
            SetPacingRate(gain: 1);
        else if (_state == BbrState.ProbeRtt)
            EndProbeRtt(now);
    }

    /// <summary>The window stays: pacing keeps it from leaving at once (section 5.4.1).</summary>
    public void OnIdle(TimeSpan idle, TimeSpan rto, Instant now) => _mayUndo = false;

    // ---- losses

    public void OnLost(in LossSample sample)
    {
        NoteLoss();
        if (sample.Seq != _gapEnd)
            _gaps++;
        _gapEnd = sample.Seq + sample.Bytes;
        if (!_probe.TryFindTooHigh(sample, _hasSack, out long inFlight))
            return;
        if (!sample.IsAppLimited)
            _model.InflightLongterm = Math.Max(inFlight, (long)(TargetInflight * BbrModel.Beta));
        if (_state != BbrState.Up)
            return;
        _undoState = BbrState.Up;
        EnterDown(sample.Now);
    }

    public void OnCongestion(Instant now) => NoteLoss();

    public void OnRto(Instant now)
    {
        NoteLoss();
        SaveCwnd();
        _cwnd = _mss;
    }

    public void OnRecoveryExit(Instant now)
    {
        RestoreCwnd();
        _inEpisode = false;
    }

    public void Undo()
    {
        if (!_mayUndo)
            return;
        _mayUndo = false;
        _inEpisode = false;
        RestoreCwnd();
        _model.ForgetLoss();
        _pipe.Restart();
        _model.BandwidthShortterm = Math.Max(_model.BandwidthShortterm, _undoBandwidthShortterm);
        _model.InflightShortterm = Math.Max(_model.InflightShortterm, _undoInflightShortterm);
        _model.InflightLongterm = Math.Max(_model.InflightLongterm, _undoInflightLongterm);
        BbrState? former = _undoState;
        _undoState = null;
        if (former == BbrState.Startup && _state != BbrState.Startup)
        {
            _hasFilledPipe = false;
            if (_state != BbrState.ProbeRtt)
                _state = BbrState.Startup;
        }
        else if (former == BbrState.Up && _state is not BbrState.Up and not BbrState.ProbeRtt)
        {
            EnterRefill();
        }
    }

    private void NoteLoss()
    {
        _model.OnLoss();
        if (_inEpisode)
            return;
        SaveCwnd();
        _inEpisode = true;
        _mayUndo = true;
        _undoState = null;
        _undoBandwidthShortterm = _model.BandwidthShortterm;
        _undoInflightShortterm = _model.InflightShortterm;
        _undoInflightLongterm = _model.InflightLongterm;
    }

    private void SaveCwnd() =>
        _priorCwnd = _inEpisode || _state == BbrState.ProbeRtt ? Math.Max(_priorCwnd, _cwnd) : _cwnd;

    private void RestoreCwnd() => _cwnd = Math.Max(_cwnd, _priorCwnd);

    // ---- an ACK

    public void OnAck(in AckSample sample)
    {
        Instant now = sample.Now;
        _hasSack = sample.HasSack;
        _model.OnAck(sample);
        _model.AdaptShortTerm(IsProbing, _cwnd);
        _model.Aggregation.OnAck(
            sample.AckedBytes, _model.Bandwidth, _cwnd, _model.Rounds.Started, isStartup: !_hasFilledPipe, now);
        if (_model.Rounds.Started)
        {
            _probe.CountRound();
            _pipe.OnRound(sample.Rate);
        }
        _hasFilledPipe |= _pipe.IsFull;
        CheckStartup(sample);
        if (_state == BbrState.Drain && (sample.InFlight <= Inflight(_model.Bandwidth, 1)
            || _model.Rounds.Count > _drainStart + DrainRounds))
        {
            EnterDown(now);
        }
        if (_hasFilledPipe)
            StepProbeBw(sample);
        _model.MinRtt.OnAck(sample.Rtt, sample.MinRtt, now);
        CheckProbeRtt(sample);
        _model.EndAck(sample.Rate);
        if (_pacingRate == 0)
            _pacingRate = FirstPacingRate(sample.Srtt);
        SetPacingRate(PacingGain);
        UpdateCwnd(sample.AckedBytes);
    }

    private void CheckStartup(in AckSample sample)
    {
        if (!_hasFilledPipe && _model.LossRoundStarted && sample.InFastRecovery && IsLossHigh(sample))
        {
            _undoState = BbrState.Startup;
            _hasFilledPipe = true;
            _model.InflightLongterm = Math.Max(Bdp(_model.Bandwidth, 1), _model.LatestInflight);
        }
        if (_model.LossRoundStarted)
            _gaps = 0;
        if (_state != BbrState.Startup || !_hasFilledPipe)
            return;
        _state = BbrState.Drain;
        _drainStart = _model.Rounds.Count;
    }

    /// <summary>Were there more losses in the round trip than chance brings?</summary>
    private bool IsLossHigh(in AckSample sample) =>
        _gaps >= (_hasSack ? StartupFullLossCount : 1) && IsTooHigh(sample.Rate);

    private bool IsTooHigh(in RateSample rate) => BbrProbe.IsTooHigh(rate.Lost, rate.InFlightAtSend, _hasSack);

    // ---- ProbeBW (section 5.3.3)

    private void StepProbeBw(in AckSample sample)
    {
        if (AdaptLongTerm(sample))
            return;
        switch (_state)
        {
            case BbrState.Down or BbrState.Cruise:
                if (_probe.IsDue(Math.Max(TargetInflight / _mss, MinPipe), sample.Now))
                    EnterRefill();
                else if (_state == BbrState.Down && IsDrained(sample.InFlight))
                    _state = BbrState.Cruise;
                break;
            case BbrState.Refill:
                if (_model.Rounds.Started)
                    EnterUp(sample.Rate);
                break;
            case BbrState.Up:
                if (IsTimeToGoDown(sample))
                    EnterDown(sample.Now);
                break;
        }
    }

    /// <summary>
    /// What the last search has shown. True when the next one begins at once, because the last was cautious and did no
    /// harm.
    /// </summary>
    private bool AdaptLongTerm(in AckSample sample)
    {
        bool isProbeOver = _model.Rounds.Started && _probe.OnRound();
        if (isProbeOver && IsInProbeBw)
        {
            if (!sample.Rate.IsAppLimited)
                _model.AdvanceMaxBandwidth();
            if (_probe is { WasCautious: true, WentTooHigh: false })
            {
                EnterRefill();
                return true;
            }
        }
        if (_model.InflightLongterm == BbrModel.Unlimited || IsTooHigh(sample.Rate))
            return false;
        _model.InflightLongterm = Math.Max(_model.InflightLongterm, sample.Rate.InFlightAtSend);
        if (_state == BbrState.Up && IsBound(sample))
            _model.InflightLongterm += _probe.Raise(sample.AckedBytes, _model.Rounds.Started, _cwnd, _mss);
        return false;
    }

    /// <summary>The bound of what may be in flight is used, so that it hides what the path carries.</summary>
    private bool IsBound(in AckSample sample) => sample.IsCwndFull && _cwnd >= _model.InflightLongterm;

    private bool IsTimeToGoDown(in AckSample sample)
    {
        bool isCautious = _probe.WentTooHigh && sample.InFlight >= _model.InflightLongterm;
        if (!isCautious && IsBound(sample))
        {
            _pipe.Restart(sample.Rate.BytesPerSecond);
            return false;
        }
        if (!isCautious && !_pipe.IsFull)
            return false;
        _probe.End(isCautious);
        return true;
    }

    /// <summary>The queue is empty, as far as can be told, and there is room for others.</summary>
    private bool IsDrained(long inFlight) =>
        inFlight <= _model.InflightWithHeadroom(_mss, MinPipeCwnd) && inFlight <= Inflight(_model.MaxBandwidth, 1);

    private void EnterDown(Instant now)
    {
        _model.ResetCongestionSignals();
        _probe.BeginCycle(now);
        _model.Rounds.Restart();
        _state = BbrState.Down;
    }

    private void EnterRefill()
    {
        _model.ResetShortTerm();
        _probe.BeginRefill();
        _model.Rounds.Restart();
        _state = BbrState.Refill;
    }

    private void EnterUp(in RateSample rate)
    {
        _probe.BeginUp(_cwnd, _mss);
        _model.Rounds.Restart();
        _pipe.Restart(rate.BytesPerSecond);
        _state = BbrState.Up;
    }

    // ---- ProbeRTT (section 5.3.4)

    private void CheckProbeRtt(in AckSample sample)
    {
        if (_state != BbrState.ProbeRtt && _model.MinRtt.IsProbeDue && !_restarts)
        {
            SaveCwnd();
            _state = BbrState.ProbeRtt;
            _probeRttEnd = null;
            _probe.Interrupt();
            _model.Rounds.Restart();
        }
        _restarts = false;
        if (_state != BbrState.ProbeRtt)
            return;
        if (_probeRttEnd is null && sample.InFlight <= ProbeRttCwnd)
        {
            _probeRttEnd = sample.Now + s_probeRttDuration;
            _probeRttRoundDone = false;
            _model.Rounds.Restart();
            return;
        }
        _probeRttRoundDone |= _model.Rounds.Started;
        if (_probeRttRoundDone)
            EndProbeRtt(sample.Now);
    }

    /// <summary>Ends ProbeRTT, if there was little in flight for long enough.</summary>
    private void EndProbeRtt(Instant now)
    {
        if (_probeRttEnd is not { } end || now <= end)
            return;
        _model.MinRtt.OnProbed(now);
        RestoreCwnd();
        _model.ResetShortTerm();
        _state = BbrState.Startup;
        if (!_hasFilledPipe)
            return;
        EnterDown(now);
        _state = BbrState.Cruise;
    }

    // ---- how much, and how fast (section 5.6)

    private long Bdp(long bandwidth, double gain) => _model.Bdp(bandwidth, gain) ?? InitialWindow;

    /// <summary>What is wanted in flight.</summary>
    private long TargetInflight => Math.Min(Bdp(_model.Bandwidth, 1), _cwnd);

    private long ProbeRttCwnd => Math.Max(Bdp(_model.Bandwidth, CwndGain), MinPipeCwnd);

    private long Inflight(long bandwidth, double gain) => WithQuanta(Bdp(bandwidth, gain));

    /// <summary>At least what it takes to send and acknowledge in quanta.</summary>
    private long WithQuanta(long inflight)
    {
        long quantum = Math.Max(Math.Min(_pacingRate / 1000, LargestQuantum), 2L * _mss);
        inflight = Math.Max(inflight, Math.Max(QuantaInHosts * quantum, MinPipeCwnd));
        return _state == BbrState.Up ? inflight + 2L * _mss : inflight;
    }

    private void UpdateCwnd(long acked)
    {
        long most = WithQuanta(Bdp(_model.Bandwidth, CwndGain) + _model.Aggregation.Extra);
        if (_hasFilledPipe)
            _cwnd = Math.Min(_cwnd + acked, most);
        else if (_cwnd < most || _model.Rounds.Delivered < InitialWindow)
            _cwnd += acked;
        if (_state == BbrState.ProbeRtt)
            _cwnd = Math.Min(_cwnd, ProbeRttCwnd);
        _cwnd = Math.Clamp(Math.Min(_cwnd, Cap), MinPipeCwnd, LossBasedControl.MaxCwnd);
    }

    /// <summary>What losses have shown to be too much.</summary>
    private long Cap
    {
        get
        {
            long longterm = _state switch
            {
                BbrState.Down or BbrState.Refill or BbrState.Up => _model.InflightLongterm,
                BbrState.Cruise or BbrState.ProbeRtt => _model.InflightWithHeadroom(_mss, MinPipeCwnd),
                _ => BbrModel.Unlimited,
            };
            return Math.Min(longterm, _model.InflightShortterm);
        }
    }

    /// <summary>Until the path was full once, the rate is not lowered: there was little to measure it by.</summary>
    private void SetPacingRate(double gain)
    {
        long rate = (long)(gain * PacingMargin * _model.Bandwidth);
        if (_hasFilledPipe || rate > _pacingRate)
            _pacingRate = rate;
    }

    private long FirstPacingRate(TimeSpan srtt) =>
        srtt <= TimeSpan.Zero ? 0 : (long)(StartupPacingGain * InitialWindow / srtt.TotalSeconds);
}

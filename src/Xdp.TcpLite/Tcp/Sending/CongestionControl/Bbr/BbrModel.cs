namespace Xdp.TcpLite;

/// <summary>
/// What BBR knows of the path (section 5.5). The long term: the largest bandwidth and the least round trip, and how
/// much in flight was too much when the flow looked for more. The short term: bounds that losses have brought down
/// since. All volumes are in bytes, all rates in bytes a second.
/// </summary>
internal struct BbrModel
{
    internal const long Unlimited = long.MaxValue;

    /// <summary>BBR.LossThresh: more than this share of a round trip lost is too much.</summary>
    internal const double LossThresh = 0.02;

    /// <summary>BBR.Beta: what one round trip with losses leaves at least, as with CUBIC.</summary>
    internal const double Beta = 0.7;

    /// <summary>BBR.Headroom: the share of what the path takes that is left to others.</summary>
    private const double Headroom = 0.15;

    private SlottedMax _maxBandwidth;
    private long _latestBandwidth;
    private long _latestInflight;

    /// <summary>When this much is delivered, a round trip since the first loss of a round is over.</summary>
    private long _lossRoundEnd;
    private bool _lossRoundRestarts;

    public BbrModel()
    {
    }

    internal BbrRounds Rounds;
    internal BbrMinRtt MinRtt;
    internal BbrAggregation Aggregation;

    /// <summary>BBR.inflight_longterm; Linux calls it inflight_hi.</summary>
    internal long InflightLongterm { get; set; } = Unlimited;

    /// <summary>BBR.bw_shortterm; bw_lo in Linux.</summary>
    internal long BandwidthShortterm { get; set; } = Unlimited;

    /// <summary>BBR.inflight_shortterm; inflight_lo in Linux.</summary>
    internal long InflightShortterm { get; set; } = Unlimited;

    /// <summary>BBR.max_bw: the largest of this cycle of probing and the one before.</summary>
    internal readonly long MaxBandwidth => _maxBandwidth.Value;

    /// <summary>BBR.bw: what the path delivers now, as far as can be told.</summary>
    internal long Bandwidth { get; private set; }

    /// <summary>BBR.inflight_latest: most that was delivered between a segment's sending and its delivery.</summary>
    internal readonly long LatestInflight => _latestInflight;

    /// <summary>Something was lost in the present round trip (BBR.is_loss_in_round).</summary>
    internal bool IsLossInRound { get; private set; }

    /// <summary>With the present ACK a round trip is over that is counted from losses (BBR.loss_round_start).</summary>
    internal bool LossRoundStarted { get; private set; }

    /// <summary>A round trip long enough and a fast enough path, in bytes; null when no round trip is known.</summary>
    internal readonly long? Bdp(long bandwidth, double gain) => MinRtt.Value == TimeSpan.Zero
        ? null
        : (long)(gain * bandwidth * MinRtt.Value.TotalSeconds);

    /// <summary>What may be in flight so that some room is left to other flows.</summary>
    internal readonly long InflightWithHeadroom(int mss, long least) => InflightLongterm == Unlimited
        ? Unlimited
        : Math.Max(InflightLongterm - (long)Math.Max(mss, Headroom * InflightLongterm), least);

    // ---- a loss

    internal void OnLoss()
    {
        // The round trip is counted from what this ACK has delivered, which is known only with the call for the ACK.
        _lossRoundRestarts |= !IsLossInRound;
        IsLossInRound = true;
    }

    // ---- an ACK, in this order

    /// <summary>Counts what is delivered, and how fast.</summary>
    internal void OnAck(in AckSample sample)
    {
        RateSample rate = sample.Rate;
        Rounds.OnDelivered(sample.AckedBytes, rate.Delivered);
        if (_lossRoundRestarts)
            _lossRoundEnd = Rounds.Delivered;
        _lossRoundRestarts = false;
        _latestBandwidth = Math.Max(_latestBandwidth, rate.BytesPerSecond);
        _latestInflight = Math.Max(_latestInflight, rate.Delivered);
        LossRoundStarted = Rounds.Delivered - rate.Delivered >= _lossRoundEnd;
        if (LossRoundStarted)
            _lossRoundEnd = Rounds.Delivered;
        if (rate.BytesPerSecond > 0 && (rate.BytesPerSecond >= MaxBandwidth || !rate.IsAppLimited))
            _maxBandwidth.Add(rate.BytesPerSecond);
    }

    /// <summary>
    /// Once in a round trip with losses the short term comes down to what was delivered, unless the flow is looking for
    /// more at the moment.
    /// </summary>
    internal void AdaptShortTerm(bool isProbing, long cwnd)
    {
        if (!LossRoundStarted)
            return;
        if (IsLossInRound && !isProbing)
        {
            long bandwidth = BandwidthShortterm == Unlimited ? MaxBandwidth : BandwidthShortterm;
            long inflight = InflightShortterm == Unlimited ? cwnd : InflightShortterm;
            BandwidthShortterm = Math.Max(_latestBandwidth, (long)(Beta * bandwidth));
            InflightShortterm = Math.Max(_latestInflight, (long)(Beta * inflight));
        }
        IsLossInRound = false;
    }

    /// <summary>The last step: what of the present ACK the next round trip begins with, and the bandwidth.</summary>
    internal void EndAck(in RateSample rate)
    {
        if (LossRoundStarted)
            (_latestBandwidth, _latestInflight) = (rate.BytesPerSecond, rate.Delivered);
        Bandwidth = Math.Min(MaxBandwidth, BandwidthShortterm);
    }

    // ---- the state machine's doing

    /// <summary>A cycle of probing is over: the bandwidth of the cycle before the last is forgotten.</summary>
    internal void AdvanceMaxBandwidth() => _maxBandwidth.Advance();

    internal void ResetShortTerm() => BandwidthShortterm = InflightShortterm = Unlimited;

    internal void ResetCongestionSignals()
    {
        IsLossInRound = false;
        _latestBandwidth = 0;
        _latestInflight = 0;
    }

    /// <summary>The losses were none.</summary>
    internal void ForgetLoss() => IsLossInRound = _lossRoundRestarts = false;
}

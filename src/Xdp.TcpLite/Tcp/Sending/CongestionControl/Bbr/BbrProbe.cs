namespace Xdp.TcpLite;

/// <summary>
/// The search for more bandwidth (section 5.3.3): when it is time for one, what became of the last, and by how much the
/// bound of what may be in flight is raised meanwhile.
/// </summary>
internal struct BbrProbe
{
    /// <summary>
    /// Round trips until the next search, at the most. Where round trips are short, a Reno flow of the same window
    /// would lose something about as often.
    /// </summary>
    private const int MostRounds = 63;

    private const int MostGrowthRounds = 30;
    private static readonly TimeSpan s_leastWait = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan s_randomWait = TimeSpan.FromSeconds(1);

    private uint _random;
    private int _rounds;
    private Instant _cycleStart;
    private TimeSpan _wait;

    private int _growthRounds;
    private long _acked;
    private long _ackedPerSegment;

    /// <param name="seed">Of the random numbers.</param>
    internal BbrProbe(uint seed) => _random = seed | 1;

    internal BbrFeedback Feedback { get; private set; }

    /// <summary>
    /// What is delivered or lost may be of a search that has found nothing to be too much yet (BBR.is_bw_probe_sample).
    /// </summary>
    internal bool IsSampling { get; private set; }

    /// <summary>The last search put too much in flight (BBR.prev_probe_too_high).</summary>
    internal bool WentTooHigh { get; private set; }

    /// <summary>It stopped at what was too much for the search before (BBR.prev_probe_precautionary).</summary>
    internal bool WasCautious { get; private set; }

    // ---- the cycle

    /// <summary>A cycle begins, with less in flight. When the next search comes is partly chance.</summary>
    internal void BeginCycle(Instant now)
    {
        Feedback = BbrFeedback.Stopping;
        _cycleStart = now;
        _rounds = (int)(NextRandom() & 1);
        _wait = s_leastWait + NextRandom() / (double)uint.MaxValue * s_randomWait;
    }

    internal void BeginRefill()
    {
        Feedback = BbrFeedback.Refilling;
        WasCautious = false;
        _growthRounds = 0;
        _acked = 0;
    }

    internal void BeginUp(long cwnd, int mss)
    {
        Feedback = BbrFeedback.Starting;
        IsSampling = true;
        RaiseSlope(cwnd, mss);
    }

    /// <summary>ProbeRTT interrupts the cycle.</summary>
    internal void Interrupt() => Feedback = BbrFeedback.Stopping;

    /// <summary>A search that found nothing wrong ends.</summary>
    /// <param name="isCautious">It stops early, at what was too much before.</param>
    internal void End(bool isCautious)
    {
        WasCautious |= isCautious;
        WentTooHigh = false;
    }

    /// <summary>A round trip begins.</summary>
    internal void CountRound() => _rounds++;

    /// <summary>
    /// A round trip has begun with the present ACK. True when all is known that is to be learnt from the last search.
    /// </summary>
    internal bool OnRound()
    {
        if (Feedback == BbrFeedback.Starting)
            Feedback = BbrFeedback.Probing;
        if (Feedback != BbrFeedback.Stopping)
            return false;
        Feedback = BbrFeedback.None;
        IsSampling = false;
        return true;
    }

    /// <summary>Is it time for the next search?</summary>
    /// <param name="segments">What is wanted in flight: Reno would grow by one segment in as many round trips.</param>
    /// <param name="now">The present.</param>
    internal readonly bool IsDue(long segments, Instant now) =>
        now > _cycleStart + _wait || _rounds >= Math.Min(segments, MostRounds);

    // ---- what is too much

    /// <summary>
    /// Is more lost than a search may cost? <paramref name="inFlight"/> is how much was in flight when it became so.
    /// One search finds that once.
    /// </summary>
    /// <param name="sample">The segment that is lost.</param>
    /// <param name="hasSack">Without SACK one loss is all that is seen of many.</param>
    /// <param name="inFlight">What was too much.</param>
    internal bool TryFindTooHigh(in LossSample sample, bool hasSack, out long inFlight)
    {
        inFlight = 0;
        if (!IsSampling || !IsTooHigh(sample.Lost, sample.InFlightAtSend, hasSack))
            return false;
        IsSampling = false;
        WentTooHigh = true;
        long before = sample.InFlightAtSend - sample.Bytes;
        long lostBefore = sample.Lost - sample.Bytes;
        double prefix = (BbrModel.LossThresh * before - lostBefore) / (1 - BbrModel.LossThresh);
        inFlight = (long)(before + prefix);
        return true;
    }

    /// <summary>Is the share of what was lost more than a search may cost?</summary>
    internal static bool IsTooHigh(long lost, long inFlight, bool hasSack) =>
        hasSack ? lost > BbrModel.LossThresh * inFlight : lost > 0;

    // ---- how much more

    /// <summary>
    /// In a search all of the bound is in flight: how much higher may it be? In each round trip by twice as many
    /// segments as in the one before.
    /// </summary>
    internal long Raise(long acked, bool roundStarted, long cwnd, int mss)
    {
        _acked += acked;
        long segments = _acked / _ackedPerSegment;
        _acked -= segments * _ackedPerSegment;
        if (roundStarted)
            RaiseSlope(cwnd, mss);
        return segments * mss;
    }

    private void RaiseSlope(long cwnd, int mss)
    {
        _ackedPerSegment = Math.Max(cwnd >> _growthRounds, mss);
        _growthRounds = Math.Min(_growthRounds + 1, MostGrowthRounds);
    }

    /// <summary>Xorshift (Marsaglia): all that is needed is that flows differ.</summary>
    private uint NextRandom()
    {
        _random ^= _random << 13;
        _random ^= _random >> 17;
        _random ^= _random << 5;
        return _random;
    }
}

namespace Xdp.TcpLite;

/// <summary>
/// HyStart++ (RFC 9406): slow start ends when the round trip grows, and not only when the bottleneck's buffer
/// overflows. At first it goes on more slowly (conservative slow start), in case that the growth was chance.
/// </summary>
/// <remarks>
/// A round is what was in flight when it began. Growth is not bounded for each ACK (L of section 4.3 is infinite): a
/// host takes in several ACKs before it sends.
/// </remarks>
internal sealed class HyStart
{
    // Of section 4.3, there with the reasons.
    private const int RttSamples = 8; // N_RTT_SAMPLE
    private const int GrowthDivisor = 4; // CSS_GROWTH_DIVISOR
    private const int ConservativeRounds = 5; // CSS_ROUNDS
    private const int RttDivisor = 8; // MIN_RTT_DIVISOR
    private static readonly TimeSpan s_minRttThresh = TimeSpan.FromMilliseconds(4);
    private static readonly TimeSpan s_maxRttThresh = TimeSpan.FromMilliseconds(16);

    private long _roundLeft;
    private TimeSpan _lastRoundMinRtt = TimeSpan.MaxValue;
    private TimeSpan _roundMinRtt = TimeSpan.MaxValue;
    private int _samples;

    /// <summary>The least of the last samples, and how many they are, of a sender that is paced.</summary>
    private TimeSpan _recentMinRtt = TimeSpan.MaxValue;
    private int _recent;

    /// <summary>The least round trip of the round in which growth was noticed; null in plain slow start.</summary>
    private TimeSpan? _baseline;
    private int _conservativeRounds;

    /// <summary>An ACK in slow start. Returns how much of <paramref name="growth"/> the window gets.</summary>
    /// <param name="sample">The ACK.</param>
    /// <param name="growth">What slow start would add.</param>
    /// <param name="isOver">Slow start is over.</param>
    internal long OnAck(in AckSample sample, long growth, out bool isOver)
    {
        isOver = false;
        if (sample.Rtt > TimeSpan.Zero)
        {
            _samples++;
            _roundMinRtt = sample.Rtt < _roundMinRtt ? sample.Rtt : _roundMinRtt;
            if (_recent == RttSamples)
                (_recent, _recentMinRtt) = (0, TimeSpan.MaxValue);
            _recent++;
            _recentMinRtt = sample.Rtt < _recentMinRtt ? sample.Rtt : _recentMinRtt;
        }
        Judge(sample.IsPaced ? _recent : _samples, sample.IsPaced ? _recentMinRtt : _roundMinRtt);
        _roundLeft -= sample.AckedBytes;
        if (_roundLeft <= 0)
            isOver = EndRound(sample.InFlight);
        return _baseline is null ? growth : growth / GrowthDivisor;
    }

    /// <remarks>
    /// A burst meets the longest queue of its round at its end, so the round's least round trip tells. What is paced
    /// meets it at the end of the round, when the queue has grown for all of it: the last samples tell sooner.
    /// </remarks>
    private void Judge(int samples, TimeSpan minRtt)
    {
        if (samples < RttSamples)
            return;
        if (_baseline is { } baseline)
            _baseline = minRtt < baseline ? null : baseline;
        else if (HasGrown(minRtt))
            (_baseline, _conservativeRounds) = (minRtt, 0);
    }

    private bool HasGrown(TimeSpan minRtt)
    {
        if (_lastRoundMinRtt == TimeSpan.MaxValue)
            return false;
        TimeSpan thresh = _lastRoundMinRtt / RttDivisor;
        thresh = thresh < s_minRttThresh ? s_minRttThresh : thresh > s_maxRttThresh ? s_maxRttThresh : thresh;
        return minRtt >= _lastRoundMinRtt + thresh;
    }

    private bool EndRound(long inFlight)
    {
        _roundLeft = inFlight;
        (_lastRoundMinRtt, _roundMinRtt, _samples) = (_roundMinRtt, TimeSpan.MaxValue, 0);
        (_recentMinRtt, _recent) = (TimeSpan.MaxValue, 0);
        return _baseline is not null && ++_conservativeRounds >= ConservativeRounds;
    }
}

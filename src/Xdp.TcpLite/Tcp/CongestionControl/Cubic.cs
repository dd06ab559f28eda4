namespace Xdp.TcpLite;

/// <summary>
/// CUBIC (RFC 9438): after a loss the window returns to where it was along a cubic function of time, and probes beyond. Where Reno would be faster (short
/// round trips) it grows as Reno would.
/// </summary>
internal sealed class Cubic : LossBasedControl
{
    /// <summary>β: what a loss leaves of the window.</summary>
    internal const double Beta = 0.7;

    /// <summary>C: segments per second cubed. More is more aggressive towards Reno flows on long paths.</summary>
    internal const double C = 0.4;

    /// <summary>Reno's additive increase at this β, for the same mean window (RFC 9438, section 4.3).</summary>
    private const double RenoAlpha = 3 * (1 - Beta) / (1 + Beta);

    private Epoch _epoch;
    private Epoch _savedEpoch;

    /// <summary>The last ACK, limited or not.</summary>
    private Instant _lastAck;

    /// <summary>What growth is less than a byte.</summary>
    private double _fraction;

    private protected override void Avoid(long ackedBytes, TimeSpan srtt, Instant now)
    {
        if (!_epoch.IsRunning)
            StartEpoch(now);

        double cwnd = Cwnd + _fraction;
        double elapsed = (now - _epoch.Start).TotalSeconds;

        // Past its former window Reno grows by a whole segment again.
        double alpha = _epoch.RenoWindow < _epoch.PriorCwnd ? RenoAlpha : 1;
        _epoch.RenoWindow += alpha * Mss * ackedBytes / cwnd;

        if (WindowAt(elapsed) < _epoch.RenoWindow)
        {
            cwnd = Math.Max(cwnd, _epoch.RenoWindow);
        }
        else
        {
            double target = Math.Clamp(WindowAt(elapsed + srtt.TotalSeconds), cwnd, 1.5 * cwnd);
            cwnd += (target - cwnd) * Math.Min(ackedBytes / cwnd, 1);
        }
        Cwnd = (long)cwnd;
        _fraction = cwnd - Cwnd;
    }

    private protected override long Reduce(long flightSize, bool isTimeout)
    {
        if (isTimeout)
            _epoch.WMax = 0; // the next epoch starts at its own window, with K = 0 (section 4.8)
        else if (Cwnd < _epoch.WMax)
            _epoch.WMax = Cwnd * (1 + Beta) / 2; // fast convergence: make room for the flow that has come
        else
            _epoch.WMax = Cwnd;
        _epoch.PriorCwnd = Cwnd;
        _epoch.IsRunning = false;
        _fraction = 0;
        return (long)(flightSize * Beta);
    }

    private protected override void SaveState() => _savedEpoch = _epoch;

    private protected override void RestoreState() => _epoch = _savedEpoch;

    /// <summary>Time in which the window was not used does not count: it would let it leap afterwards (section 5.8).</summary>
    private protected override void ObserveAck(Instant now, bool cwndLimited)
    {
        if (!cwndLimited && _epoch.IsRunning)
            _epoch.Start += now - Instant.Max(_lastAck, _epoch.Start);
        _lastAck = now;
    }

    private protected override void ObserveIdle(TimeSpan idle, Instant now)
    {
        if (_epoch.IsRunning)
            _epoch.Start = Instant.Min(_epoch.Start + idle, now);
        _lastAck = now;
    }

    private void StartEpoch(Instant now)
    {
        _epoch.IsRunning = true;
        _epoch.Start = now;
        _epoch.RenoWindow = Cwnd;
        if (Cwnd < _epoch.WMax)
        {
            _epoch.K = Math.Cbrt((_epoch.WMax - Cwnd) / Mss / C);
        }
        else
        {
            _epoch.K = 0;
            _epoch.WMax = Cwnd;
        }
    }

    /// <summary>W_cubic(t), in bytes.</summary>
    private double WindowAt(double seconds)
    {
        double t = seconds - _epoch.K;
        return C * t * t * t * Mss + _epoch.WMax;
    }

    private struct Epoch
    {
        public bool IsRunning;

        /// <summary>When congestion avoidance began, put off by the time it was not used.</summary>
        public Instant Start;

        /// <summary>W_max, in bytes.</summary>
        public double WMax;

        /// <summary>Seconds from the start until the function is back at W_max.</summary>
        public double K;

        /// <summary>W_est, in bytes: where Reno would be.</summary>
        public double RenoWindow;

        /// <summary>The window before the last reduction, in bytes.</summary>
        public long PriorCwnd;
    }
}

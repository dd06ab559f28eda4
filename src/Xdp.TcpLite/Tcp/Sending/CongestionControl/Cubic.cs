namespace Xdp.TcpLite;

/// <summary>
/// CUBIC (RFC 9438). After a loss the window returns to where it was along a cubic function of time, and then probes
/// beyond. Where Reno would be faster, on short round trips, it grows as Reno would.
/// </summary>
internal sealed class Cubic : LossBasedControl
{
    /// <summary>β: what a loss leaves of the window.</summary>
    internal const double Beta = 0.7;

    /// <summary>C: segments per second cubed. More is more aggressive towards Reno flows on long paths.</summary>
    internal const double C = 0.4;

    /// <summary>Reno's additive increase at this β, for the same mean window (RFC 9438, section 4.3).</summary>
    private const double RenoAlpha = 3 * (1 - Beta) / (1 + Beta);

    /// <summary>Made when slow start is over, which on most connections it never is.</summary>
    private Avoidance? _avoidance;

    private protected override void Avoid(long ackedBytes, TimeSpan srtt, Instant now)
    {
        _avoidance ??= new Avoidance { LastAck = now };
        ref Epoch epoch = ref _avoidance.Epoch;
        if (!epoch.IsRunning)
            epoch.Begin(Cwnd, Mss, now);

        double cwnd = Cwnd + _avoidance.Fraction;
        double elapsed = (now - epoch.Start).TotalSeconds;

        // Past its former window Reno grows by a whole segment again.
        double alpha = epoch.RenoWindow < epoch.PriorCwnd ? RenoAlpha : 1;
        epoch.RenoWindow += alpha * Mss * ackedBytes / cwnd;

        if (epoch.WindowAt(elapsed, Mss) < epoch.RenoWindow)
        {
            cwnd = Math.Max(cwnd, epoch.RenoWindow);
        }
        else
        {
            double target = Math.Clamp(epoch.WindowAt(elapsed + srtt.TotalSeconds, Mss), cwnd, 1.5 * cwnd);
            cwnd += (target - cwnd) * Math.Min(ackedBytes / cwnd, 1);
        }
        Cwnd = (long)cwnd;
        _avoidance.Fraction = Math.Min(cwnd - Cwnd, 1);
    }

    private protected override long Reduce(bool isTimeout)
    {
        _avoidance ??= new Avoidance();
        ref Epoch epoch = ref _avoidance.Epoch;
        if (isTimeout)
            epoch.WMax = 0; // the next epoch starts at its own window, with K = 0 (section 4.8)
        else if (Cwnd < epoch.WMax)
            epoch.WMax = Cwnd * (1 + Beta) / 2; // fast convergence: make room for the flow that has come
        else
            epoch.WMax = Cwnd;
        epoch.PriorCwnd = Cwnd;
        epoch.IsRunning = false;
        _avoidance.Fraction = 0;
        return (long)(Cwnd * Beta);
    }

    private protected override void SaveState()
    {
        _avoidance ??= new Avoidance();
        _avoidance.SavedEpoch = _avoidance.Epoch;
    }

    private protected override void RestoreState() => _avoidance!.Epoch = _avoidance.SavedEpoch;

    /// <summary>
    /// Time in which the window is not used does not count: the window would leap afterwards (section 5.8).
    /// </summary>
    private protected override void ObserveAck(Instant now, bool cwndLimited)
    {
        if (_avoidance is not { } avoidance)
            return;
        if (!cwndLimited && avoidance.Epoch.IsRunning)
            avoidance.Epoch.Start += now - Instant.Max(avoidance.LastAck, avoidance.Epoch.Start);
        avoidance.LastAck = now;
    }

    private protected override void ObserveIdle(TimeSpan idle, Instant now)
    {
        if (_avoidance is not { } avoidance)
            return;
        if (avoidance.Epoch.IsRunning)
            avoidance.Epoch.Start = Instant.Min(avoidance.Epoch.Start + idle, now);
        avoidance.LastAck = now;
    }

    /// <summary>What congestion avoidance remembers.</summary>
    private sealed class Avoidance
    {
        internal Epoch Epoch;
        internal Epoch SavedEpoch;

        /// <summary>The last ACK, limited or not.</summary>
        internal Instant LastAck;

        /// <summary>What growth is less than a byte.</summary>
        internal double Fraction;
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

        internal void Begin(long cwnd, int mss, Instant now)
        {
            IsRunning = true;
            Start = now;
            RenoWindow = cwnd;
            if (cwnd < WMax)
            {
                K = Math.Cbrt((WMax - cwnd) / mss / C);
            }
            else
            {
                K = 0;
                WMax = cwnd;
            }
        }

        /// <summary>W_cubic(t), in bytes.</summary>
        internal readonly double WindowAt(double seconds, int mss)
        {
            double t = seconds - K;
            return C * t * t * t * mss + WMax;
        }
    }
}

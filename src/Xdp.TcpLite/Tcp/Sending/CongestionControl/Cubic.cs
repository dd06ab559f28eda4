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

    /// <summary>
    /// What the present phase needs to remember: a <see cref="HyStart"/> in the first slow start, in which nothing is
    /// known of the path, and an <see cref="Avoidance"/> afterwards. Made when the window grows first, which on most
    /// connections it never does.
    /// </summary>
    private object? _phase;

    private protected override long SlowStart(in AckSample sample, long growth)
    {
        if (Ssthresh < Unlimited)
            return growth;
        if (_phase is not HyStart hyStart)
            _phase = hyStart = new HyStart();
        growth = hyStart.OnAck(sample, growth, out bool isOver);
        if (isOver)
            Ssthresh = Cwnd + growth;
        return growth;
    }

    private protected override void Avoid(long ackedBytes, TimeSpan srtt, Instant now)
    {
        Avoidance avoidance = Avoiding(now);
        ref Epoch epoch = ref avoidance.Epoch;
        if (!epoch.IsRunning)
            epoch.Begin(Cwnd, Mss, now);

        double cwnd = Cwnd + avoidance.Fraction;
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
        avoidance.Fraction = Math.Min(cwnd - Cwnd, 1);
    }

    private Avoidance Avoiding(Instant now = default)
    {
        if (_phase is Avoidance avoidance)
            return avoidance;
        avoidance = new Avoidance { LastAck = now };
        _phase = avoidance;
        return avoidance;
    }

    private protected override long Reduce(bool isTimeout)
    {
        Avoidance avoidance = Avoiding();
        ref Epoch epoch = ref avoidance.Epoch;
        if (isTimeout)
            epoch.WMax = 0; // the next epoch starts at its own window, with K = 0 (section 4.8)
        else if (Cwnd < epoch.WMax)
            epoch.WMax = Cwnd * (1 + Beta) / 2; // fast convergence: make room for the flow that has come
        else
            epoch.WMax = Cwnd;
        epoch.PriorCwnd = Cwnd;
        epoch.IsRunning = false;
        avoidance.Fraction = 0;
        return (long)(Cwnd * Beta);
    }

    private protected override void SaveState()
    {
        Avoidance avoidance = Avoiding();
        avoidance.SavedEpoch = avoidance.Epoch;
    }

    private protected override void RestoreState() => Avoiding().Epoch = Avoiding().SavedEpoch;

    /// <summary>
    /// Time in which the window is not used does not count: the window would leap afterwards (section 5.8).
    /// </summary>
    private protected override void ObserveAck(Instant now, bool cwndLimited)
    {
        if (_phase is not Avoidance avoidance)
            return;
        if (!cwndLimited && avoidance.Epoch.IsRunning)
            avoidance.Epoch.Start += now - Instant.Max(avoidance.LastAck, avoidance.Epoch.Start);
        avoidance.LastAck = now;
    }

    private protected override void ObserveIdle(TimeSpan idle, Instant now)
    {
        if (_phase is not Avoidance avoidance)
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

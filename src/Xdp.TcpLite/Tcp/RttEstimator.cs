namespace Xdp.TcpLite;

/// <summary>Round-trip time and what follows from it (RFC 6298). Samples of retransmitted segments are the caller's to leave out, or to take by timestamp (Karn).</summary>
internal struct RttEstimator
{
    /// <summary>How long a minimum counts, as Linux's <c>tcp_min_rtt_wlen</c> has it: longer, and a changed path is never seen; shorter, and a standing queue counts as the path.</summary>
    private static readonly TimeSpan MinRttWindow = TimeSpan.FromMinutes(5);

    /// <summary>Clock granularity G: a round trip of zero would switch the variance off.</summary>
    private static readonly TimeSpan Granularity = TimeSpan.FromMicroseconds(1);

    private const int MaxBackoff = 20;

    /// <summary>RTO of the first data when the handshake had to be repeated and gave no sample (RFC 6298, section 5.7).</summary>
    private static readonly TimeSpan FallbackRto = TimeSpan.FromSeconds(3);

    private WindowedMin _min;
    private bool _fallenBack;

    public TimeSpan Srtt { get; private set; }
    public TimeSpan RttVar { get; private set; }
    public TimeSpan LastRtt { get; private set; }

    /// <summary>The least sample of the last five minutes.</summary>
    public readonly TimeSpan MinRtt => _min.Value;

    public readonly bool HasSample => Srtt > TimeSpan.Zero;

    public void Sample(TimeSpan rtt, Instant now)
    {
        if (rtt < Granularity)
            rtt = Granularity;
        if (!HasSample)
        {
            Srtt = rtt;
            RttVar = rtt / 2;
            _min.Reset(rtt, now);
        }
        else
        {
            TimeSpan error = rtt - Srtt;
            RttVar = new TimeSpan((3 * RttVar.Ticks + Math.Abs(error.Ticks)) / 4);
            Srtt = new TimeSpan((7 * Srtt.Ticks + rtt.Ticks) / 8);
            _min.Add(rtt, now, MinRttWindow);
        }
        LastRtt = rtt;
    }

    /// <summary>The handshake has ended without a sample.</summary>
    public void FallBack() => _fallenBack = true;

    /// <summary>
    /// RTO = SRTT + max(4 × RTTVAR, minimum), doubled <paramref name="backoff"/> times, up to the maximum. The minimum bounds the variance, as in Linux,
    /// and not the sum: the timer always leaves a delayed ACK its time on top of the round trip.
    /// </summary>
    public readonly TimeSpan Rto(TcpStackOptions options, int backoff)
    {
        long rto = HasSample ? Srtt.Ticks + Math.Max(4 * RttVar.Ticks, options.MinRto.Ticks)
            : _fallenBack ? Math.Max(FallbackRto.Ticks, options.InitialRto.Ticks) : options.InitialRto.Ticks;
        long max = options.MaxRto.Ticks;
        return new TimeSpan(Math.Min(Math.Min(rto, max) << Math.Min(backoff, MaxBackoff), max));
    }

    /// <summary>The least of a window's samples, from the best three of its parts (Nichols; Linux's <c>lib/win_minmax.c</c>).</summary>
    private struct WindowedMin
    {
        private (TimeSpan Value, Instant At) _best, _second, _third;

        public readonly TimeSpan Value => _best.Value;

        public void Reset(TimeSpan value, Instant now) => _best = _second = _third = (value, now);

        public void Add(TimeSpan value, Instant now, TimeSpan window)
        {
            if (value <= _best.Value || now - _third.At > window)
            {
                Reset(value, now);
                return;
            }
            if (value <= _second.Value)
                _second = _third = (value, now);
            else if (value <= _third.Value)
                _third = (value, now);
            Age(value, now, window);
        }

        private void Age(TimeSpan value, Instant now, TimeSpan window)
        {
            TimeSpan age = now - _best.At;
            if (age > window)
            {
                (_best, _second, _third) = (_second, _third, (value, now));
                if (now - _best.At > window)
                    (_best, _second, _third) = (_second, _third, (value, now));
            }
            else if (_second.At == _best.At && age > window / 4)
            {
                _second = _third = (value, now);
            }
            else if (_third.At == _second.At && age > window / 2)
            {
                _third = (value, now);
            }
        }
    }
}

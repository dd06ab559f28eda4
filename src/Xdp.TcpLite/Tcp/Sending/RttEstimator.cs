namespace Xdp.TcpLite;

/// <summary>
/// Round-trip time and the RTO (RFC 6298). The caller leaves out samples of retransmitted segments, or takes them by
/// timestamp (Karn). Each connection has one, so spans are 32 bits of ticks, up to <see cref="MaxSample"/>.
/// </summary>
internal struct RttEstimator
{
    /// <summary>
    /// How long a minimum counts, in milliseconds: Linux's <c>tcp_min_rtt_wlen</c>. If it were longer, a changed path
    /// would never be seen; if shorter, a standing queue would count as the path.
    /// </summary>
    private const uint MinRttWindow = 5 * 60 * 1000;

    /// <summary>Clock granularity G: a round trip of zero would switch the variance off.</summary>
    private static readonly TimeSpan Granularity = TimeSpan.FromMicroseconds(1);

    /// <summary>More than any RTO; longer samples count as this.</summary>
    private static readonly TimeSpan MaxSample = TimeSpan.FromMinutes(7);

    private const int MaxBackoff = 20;

    /// <summary>
    /// RTO of the first data after a handshake that was repeated and gave no sample (RFC 6298, section 5.7).
    /// </summary>
    private static readonly TimeSpan FallbackRto = TimeSpan.FromSeconds(3);

    /// <summary>
    /// In the place of a variance, before the first sample: the handshake has ended without one. Each connection has an
    /// estimator, so there is no field for that.
    /// </summary>
    private const uint FallenBack = uint.MaxValue;

    private uint _srtt;
    private uint _rttVar;
    private WindowedMin _min;

    public readonly TimeSpan Srtt => new(_srtt);
    public readonly TimeSpan RttVar => new(HasSample ? _rttVar : 0);

    /// <summary>The least sample of the last five minutes.</summary>
    public readonly TimeSpan MinRtt => new(_min.Value);

    public readonly bool HasSample => _srtt > 0;

    /// <summary>SRTT, or <paramref name="unknown"/> before the first sample.</summary>
    internal readonly TimeSpan SrttOr(TimeSpan unknown) => HasSample ? Srtt : unknown;

    /// <summary>A round trip was measured.</summary>
    /// <param name="rtt">How long it was.</param>
    /// <param name="now">The present.</param>
    /// <param name="perRoundTrip">
    /// Samples that are expected in one round trip. Each has so much less weight in RTTVAR (RFC 7323, appendix G).
    /// Otherwise a few ACKs would make it forget what happened a round trip ago.
    /// </param>
    public void Sample(TimeSpan rtt, Instant now, int perRoundTrip = 1)
    {
        uint sample = (uint)Math.Clamp(rtt.Ticks, Granularity.Ticks, MaxSample.Ticks);
        uint at = (uint)(now.Ticks / TimeSpan.TicksPerMillisecond);
        if (!HasSample)
        {
            _srtt = sample;
            _rttVar = sample / 2;
            _min.Reset(sample, at);
        }
        else
        {
            long error = (long)sample - _srtt;
            long weight = 4L * perRoundTrip;
            _rttVar = (uint)(((weight - 1) * _rttVar + Math.Abs(error)) / weight);
            _srtt = (uint)((7L * _srtt + sample) / 8);
            _min.Add(sample, at);
        }
    }

    /// <summary>The handshake has ended without a sample.</summary>
    public void FallBack()
    {
        if (!HasSample)
            _rttVar = FallenBack;
    }

    /// <summary>
    /// RTO = SRTT + max(4 × RTTVAR, minimum), doubled <paramref name="backoff"/> times, up to the maximum. As in Linux,
    /// the minimum is for the variance and not for the sum. So the timer always leaves time for a delayed ACK on top of
    /// the round trip.
    /// </summary>
    public readonly TimeSpan Rto(TcpStackOptions options, int backoff)
    {
        long rto = HasSample ? _srtt + Math.Max(4L * _rttVar, options.MinRto.Ticks)
            : _rttVar == FallenBack ? Math.Max(FallbackRto.Ticks, options.InitialRto.Ticks) : options.InitialRto.Ticks;
        long max = options.MaxRto.Ticks;
        return new TimeSpan(Math.Min(Math.Min(rto, max) << Math.Min(backoff, MaxBackoff), max));
    }

    /// <summary>
    /// The least of a window's samples, kept as the best of three parts of it (Nichols; Linux's
    /// <c>lib/win_minmax.c</c>). Times are milliseconds of a clock that wraps after 49 days. After so long a silence an
    /// old minimum may count once more.
    /// </summary>
    private struct WindowedMin
    {
        private Sample _best, _second, _third;

        private readonly record struct Sample(uint Value, uint At);

        public readonly uint Value => _best.Value;

        public void Reset(uint value, uint now) => _best = _second = _third = new Sample(value, now);

        public void Add(uint value, uint now)
        {
            var sample = new Sample(value, now);
            if (value <= _best.Value || now - _third.At > MinRttWindow)
            {
                Reset(value, now);
                return;
            }
            if (value <= _second.Value)
                _second = _third = sample;
            else if (value <= _third.Value)
                _third = sample;
            Age(sample, now);
        }

        private void Age(Sample sample, uint now)
        {
            uint age = now - _best.At;
            if (age > MinRttWindow)
            {
                (_best, _second, _third) = (_second, _third, sample);
                if (now - _best.At > MinRttWindow)
                    (_best, _second, _third) = (_second, _third, sample);
            }
            else if (_second.At == _best.At && age > MinRttWindow / 4)
            {
                _second = _third = sample;
            }
            else if (_third.At == _second.At && age > MinRttWindow / 2)
            {
                _third = sample;
            }
        }
    }
}

namespace Xdp.TcpLite.Tests;

/// <summary>
/// A <see cref="Bbr"/> on a path of 1 MB a second and 100 ms, so of 100 kB, that is told what the test says. One ACK is
/// one round trip unless it says otherwise.
/// </summary>
internal sealed class BbrRig
{
    internal const int Mss = 1000;
    internal const long Rate = 1_000_000;
    internal const long Bdp = 100_000;

    internal static readonly TimeSpan Rtt = TimeSpan.FromMilliseconds(100);

    internal BbrRig(uint seed = 1)
    {
        Control = new Bbr(seed);
        Control.Start(Mss);
    }

    internal Bbr Control { get; }

    internal Instant Now { get; private set; } = new(TimeSpan.TicksPerHour);

    /// <summary>Round trips go by and nothing is sent.</summary>
    internal void Advance(TimeSpan span) => Now += span;

    /// <summary>An ACK one round trip after the one before.</summary>
    /// <param name="rate">The delivery rate.</param>
    /// <param name="acked">Bytes it acknowledges.</param>
    /// <param name="inFlight">Bytes in the network after it.</param>
    /// <param name="atSend">Bytes in the network when the segment was sent; as now if not given.</param>
    /// <param name="delivered">Bytes delivered since the segment was sent; the ACK's if not given: a new round.</param>
    /// <param name="lost">Bytes lost since then.</param>
    /// <param name="appLimited">The application was short of data.</param>
    /// <param name="rtt">What it measures, and how long it takes; 100 ms if not given.</param>
    /// <param name="cwndFull">The window was full.</param>
    /// <param name="recovering">In fast recovery.</param>
    /// <param name="sack">The peer uses SACK.</param>
    internal void Ack(
        long rate = Rate, long acked = Bdp, long inFlight = 2 * Bdp, long? atSend = null, long? delivered = null,
        long lost = 0, bool appLimited = false, TimeSpan? rtt = null, bool cwndFull = false, bool recovering = false,
        bool sack = true)
    {
        Now += rtt ?? Rtt;
        var sample = new RateSample
        {
            BytesPerSecond = rate,
            Delivered = delivered ?? acked,
            Lost = lost,
            InFlightAtSend = atSend ?? inFlight,
            IsAppLimited = appLimited,
        };
        Control.OnAck(new AckSample
        {
            AckedBytes = acked,
            Rtt = rtt ?? Rtt,
            Srtt = rtt ?? Rtt,
            MinRtt = Rtt,
            Rate = ref sample,
            InFlight = inFlight,
            CwndLimited = true,
            IsCwndFull = cwndFull,
            InFastRecovery = recovering,
            HasSack = sack,
            MayGrow = true,
            Now = Now,
        });
    }

    /// <summary>Losses of one segment each, with gaps between them.</summary>
    internal void Lose(int gaps, long atSend = 2 * Bdp, long lostBefore = 0, bool appLimited = false, int bytes = Mss)
    {
        for (int i = 0; i < gaps; i++)
        {
            Control.OnLost(new LossSample
            {
                Seq = new SeqNumber((uint)(Now.Ticks / TimeSpan.TicksPerMillisecond * 1000 + 2L * i * bytes)),
                Bytes = bytes,
                InFlightAtSend = atSend,
                Lost = lostBefore + (i + 1) * bytes,
                IsAppLimited = appLimited,
                Now = Now,
            });
        }
    }

    // ---- states, with the path's rate and round trip known

    internal BbrRig ToDrain()
    {
        for (int i = 0; i < 4; i++)
            Ack();
        Assert.Equal(BbrState.Drain, Control.State);
        return this;
    }

    internal BbrRig ToDown()
    {
        ToDrain();
        for (int i = 0; i < 4; i++)
            Ack();
        Assert.Equal(BbrState.Down, Control.State);
        return this;
    }

    internal BbrRig ToCruise()
    {
        ToDown().Ack(inFlight: Bdp);
        Assert.Equal(BbrState.Cruise, Control.State);
        return this;
    }

    /// <summary>By time: it takes three seconds at the most.</summary>
    internal BbrRig ToRefill()
    {
        ToCruise();
        for (int i = 0; i < 31 && Control.State == BbrState.Cruise; i++)
            Ack(inFlight: Bdp);
        Assert.Equal(BbrState.Refill, Control.State);
        return this;
    }

    internal BbrRig ToUp()
    {
        ToRefill().Ack(inFlight: Bdp);
        Assert.Equal(BbrState.Up, Control.State);
        return this;
    }

    internal BbrRig ToProbeRtt()
    {
        ToCruise();
        for (int i = 0; i < 100 && Control.State != BbrState.ProbeRtt; i++)
            Ack(inFlight: Bdp);
        Assert.Equal(BbrState.ProbeRtt, Control.State);
        return this;
    }
}

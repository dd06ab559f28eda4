namespace Xdp.TcpLite.Tests.Simulation;

/// <summary>
/// Flows that always have something to send, through one bottleneck: what they achieve once they have settled.
/// </summary>
internal sealed record SteadyFlows
{
    internal required CongestionAlgorithm Algorithm { get; init; }

    /// <summary>Bits a second.</summary>
    internal long Rate { get; init; } = 50_000_000;
    internal required TimeSpan RoundTrip { get; init; }
    internal double Loss { get; init; }

    /// <summary>Of the bottleneck, in bandwidth-delay products.</summary>
    internal required double Buffer { get; init; }
    internal int Count { get; init; } = 1;


    /// <summary>Time that is not measured.</summary>
    internal TimeSpan Warmup { get; init; } = TimeSpan.FromSeconds(2);
    internal required TimeSpan Duration { get; init; }
    internal int Seed { get; init; } = 1;

    internal double BandwidthDelay => Rate / 8.0 * RoundTrip.TotalSeconds;

    internal Result Run()
    {
        var up = new LinkOptions
        {
            Rate = Rate,
            Delay = RoundTrip / 2,
            Loss = Loss,
            Buffer = (int)(Buffer * BandwidthDelay),
        };
        var options = new TcpStackOptions { CongestionControl = Algorithm };
        var network = new Network(Seed, up, up with { Rate = 0, Loss = 0 }, client: options);
        var flows = new Flows(network, Count, bytes: 1L << 40, sendBuffer: 8 << 20);
        Instant begin = network.Now + Warmup;
        Instant end = begin + Duration;
        long[]? before = null;
        flows.Run(
            () =>
            {
                if (before is not null || network.Now < begin)
                    return;
                before = Received();
                network.Up.ForgetQueue();
            },
            end - network.Now);
        double[] rates = [.. Received().Zip(before!, (now, then) => (now - then) * 8 / Duration.TotalSeconds / 1e6)];
        return new Result(rates, network.Up.MeanQueue / BandwidthDelay);

        long[] Received() => [.. flows.Servers.Values.Select(server => server.Received)];
    }

    /// <param name="Rates">Of each flow, in Mbit/s.</param>
    /// <param name="Queue">Mean queue in bandwidth-delay products.</param>
    internal readonly record struct Result(double[] Rates, double Queue)
    {
        internal double Rate => Rates.Sum();

        /// <summary>Jain's index.</summary>
        internal double Fairness => Rate * Rate / (Rates.Length * Rates.Sum(rate => rate * rate));
    }
}

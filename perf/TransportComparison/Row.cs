namespace TransportComparison;

/// <summary>One side in one round.</summary>
/// <param name="P50">Microseconds; null where the tool does not tell.</param>
/// <param name="CpuPerRequest">
/// Processor time of the server, in microseconds. Softirqs on the server's core count only while the server runs there.
/// </param>
/// <param name="CpuShare">How busy the server kept a core; more than 1 where it had several.</param>
/// <param name="BytesPerRequest">Allocated by the server's process.</param>
internal sealed record Sample(
    double RequestsPerSecond,
    double? P50,
    double? P99,
    double CpuPerRequest,
    double CpuShare,
    double BytesPerRequest,
    long Failures);

/// <summary>A scenario in one scheduling: the samples of both sides, a pair for each round.</summary>
internal sealed class Row(Scenario scenario, string scheduling)
{
    public Scenario Scenario => scenario;
    public string Scheduling => scheduling;
    public List<Sample> Candidate { get; } = [];
    public List<Sample> Baseline { get; } = [];

    /// <summary>Candidate ÷ baseline, each round for itself: what drifts over the run cancels out.</summary>
    public double[] Ratios(Func<Sample, double?> value) =>
        [.. Candidate.Zip(Baseline, (candidate, baseline) => value(candidate) / value(baseline)).OfType<double>()];

    public double? Ratio(Func<Sample, double?> value) => Median(Ratios(value));

    /// <returns>Null where there is nothing.</returns>
    public static double? Median(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        int middle = sorted.Length / 2;
        if (sorted.Length == 0)
            return null;
        return sorted.Length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
    }

    public static double? Median(IEnumerable<Sample> samples, Func<Sample, double?> value) =>
        Median(samples.Select(value).OfType<double>());
}

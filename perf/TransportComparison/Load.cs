namespace TransportComparison;

/// <summary>What a load generator saw. Latencies are in microseconds, and null where it does not tell them.</summary>
/// <param name="Requests">Those that were answered.</param>
/// <param name="Failures">Requests and connections that came to nothing.</param>
internal sealed record Load(long Requests, double RequestsPerSecond, double? P50, double? P99, long Failures);

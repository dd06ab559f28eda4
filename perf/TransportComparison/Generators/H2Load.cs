using System.Text.RegularExpressions;

namespace TransportComparison.Generators;

/// <summary>For HTTP/2. Only newer versions report percentiles.</summary>
internal sealed partial class H2Load(Scenario scenario) : ILoadGenerator
{
    private const int StreamsPerConnection = 16;

    public string Name => "h2load";

    public string[] Command(string url, int seconds) =>
        ["h2load", "-t1", $"-c{scenario.Connections}", $"-m{StreamsPerConnection}", $"-D{seconds}", url];

    public Load Parse(string report)
    {
        var counts = Text.Find(Counts(), report);
        long answered = Text.Count(Text.Find(Status2xx(), report).Groups[1].Value);
        long succeeded = Text.Count(counts.Groups["succeeded"].Value);
        // h2load counts errors among the failed, and redirects among the succeeded.
        long failures = Text.Count(counts.Groups["failed"].Value) + Text.Count(counts.Groups["timeout"].Value);
        var times = Times(report);
        return new Load(
            answered,
            Text.Number(Text.Find(Rate(), report).Groups[1].Value),
            times.TryGetValue("median", out double median) ? median : null,
            times.TryGetValue("p99", out double p99) ? p99 : null,
            failures + succeeded - answered);
    }

    // A table of its own at the report's end: which columns it has depends on the version.
    private static Dictionary<string, double> Times(string report)
    {
        string[] columns = Words(Text.Find(Columns(), report));
        string[] values = Words(Text.Find(RequestTimes(), report));
        return columns.Zip(values).ToDictionary(pair => pair.First, pair => Text.Microseconds(pair.Second));

        static string[] Words(Match match) =>
            match.Groups[1].Value.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
    }

    [GeneratedRegex(@"^finished in \S+, ([\d.]+) req/s", RegexOptions.Multiline)]
    private static partial Regex Rate();

    [GeneratedRegex(
        @"^requests: .* (?<succeeded>\d+) succeeded, (?<failed>\d+) failed, \d+ errored, (?<timeout>\d+) timeout",
        RegexOptions.Multiline)]
    private static partial Regex Counts();

    [GeneratedRegex(@"^status codes: (\d+) 2xx", RegexOptions.Multiline)]
    private static partial Regex Status2xx();

    [GeneratedRegex(@"^\s+(min\s.*\smean)\s+sd\b", RegexOptions.Multiline)]
    private static partial Regex Columns();

    [GeneratedRegex(@"^(?:time for )?request\s*:\s+(.*)$", RegexOptions.Multiline)]
    private static partial Regex RequestTimes();
}

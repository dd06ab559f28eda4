using System.Text.RegularExpressions;

namespace TransportComparison.Generators;

/// <param name="pipelinedScript">What makes wrk send several requests at once.</param>
internal sealed partial class Wrk(Scenario scenario, string pipelinedScript) : ILoadGenerator
{
    public string Name => "wrk";

    public string[] Command(string url, int seconds) =>
    [
        "wrk", "-t1", $"-c{scenario.Connections}", $"-d{seconds}s", "--latency",
        .. scenario.Pattern switch
        {
            Pattern.Close => (string[])["-H", "Connection: close"],
            Pattern.Pipelined => ["-s", pipelinedScript],
            _ => [],
        },
        url,
    ];

    public Load Parse(string report)
    {
        long failures = 0;
        if (SocketErrors().Match(report) is { Success: true } errors)
            failures += errors.Groups["count"].Captures.Sum(count => Text.Count(count.Value));
        // When requests follow each other more slowly than expected, wrk takes samples for omitted and makes them up. A
        // pipelined batch has one sample for all of its requests, so most of its percentiles would be made up.
        bool hasLatencies = scenario.Pattern != Pattern.Pipelined;
        long wrong = WrongStatus().Match(report) is { Success: true } status ? Text.Count(status.Groups[1].Value) : 0;
        return new Load(
            Text.Count(Text.Find(Requests(), report).Groups[1].Value) - wrong,
            Text.Number(Text.Find(Rate(), report).Groups[1].Value),
            hasLatencies ? Text.Microseconds(Text.Find(P50(), report).Groups[1].Value) : null,
            hasLatencies ? Text.Microseconds(Text.Find(P99(), report).Groups[1].Value) : null,
            failures + wrong);
    }

    [GeneratedRegex(@"^\s*(\d+) requests in ", RegexOptions.Multiline)]
    private static partial Regex Requests();

    [GeneratedRegex(@"^Requests/sec:\s*([\d.]+)", RegexOptions.Multiline)]
    private static partial Regex Rate();

    [GeneratedRegex(@"^\s*50%\s+(\S+)", RegexOptions.Multiline)]
    private static partial Regex P50();

    [GeneratedRegex(@"^\s*99%\s+(\S+)", RegexOptions.Multiline)]
    private static partial Regex P99();

    [GeneratedRegex(
        @"^\s*Socket errors:(?:,?\s*(?:connect|read|write|timeout) (?<count>\d+))+", RegexOptions.Multiline)]
    private static partial Regex SocketErrors();

    [GeneratedRegex(@"^\s*Non-2xx or 3xx responses: (\d+)", RegexOptions.Multiline)]
    private static partial Regex WrongStatus();
}

using System.Text.Json;

namespace TransportComparison.Generators;

internal sealed class Bombardier(Scenario scenario) : ILoadGenerator
{
    private static readonly string[] s_failures = ["req1xx", "req3xx", "req4xx", "req5xx", "others"];

    public string Name => "bombardier";

    public string[] Command(string url, int seconds) =>
        ["bombardier", "-c", $"{scenario.Connections}", "-d", $"{seconds}s", "-l", "-k", "-o", "json", "-p", "r", url];

    public Load Parse(string report)
    {
        try
        {
            using var document = JsonDocument.Parse(report);
            var result = document.RootElement.GetProperty("result");
            long answered = result.GetProperty("req2xx").GetInt64();
            var percentiles = result.GetProperty("latency").GetProperty("percentiles");
            return new Load(
                answered,
                answered / result.GetProperty("timeTakenSeconds").GetDouble(),
                percentiles.GetProperty("50").GetDouble(),
                percentiles.GetProperty("99").GetDouble(),
                s_failures.Sum(failure => result.GetProperty(failure).GetInt64()));
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException)
        {
            throw new FormatException($"{e.Message}\n{report}");
        }
    }
}

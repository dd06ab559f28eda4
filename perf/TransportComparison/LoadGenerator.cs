using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace TransportComparison;

/// <summary>What a load generator saw: requests answered, per second, and latencies in microseconds.</summary>
internal sealed record Load(long Requests, double RequestsPerSecond, double P50, double P99);

/// <summary>wrk or bombardier, on one core of the client's namespace.</summary>
internal sealed partial class LoadGenerator(Lab lab, Plan plan)
{
    public string Name { get; } = plan.Tool == "auto" ? (OnPath("bombardier") ? "bombardier" : "wrk") : plan.Tool;

    /// <exception cref="MeasurementException">A request failed.</exception>
    public async Task<Load> Run(string url, int seconds, CancellationToken cancellation)
    {
        string[] command = Name == "bombardier"
            ? ["bombardier", "-c", $"{plan.Connections}", "-d", $"{seconds}s", "-l", "-o", "json", "-p", "r", url]
            : ["wrk", "-t1", $"-c{plan.Connections}", $"-d{seconds}s", "--latency", url];
        string output = await lab.Output(lab.Command("client", plan.ClientCpu, command), cancellation);
        return Name == "bombardier" ? Bombardier(output) : Wrk(output);
    }

    internal static Load Wrk(string output)
    {
        if (output.Contains("Socket errors", StringComparison.Ordinal) || output.Contains("Non-2xx", StringComparison.Ordinal))
            throw new MeasurementException($"requests failed\n{output}");
        return new Load(
            long.Parse(Find(WrkRequests(), output).Value, CultureInfo.InvariantCulture),
            Number(Find(WrkRate(), output).Value),
            Microseconds(Find(WrkP50(), output)),
            Microseconds(Find(WrkP99(), output)));
    }

    internal static Load Bombardier(string output)
    {
        using var document = JsonDocument.Parse(output);
        var result = document.RootElement.GetProperty("result");
        long answered = result.GetProperty("req2xx").GetInt64();
        foreach (string failure in (string[])["req1xx", "req3xx", "req4xx", "req5xx", "others"])
            if (result.GetProperty(failure).GetInt64() is > 0 and var count)
                throw new MeasurementException($"{count} requests ended as {failure}\n{output}");
        var percentiles = result.GetProperty("latency").GetProperty("percentiles");
        return new Load(
            answered,
            answered / result.GetProperty("timeTakenSeconds").GetDouble(),
            percentiles.GetProperty("50").GetDouble(),
            percentiles.GetProperty("99").GetDouble());
    }

    private static Group Find(Regex regex, string output)
    {
        var match = regex.Match(output);
        return match.Success ? match.Groups[1] : throw new MeasurementException($"the output of wrk has changed; no match for {regex}\n{output}");
    }

    private static double Microseconds(Group latency)
    {
        string text = latency.Value;
        string unit = text.TrimStart("0123456789.".ToCharArray());
        double scale = unit switch { "us" => 1, "ms" => 1e3, "s" => 1e6, "m" => 60e6, _ => throw new MeasurementException($"unknown unit in '{text}'") };
        return scale * Number(text[..^unit.Length]);
    }

    private static double Number(string text) => double.Parse(text, CultureInfo.InvariantCulture);

    private static bool OnPath(string tool) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Any(directory => File.Exists(Path.Combine(directory, tool)));

    [GeneratedRegex(@"^\s*(\d+) requests in ", RegexOptions.Multiline)]
    private static partial Regex WrkRequests();

    [GeneratedRegex(@"^Requests/sec:\s*([\d.]+)", RegexOptions.Multiline)]
    private static partial Regex WrkRate();

    [GeneratedRegex(@"^\s*50%\s+(\S+)", RegexOptions.Multiline)]
    private static partial Regex WrkP50();

    [GeneratedRegex(@"^\s*99%\s+(\S+)", RegexOptions.Multiline)]
    private static partial Regex WrkP99();
}

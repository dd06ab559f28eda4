using System.Globalization;
using System.Text.Json;
using Spectre.Console;

namespace TransportComparison;

/// <summary>What was measured, for people and for programs. All figures are medians of the rounds.</summary>
internal static class Report
{
    private static readonly string[] s_columns =
    [
        "candidate\nrequests/s", "baseline\nrequests/s", "ratio", "lowest –\nhighest",
        "ratio of\np50", "ratio of\np99", "ratio of\nCPU/request", "candidate\nB/request", "baseline\nB/request",
    ];

    private static readonly JsonSerializerOptions s_json = new(JsonSerializerDefaults.Web) { WriteIndented = true };

    public static string Line(Sample sample)
    {
        string latencies = sample is { P50: { } p50, P99: { } p99 } ? $"p50 {p50,6:N0} µs  p99 {p99,6:N0} µs" : "";
        string failures = sample.Failures > 0 ? $"  {sample.Failures} failed" : "";
        return string.Create(
            CultureInfo.InvariantCulture,
            $"{sample.RequestsPerSecond,9:N0} requests/s  {latencies,-27}  "
            + $"CPU {sample.CpuPerRequest,6:0.00} µs/request, {sample.CpuShare,4:P0}  "
            + $"{sample.BytesPerRequest,6:N0} B/request{failures}");
    }

    public static void Print(Plan plan, Side candidate, Side baseline, IReadOnlyList<Row> rows)
    {
        string origin = plan.BaselineRoot == plan.Root ? "" : $" of {plan.BaselineRoot}";
        string title = $"{candidate.Transport} ÷ {baseline.Transport}{origin}: medians of {plan.Rounds} rounds";
        var table = new Table().Title(Markup.Escape(title));
        table.AddColumns("scenario", "scheduling");
        foreach (string column in s_columns)
            table.AddColumn(new TableColumn(column).RightAligned());
        foreach (var row in rows)
        {
            double[] ratios = row.Ratios(sample => sample.RequestsPerSecond);
            table.AddRow(
                Markup.Escape(row.Scenario.Name),
                row.Scheduling,
                Text(Row.Median(row.Candidate, sample => sample.RequestsPerSecond), "N0"),
                Text(Row.Median(row.Baseline, sample => sample.RequestsPerSecond), "N0"),
                $"[bold]{Text(Row.Median(ratios), "0.00")}[/]",
                $"{Text(ratios.Min(), "0.00")} – {Text(ratios.Max(), "0.00")}",
                Text(row.Ratio(sample => sample.P50), "0.00"),
                Text(row.Ratio(sample => sample.P99), "0.00"),
                Text(row.Ratio(sample => sample.CpuPerRequest), "0.00"),
                Text(Row.Median(row.Candidate, sample => sample.BytesPerRequest), "N0"),
                Text(Row.Median(row.Baseline, sample => sample.BytesPerRequest), "N0"));
        }

        AnsiConsole.Write(table);
    }

    public static void Write(string file, Plan plan, Side candidate, Side baseline, IReadOnlyList<Row> rows)
    {
        object Of(List<Sample> samples) => new
        {
            Median = new
            {
                RequestsPerSecond = Row.Median(samples, sample => sample.RequestsPerSecond),
                P50 = Row.Median(samples, sample => sample.P50),
                P99 = Row.Median(samples, sample => sample.P99),
                CpuPerRequest = Row.Median(samples, sample => sample.CpuPerRequest),
                CpuShare = Row.Median(samples, sample => sample.CpuShare),
                BytesPerRequest = Row.Median(samples, sample => sample.BytesPerRequest),
            },
            Samples = samples,
        };

        File.WriteAllText(file, JsonSerializer.Serialize(
            new
            {
                Candidate = new { candidate.Transport, plan.Root },
                Baseline = new { baseline.Transport, Root = plan.BaselineRoot },
                plan.Rounds,
                plan.Seconds,
                plan.WarmupSeconds,
                plan.ServerCpu,
                plan.ClientCpu,
                Rows = rows.Select(row => new
                {
                    Scenario = row.Scenario.Name,
                    row.Scheduling,
                    Ratio = new
                    {
                        RequestsPerSecond = row.Ratio(sample => sample.RequestsPerSecond),
                        Lowest = row.Ratios(sample => sample.RequestsPerSecond).Min(),
                        Highest = row.Ratios(sample => sample.RequestsPerSecond).Max(),
                        P50 = row.Ratio(sample => sample.P50),
                        P99 = row.Ratio(sample => sample.P99),
                        CpuPerRequest = row.Ratio(sample => sample.CpuPerRequest),
                    },
                    Candidate = Of(row.Candidate),
                    Baseline = Of(row.Baseline),
                }),
            },
            s_json));
    }

    private static string Text(double? value, string format) =>
        value?.ToString(format, CultureInfo.InvariantCulture) ?? "";
}

using System.Globalization;
using Spectre.Console;

namespace TransportComparison;

/// <summary>Medians over the rounds; ratios are medians of the rounds' own ratios, so what drifted over the run cancels out.</summary>
internal static class Report
{
    public static void Print(Plan plan, List<Leg> legs, Dictionary<Leg, List<Sample>> samples)
    {
        var table = new Table().Title($"{plan.Candidate} against {plan.Baseline}: medians of {plan.Rounds} rounds");
        table.AddColumns("scheduling", "transport");
        foreach (string column in (string[])["requests/s", "lowest – highest", "p50 µs", "p99 µs", "server µs/request", "server core"])
            table.AddColumn(new TableColumn(column).RightAligned());

        foreach (string mode in plan.Scheduling)
        {
            foreach (var leg in legs.Where(leg => leg.Scheduling == mode))
            {
                var of = samples[leg];
                table.AddRow(
                    mode,
                    leg.Transport,
                    Median(of, sample => sample.RequestsPerSecond).ToString("N0", CultureInfo.InvariantCulture),
                    string.Create(CultureInfo.InvariantCulture, $"{of.Min(sample => sample.RequestsPerSecond):N0} – {of.Max(sample => sample.RequestsPerSecond):N0}"),
                    Median(of, sample => sample.P50).ToString("N0", CultureInfo.InvariantCulture),
                    Median(of, sample => sample.P99).ToString("N0", CultureInfo.InvariantCulture),
                    Median(of, sample => sample.CpuPerRequest).ToString("0.00", CultureInfo.InvariantCulture),
                    Median(of, sample => sample.CpuShare).ToString("P0", CultureInfo.InvariantCulture));
            }

            table.AddRow(
                "",
                $"[bold]{plan.Candidate} ÷ {plan.Baseline}[/]",
                $"[bold]{Text(legs, samples, mode, sample => sample.RequestsPerSecond)}[/]",
                "",
                Text(legs, samples, mode, sample => sample.P50),
                Text(legs, samples, mode, sample => sample.P99),
                Text(legs, samples, mode, sample => sample.CpuPerRequest),
                "");
            table.AddEmptyRow();
        }

        AnsiConsole.Write(table);
    }

    public static double Ratio(List<Leg> legs, Dictionary<Leg, List<Sample>> samples, string mode, Func<Sample, double> value)
    {
        var candidate = samples[legs.Single(leg => leg.Side == "candidate" && leg.Scheduling == mode)];
        var baseline = samples[legs.Single(leg => leg.Side == "baseline" && leg.Scheduling == mode)];
        return Median(candidate.Zip(baseline), pair => value(pair.First) / value(pair.Second));
    }

    private static string Text(List<Leg> legs, Dictionary<Leg, List<Sample>> samples, string mode, Func<Sample, double> value) =>
        Ratio(legs, samples, mode, value).ToString("0.00", CultureInfo.InvariantCulture);

    private static double Median<T>(IEnumerable<T> items, Func<T, double> value)
    {
        double[] sorted = [.. items.Select(value).Order()];
        int middle = sorted.Length / 2;
        return sorted.Length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
    }
}

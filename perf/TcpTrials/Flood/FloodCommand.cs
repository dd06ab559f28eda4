using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using Spectre.Console;
using TransportComparison;

namespace TcpTrials.Flood;

/// <summary>
/// A SYN flood that reaches the stack. In the control runs, the XDP program drops the same flood by its source
/// addresses.
/// </summary>
internal static class FloodCommand
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(120);
    private const int WarmupRuns = 2;

    // Growth below this is noise: the garbage collector runs when it likes.
    private const double FlatMegabytes = 16;

    private sealed record Sample(PacedResult Client, double Megabytes, Dictionary<string, double> Change);

    public static Command Create()
    {
        var root = Trial.Root();
        var rounds = Trial.Option("--rounds", "flooded and control runs, in turn", 3);
        var seconds = Trial.Option("--seconds", "length of a run", 20);
        var flood = Trial.Option("--flood", "spoofed SYNs a second", 50_000);
        var rate = Trial.Option("--rate", "requests a second on established connections", 1000);
        var connections = Trial.Option("--connections", "established connections", 50);
        var command = new Command("synflood", "A SYN flood from spoofed sources, and control runs where XDP drops it.")
        {
            root, rounds, seconds, flood, rate, connections,
        };
        command.SetAction((parsed, cancellation) => Trial.Run("perf/synflood", () => Run(
            parsed.GetRequiredValue(root),
            parsed.GetValue(rounds),
            parsed.GetValue(seconds),
            parsed.GetValue(flood),
            [
                "--connections", $"{parsed.GetValue(connections)}",
                "--rate", $"{parsed.GetValue(rate)}",
                "--seconds", $"{parsed.GetValue(seconds)}",
            ],
            cancellation)));
        return command;
    }

    private static async Task<int> Run(
        string root, int rounds, int seconds, int flood, string[] load, CancellationToken cancellation)
    {
        await using var lab = new Lab(root);
        await lab.Up(cancellation);
        // Sources without a way back would not be answered.
        await lab.Output(
            lab.Command("server", "ip", "route", "replace", "default", "via", lab.ClientAddress), cancellation);
        var readMac = lab.Command("server", "cat", $"/sys/class/net/{lab.ServerInterface}/address");
        string mac = (await lab.Output(readMac, cancellation)).Trim();
        AnsiConsole.MarkupLineInterpolated(
            $"{flood:N0} SYN/s, {rounds} rounds × {seconds} s, flooded and control in turn");

        var flooded = new List<Sample>();
        var control = new List<Sample>();
        for (int round = 0; round < rounds; round++)
        {
            foreach (bool isControl in round % 2 == 0 ? (bool[])[false, true] : [true, false])
            {
                var sample = await Measure(lab, root, mac, flood, load, isControl, cancellation);
                (isControl ? control : flooded).Add(sample);
            }
        }

        return Report(flooded, control) ? 0 : 1;
    }

    private static async Task<Sample> Measure(
        Lab lab, string root, string mac, int flood, string[] load, bool isControl, CancellationToken cancellation)
    {
        var settings = new Dictionary<string, string>();
        if (isControl)
            settings["Kestrel__Xdp__DeniedSources__0"] = SynPacket.Sources;
        await using var app = await App.Start(lab, root, "xdp", settings, cancellation);
        await using var client = LabProcess.Start(lab.Command(
            "client", Trial.Self(["paced-client", "--target", $"{lab.ServerAddress}:8080", .. load])));
        await client.Line("ready", s_patience, cancellation);
        for (int i = 0; i < WarmupRuns; i++)
        {
            client.Send("run");
            await client.Line("result", s_patience, cancellation);
        }

        await using var generator = LabProcess.Start(lab.Command(
            "client",
            Trial.Self(
                "syn-generator",
                "--device", "cli0",
                "--target", lab.ServerAddress,
                "--mac", mac,
                "--rate", $"{flood}")));
        await generator.Line("ready", s_patience, cancellation);
        await Task.Delay(TimeSpan.FromSeconds(2), cancellation);
        var before = await app.Counters(cancellation);
        long memory = app.Process.ResidentBytes;
        client.Send("run");
        var result = JsonSerializer.Deserialize<PacedResult>(await client.Line("result", s_patience, cancellation))!;
        double megabytes = (app.Process.ResidentBytes - memory) / 1e6;
        var after = await app.Counters(cancellation);
        var change = after.ToDictionary(pair => pair.Key, pair => pair.Value - before.GetValueOrDefault(pair.Key));
        AnsiConsole.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"{(isControl ? "control" : "flooded")}: {result.Answered}/{result.Due} answered, "
            + $"p50 {result.P50:0} µs, p99 {result.P99:0} µs, "
            + $"new clients {result.NewClients - result.Refused}/{result.NewClients}, "
            + $"slowest {result.SlowestConnect:0.0} s, memory {megabytes:+0.0;-0.0} MB"));
        return new Sample(result, megabytes, change);
    }

    private static bool Report(List<Sample> flooded, List<Sample> control)
    {
        var table = new Table().Title("SYN flood: medians, and sums over the rounds");
        table.AddColumns(
            "",
            "answered",
            "connections lost",
            "p50 µs",
            "p99 µs",
            "new clients",
            "slowest s",
            "memory MB",
            "SYNs to the stack",
            "bucket drops",
            "source drops",
            "cookies");
        (string Name, List<Sample> Samples)[] rows = [("flooded", flooded), ("control", control)];
        foreach (var (name, samples) in rows)
        {
            int newClients = samples.Sum(sample => sample.Client.NewClients);
            table.AddRow(
                name,
                AnsweredShare(samples).ToString("P2", CultureInfo.InvariantCulture),
                $"{samples.Sum(sample => sample.Client.LostConnections)}",
                Number(Trial.Median(samples.Select(sample => sample.Client.P50))),
                Number(Trial.Median(samples.Select(sample => sample.Client.P99))),
                $"{newClients - samples.Sum(sample => sample.Client.Refused)}/{newClients}",
                samples.Max(sample => sample.Client.SlowestConnect).ToString("0.0", CultureInfo.InvariantCulture),
                Trial.Median(samples.Select(sample => sample.Megabytes))
                    .ToString("+0.0;-0.0", CultureInfo.InvariantCulture),
                Total(samples, "kestrel.xdp.steering/redirect_syn"),
                Total(samples, "kestrel.xdp.steering/drop_syn_rate"),
                Total(samples, "kestrel.xdp.steering/drop_source"),
                Total(samples, "kestrel.xdp.tcp.drops/backlog_full"));
        }

        AnsiConsole.Write(table);
        double p99 = Trial.Median(flooded.Zip(control, (of, against) => of.Client.P99 / against.Client.P99));
        (string What, bool Holds)[] claims =
        [
            ("established requests answered ≥ 99 %", AnsweredShare(flooded) >= 0.99),
            ("no established connection lost", flooded.Sum(sample => sample.Client.LostConnections) == 0),
            (string.Create(CultureInfo.InvariantCulture, $"p99 {p99:0.00} × control ≤ 2"), p99 <= 2),
            ("new clients connect within three SYN retries", flooded.Sum(sample => sample.Client.Refused) == 0),
            ("memory flat", Trial.Median(flooded.Select(sample => sample.Megabytes)) < FlatMegabytes),
            ("control dropped by XDP", control.All(
                sample => sample.Change.GetValueOrDefault("kestrel.xdp.steering/drop_source") > 0)),
        ];
        foreach (var (what, holds) in claims)
            AnsiConsole.WriteLine($"{(holds ? "holds" : "FAILS")}  {what}");
        return claims.All(claim => claim.Holds);
    }

    private static double AnsweredShare(List<Sample> samples) =>
        (double)samples.Sum(sample => sample.Client.Answered) / samples.Sum(sample => sample.Client.Due);

    private static string Total(List<Sample> samples, string counter) =>
        samples.Sum(sample => sample.Change.GetValueOrDefault(counter)).ToString("N0", CultureInfo.InvariantCulture);

    private static string Number(double value) => value.ToString("N0", CultureInfo.InvariantCulture);
}

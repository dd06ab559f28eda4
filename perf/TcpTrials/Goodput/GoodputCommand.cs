using System.CommandLine;
using System.Globalization;
using Spectre.Console;
using TransportComparison;

namespace TcpTrials.Goodput;

/// <param name="Name">For the table.</param>
/// <param name="Impairment">Arguments of <c>lab impair</c>; empty on a good path.</param>
/// <param name="PerMille">Losses in 1000 packets. A burst counts as one.</param>
internal sealed record PathLoss(string Name, string[] Impairment, int PerMille)
{
    public static IReadOnlyList<PathLoss> All { get; } =
    [
        new("0 %", [], 0),
        new("0.1 %", ["--loss", "1"], 1),
        new("1 %", ["--loss", "10"], 10),
        new("3 %", ["--loss", "30"], 30),
        new("5 %", ["--loss", "50"], 50),
        new("1 % in bursts of 5", ["--burst", "2", "--burst-length", "5"], 2),
    ];
}

/// <summary>One transfer's path.</summary>
/// <param name="Loss">At the router's ingress, both directions.</param>
/// <param name="Delay">Each way.</param>
/// <param name="Download">True when the server sends, false when it receives.</param>
internal sealed record Cell(PathLoss Loss, TimeSpan Delay, bool Download)
{
    /// <summary>
    /// As much as a loss-based congestion control moves over such a path in some seconds. Where the machine is the
    /// limit, <paramref name="most"/>.
    /// </summary>
    public long Size(long most)
    {
        if (Delay == TimeSpan.Zero || Loss.PerMille == 0)
            return most;
        // Mathis et al.: 1.2 × MSS ÷ (RTT × √p), for ten seconds.
        double rate = 1.2 * 1448 / (2 * Delay.TotalSeconds * Math.Sqrt(Loss.PerMille / 1000.0));
        return Math.Min(most, (long)(10 * rate) / 100_000 * 100_000);
    }
}

internal static class GoodputCommand
{
    private const long WarmupBytes = 500_000_000;

    public static Command Create()
    {
        var root = Trial.Root();
        var rounds = Trial.Option("--rounds", "transfers per cell, direction and transport", 5);
        var megabytes = Trial.Option("--megabytes", "size of a transfer where the path is not the limit", 50);
        var delays = new Option<int[]>("--delay")
        {
            Description = "milliseconds each way; may be repeated",
            DefaultValueFactory = _ => [0, 10],
            AllowMultipleArgumentsPerToken = true,
        };
        var losses = new Option<string[]>("--loss")
        {
            Description = "only these rows, by the start of their name",
            AllowMultipleArgumentsPerToken = true,
        };
        losses.Validators.Add(result =>
        {
            foreach (string name in result.GetValueOrDefault<string[]>() ?? [])
            {
                if (PathLoss.All.Any(loss => loss.Name.StartsWith(name, StringComparison.Ordinal)))
                    continue;
                string names = string.Join(", ", PathLoss.All.Select(loss => $"'{loss.Name}'"));
                result.AddError($"no row begins with '{name}'; there are {names}");
            }
        });
        var directions = Trial.Option("--direction", "down, up or both", "both");
        directions.AcceptOnlyFromAmong("down", "up", "both");
        var control = Trial.Option("--congestion-control", "cubic or bbr, of both", "cubic");
        control.AcceptOnlyFromAmong("cubic", "bbr");
        var baseline = new Option<DirectoryInfo?>("--baseline-root")
        {
            Description = "another checkout, whose transport is measured as well",
        };
        var counters = new Option<bool>("--counters")
        {
            Description = "also each round, and what the stack counted in each cell",
        };
        var command = new Command("goodput", "Goodput of one transfer over an impaired path, ours and the kernel's.")
        {
            root, rounds, megabytes, delays, losses, directions, control, baseline, counters,
        };
        command.SetAction((parsed, cancellation) => Trial.Run("perf/goodput", () => Run(
            parsed.GetRequiredValue(root),
            parsed.GetValue(rounds),
            parsed.GetValue(megabytes) * 1_000_000L,
            [.. from delay in parsed.GetRequiredValue(delays)
                from loss in PathLoss.All.Where(loss => IsWanted(loss, parsed.GetValue(losses)))
                from download in Directions(parsed.GetValue(directions))
                select new Cell(loss, TimeSpan.FromMilliseconds(delay), download)],
            parsed.GetRequiredValue(control),
            parsed.GetValue(baseline)?.FullName,
            parsed.GetValue(counters),
            cancellation)));
        return command;
    }

    private static bool IsWanted(PathLoss loss, string[]? names) =>
        names is not { Length: > 0 } || names.Any(name => loss.Name.StartsWith(name, StringComparison.Ordinal));

    private static bool[] Directions(string? name) => name switch
    {
        "down" => [true],
        "up" => [false],
        _ => [true, false],
    };

    private static async Task<int> Run(
        string root, int rounds, long bytes, Cell[] cells, string congestionControl, string? baselineRoot,
        bool counters, CancellationToken cancellation)
    {
        string app = Checkout.App(root);
        await using var ours = await Path.Open(root, "ours", "xdp", app, congestionControl, cancellation);
        await using var kernels = await Path.Open(root, "kernel", "sockets", app, congestionControl, cancellation);
        await using var baselines = baselineRoot is null ? null : await Path.Open(
            root, "baseline", "xdp", await Checkout.Build(root, baselineRoot, cancellation), congestionControl,
            cancellation);
        Path[] paths = baselines is null ? [ours, kernels] : [ours, kernels, baselines];
        Path[] others = paths[1..];
        // The runtime compiles what is hot in the background. After these transfers it is done with that.
        foreach (bool download in (bool[])[true, false, true, false])
            foreach (var path in paths)
                await path.Transfer(new Cell(PathLoss.All[0], TimeSpan.Zero, download), WarmupBytes, cancellation);
        AnsiConsole.MarkupLineInterpolated(
            $"{cells.Length} cells × {rounds} rounds, in turn; {congestionControl} on all sides, offloads off");

        var table = new Table().Title(
            $"Goodput: medians of {rounds} rounds, and geometric means of the ratios, with the same losses");
        table.AddColumns("delay each way", "loss", "direction");
        foreach (string column in (string[])["MB", .. paths.Select(path => $"{path.Name} MB/s"),
            .. others.SelectMany(path => (string[])[$"ours ÷ {path.Name}", "lowest – highest"])])
            table.AddColumn(new TableColumn(column).RightAligned());

        List<double>[] all = [.. others.Select(_ => new List<double>())];
        foreach (var group in cells.GroupBy(cell => (cell.Delay, cell.Loss)))
        {
            foreach (var path in paths)
                await path.Become(group.Key.Delay, group.Key.Loss, cancellation);
            foreach (var cell in group)
            {
                long size = cell.Size(bytes);
                var before = counters ? await ours.App.Counters(cancellation) : null;
                double[][] rates = [.. paths.Select(_ => new double[rounds])];
                for (int round = 0; round < rounds; round++)
                {
                    foreach (var path in paths)
                        await path.Seed(round + 1, cancellation);
                    for (int i = 0; i < paths.Length; i++)
                    {
                        int turn = (i + round) % paths.Length;
                        rates[turn][round] = await paths[turn].Transfer(cell, size, cancellation);
                    }
                }

                var row = new List<string>
                {
                    $"{cell.Delay.TotalMilliseconds:0} ms",
                    cell.Loss.Name,
                    cell.Download ? "down" : "up",
                    Number(size / 1e6),
                };
                row.AddRange(rates.Select(each => Number(Trial.Median(each))));
                for (int other = 0; other < others.Length; other++)
                {
                    double[] ratios = [.. rates[0].Zip(rates[other + 1], static (one, two) => one / two)];
                    double ratio = Math.Exp(ratios.Average(one => Math.Log(one)));
                    all[other].Add(ratio);
                    row.Add(ratio.ToString("0.00", CultureInfo.InvariantCulture));
                    row.Add(string.Create(CultureInfo.InvariantCulture, $"{ratios.Min():0.00} – {ratios.Max():0.00}"));
                }
                table.AddRow([.. row]);
                AnsiConsole.WriteLine(string.Join("  ", row));
                if (before is not null)
                {
                    for (int i = 0; i < paths.Length; i++)
                        AnsiConsole.WriteLine($"      {paths[i].Name} {string.Join(", ", rates[i].Select(Number))}");
                    Report(before, await ours.App.Counters(cancellation));
                }
            }
        }

        AnsiConsole.Write(table);
        for (int other = 0; other < others.Length; other++)
            AnsiConsole.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"ours ÷ {others[other].Name}: mean {all[other].Average():0.00}, lowest {all[other].Min():0.00}"));
        return 0;
    }

    private static void Report(Dictionary<string, double> before, Dictionary<string, double> after)
    {
        string[] names = ["kestrel.xdp.tcp", "kestrel.xdp.packets", "kestrel.xdp.frames", "kestrel.xdp.turns"];
        foreach (string name in names)
        {
            foreach (var (key, value) in after.Where(pair => pair.Key.StartsWith(name, StringComparison.Ordinal)))
                if (value - before.GetValueOrDefault(key) is not 0 and var change)
                    AnsiConsole.WriteLine($"      {key} +{change:0}");
        }
    }

    private static string Number(double value) =>
        value.ToString(value < 10 ? "0.00" : "0.0", CultureInfo.InvariantCulture);

    /// <summary>
    /// A lab and the app in it. Each side has one, so that all are up at the same time and nothing has to start between
    /// transfers that are compared.
    /// </summary>
    private sealed class Path(string name, Lab lab, string payload) : IAsyncDisposable
    {
        // The congestion control is set by route, since the sysctl may be read-only. No transfer starts with what the
        // kernel learnt from an earlier one.
        private const string KernelSettings = """
            ip route replace $(ip route show default) congctl $0
            echo 1 >/proc/sys/net/ipv4/tcp_no_metrics_save
            """;

        private const string CurlReport =
            "%{http_code} %{time_connect} %{time_total} %{size_download} %{size_upload}";

        private TimeSpan _delay;
        private PathLoss _loss = PathLoss.All[0];
        private LabProcess? _delayLine;

        public string Name { get; } = name;

        public App App { get; private set; } = null!;

        public static async Task<Path> Open(
            string root, string name, string transport, string app, string congestionControl,
            CancellationToken cancellation)
        {
            var lab = new Lab(root, $"-{name}");
            string payload = System.IO.Path.GetTempFileName();
            var path = new Path(name, lab, payload);
            try
            {
                await lab.Up(cancellation, "router");
                foreach (string role in (string[])["server", "client"])
                    await lab.Output(lab.Command(role, "sh", "-ec", KernelSettings, congestionControl), cancellation);
                path.App = await App.StartFile(
                    lab, app, transport, congestionControl, settings: null, cancellation);
                return path;
            }
            catch
            {
                await path.DisposeAsync();
                throw;
            }
        }

        public async Task Become(TimeSpan delay, PathLoss loss, CancellationToken cancellation)
        {
            if (delay != _delay)
            {
                if (_delayLine is not null)
                    await _delayLine.DisposeAsync();
                _delayLine = delay > TimeSpan.Zero ? await DelayLine.Start(lab, delay, cancellation) : null;
                _delay = delay;
            }

            _loss = loss;
            await lab.Output(lab.Script("impair", "off"), cancellation);
            if (loss.Impairment.Length > 0)
                await lab.Output(lab.Script(["impair", .. loss.Impairment]), cancellation);
        }

        /// <summary>
        /// Has the next transfer lose the same packets, counted from its beginning, as any other with this seed. So the
        /// comparison does not depend on chance.
        /// </summary>
        public Task Seed(int seed, CancellationToken cancellation) =>
            _loss.Impairment.Length > 0
                ? lab.Output(lab.Script("impair", "seed", $"{seed}"), cancellation)
                : Task.CompletedTask;

        /// <returns>MB/s of payload, from the connection's start to the answer's end.</returns>
        public async Task<double> Transfer(Cell cell, long bytes, CancellationToken cancellation)
        {
            string[] request = cell.Download
                ? [$"{App.Url}/bytes/{bytes}"]
                : ["-H", "Expect:", "-X", "POST", "-T", payload, $"{App.Url}/upload"];
            using (var file = new FileStream(payload, FileMode.Open))
                file.SetLength(bytes);
            string[] curl = ["curl", "-sS", "-o", "/dev/null", "--max-time", "600", "-w", CurlReport, .. request];
            string[] answer = (await lab.Output(lab.Command("client", curl), cancellation)).Split(' ');
            long moved = long.Parse(answer[cell.Download ? 3 : 4], CultureInfo.InvariantCulture);
            if (answer[0] != "200" || moved != bytes)
                throw new MeasurementException($"a transfer of {bytes} bytes failed: {string.Join(' ', answer)}");
            double connected = double.Parse(answer[1], CultureInfo.InvariantCulture);
            double ended = double.Parse(answer[2], CultureInfo.InvariantCulture);
            return bytes / 1e6 / (ended - connected);
        }

        public async ValueTask DisposeAsync()
        {
            if (_delayLine is not null)
                await _delayLine.DisposeAsync();
            if (App is not null)
                await App.DisposeAsync();
            await lab.DisposeAsync();
            File.Delete(payload);
        }
    }
}

using System.Diagnostics;
using System.Globalization;
using Spectre.Console;

namespace TransportComparison;

/// <summary>
/// A run, from the lab to the report. Both servers of a row live through all its rounds, and take turns.
/// </summary>
internal sealed class Comparison
{
    private const int CandidatePort = 8080, BaselinePort = 8081;

    // On an XDP side, the kernel's TCP may see one segment in so many requests: a stray reset, say. If one of 64
    // connections were on the companion socket, it would see one in 64.
    private const int RequestsPerStraySegment = 1000;

    // Load before the start that is worth a warning. It would take its share of the two cores that measure.
    private const double QuietLoad = 0.5;

    // The runtime compiles what is hot in the background. On a core that is never idle it hardly gets to that.
    private const int WarmupBurst = 2;
    private static readonly TimeSpan s_warmupPause = TimeSpan.FromMilliseconds(300);

    // Columns the table needs where the output is not a terminal.
    private const int TableWidth = 140;

    private readonly Plan _plan;
    private readonly Lab _lab;
    private readonly Client _client;
    private readonly Side _candidate, _baseline;

    private Comparison(Plan plan, Lab lab, string baselineApp)
    {
        _plan = plan;
        _lab = lab;
        _client = new Client(lab, plan);
        _candidate = new Side("candidate", plan.Candidate, Checkout.App(plan.Root), lab.Link(0), CandidatePort);
        _baseline = new Side("baseline", plan.Baseline, baselineApp, lab.Link(1), BaselinePort);
    }

    public static async Task<int> Run(Plan plan, CancellationToken cancellation)
    {
        int cores = Environment.ProcessorCount;
        bool isOneCore = plan.ServerCpu is not null && plan.ServerCpu == plan.ClientCpu;
        if (plan.ServerCpu >= cores || plan.ClientCpu >= cores || isOneCore)
        {
            Console.Error.WriteLine($"perf/compare: servers and client need a core each; this machine has {cores}");
            return 1;
        }

        if (Console.IsOutputRedirected)
        {
            AnsiConsole.Profile.Width = TableWidth;
            AnsiConsole.Profile.Capabilities.Ansi = false;
        }

        try
        {
            // Before the build, which is a load of its own.
            if (Load() is > QuietLoad and var load)
            {
                AnsiConsole.MarkupLineInterpolated(
                    $"[yellow]this machine is busy (load {load:0.0}): ratios will be less exact than they could be[/]");
            }

            string baselineApp = plan.BaselineRoot == plan.Root
                ? Checkout.App(plan.Root)
                : await Checkout.Build(plan.Root, plan.BaselineRoot, cancellation);
            await using var lab = new Lab(plan.Root);
            await lab.Up(cancellation, "direct", "--links", "2");
            // Figures of different machines, and checkouts, are of the same algorithm.
            await lab.UseCubic(lab.Link(0), cancellation);
            await lab.UseCubic(lab.Link(1), cancellation);
            var comparison = new Comparison(plan, lab, baselineApp);
            await comparison._client.Prepare(cancellation);
            return await comparison.Measure(cancellation);
        }
        catch (MeasurementException e)
        {
            Console.Error.WriteLine($"perf/compare: {e.Message}");
            return 1;
        }
        catch (OperationCanceledException)
        {
            return 130;
        }
    }

    private static double Load() =>
        double.Parse(File.ReadAllText("/proc/loadavg").Split(' ')[0], CultureInfo.InvariantCulture);

    private async Task<int> Measure(CancellationToken cancellation)
    {
        string cores = _plan.ServerCpu is { } cpu
            ? $"servers on core {cpu}, client on core {_plan.ClientCpu}"
            : "servers and client on all cores";
        AnsiConsole.WriteLine(
            $"{_plan.WarmupSeconds} s to warm up each server, "
            + $"then {_plan.Rounds} rounds of {_plan.Seconds} s each; {cores}");
        List<Row> rows = [];
        try
        {
            var planned = _plan.Scenarios.SelectMany(
                _ => _plan.Scheduling, (scenario, scheduling) => new Row(scenario, scheduling));
            foreach (var row in planned)
            {
                await Measure(row, cancellation);
                rows.Add(row);
                if (_plan.Json is { } json)
                    Report.Write(json, _plan, _candidate, _baseline, rows);
            }
        }
        finally
        {
            // When a row fails, those before it are still worth a report.
            if (rows.Count > 0)
                Report.Print(_plan, _candidate, _baseline, rows);
        }

        double worst = rows.Min(row => row.Ratio(sample => sample.RequestsPerSecond)!.Value);
        if (worst < _plan.AtLeast)
        {
            AnsiConsole.MarkupLineInterpolated($"[red]a ratio of {worst:0.00} is below {_plan.AtLeast:0.00}[/]");
            return 1;
        }

        return 0;
    }

    /// <summary>All rounds of a row. The server that is not measured has no connections.</summary>
    private async Task Measure(Row row, CancellationToken cancellation)
    {
        var scenario = row.Scenario;
        AnsiConsole.WriteLine(
            $"{scenario.Name}, {row.Scheduling} scheduling: {_client.Tool(scenario)}, "
            + $"{scenario.Connections} connections, {scenario.Path}");
        await using var candidate = await StartServer(_candidate, row, cancellation);
        await using var baseline = await StartServer(_baseline, row, cancellation);
        (Side Side, Server Server, List<Sample> Samples)[] sides =
            [(_candidate, candidate, row.Candidate), (_baseline, baseline, row.Baseline)];
        for (int warm = 0; warm < _plan.WarmupSeconds; warm += WarmupBurst)
        {
            foreach (var (_, server, _) in sides)
            {
                await _client.Run(scenario, server, WarmupBurst, cancellation);
                await Task.Delay(s_warmupPause, cancellation);
            }
        }

        for (int round = 0; round < _plan.Rounds; round++)
        {
            for (int i = 0; i < sides.Length; i++)
            {
                var (side, server, samples) = sides[(i + round) % sides.Length];
                var sample = await Measure(scenario, side, server, cancellation);
                samples.Add(sample);
                AnsiConsole.WriteLine(
                    $"{round + 1}/{_plan.Rounds} {side.Name,-10}{side.Transport,-8}{Report.Line(sample)}");
            }
        }
    }

    private Task<Server> StartServer(Side side, Row row, CancellationToken cancellation) =>
        Server.Start(_lab, _plan, _client, side, row.Scenario.Endpoint, row.Scheduling, cancellation);

    private async Task<Sample> Measure(Scenario scenario, Side side, Server server, CancellationToken cancellation)
    {
        await server.AssertPath(cancellation);

        long allocated = await server.AllocatedBytes(cancellation);
        var cpu = server.CpuTime();
        long kernelSegments = server.KernelSegmentsIn();
        var clock = Stopwatch.StartNew();
        var load = await _client.Run(scenario, server, _plan.Seconds, cancellation);
        var elapsed = clock.Elapsed;
        kernelSegments = server.KernelSegmentsIn() - kernelSegments;
        cpu = server.CpuTime() - cpu;
        allocated = await server.AllocatedBytes(cancellation) - allocated;

        await server.AssertPath(cancellation);
        if (side.Transport == "xdp" && kernelSegments > load.Requests / RequestsPerStraySegment)
        {
            throw new MeasurementException(
                $"the kernel's TCP took in {kernelSegments} segments, but {load.Requests} requests should go over XDP");
        }

        return new Sample(
            load.RequestsPerSecond,
            load.P50,
            load.P99,
            cpu.TotalMicroseconds / load.Requests,
            cpu / elapsed,
            (double)allocated / load.Requests,
            load.Failures);
    }
}

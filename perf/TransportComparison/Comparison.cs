using System.Diagnostics;
using System.Globalization;
using Spectre.Console;

namespace TransportComparison;

/// <param name="Side">Candidate or baseline; both may be the same transport.</param>
/// <param name="Scheduling"><c>default</c> or <c>inline</c>.</param>
internal sealed record Leg(string Side, string Transport, string Scheduling);

/// <param name="CpuPerRequest">Processor time of the server, in microseconds per request. What softirqs do on the server's core counts only
/// when they interrupted the server itself.</param>
/// <param name="CpuShare">How busy the server kept its core, 0 to 1.</param>
internal sealed record Sample(double RequestsPerSecond, double P50, double P99, double CpuPerRequest, double CpuShare);

internal static class Comparison
{
    // One segment in the kernel's TCP for so many requests is let pass in an XDP leg (a stray reset, say). Were a single one of 64
    // connections on the companion socket, it would be one for every 64.
    private const int RequestsPerStraySegment = 1000;

    // Two cores that are both busy measuring make a load of 2; what runs beside it before the start takes from the result.
    private const double QuietLoad = 0.5;

    // The runtime compiles what is hot in the background, and on a core that is busy without a pause it hardly gets to it.
    private const int WarmupBurst = 2;
    private static readonly TimeSpan s_warmupPause = TimeSpan.FromMilliseconds(300);

    // Columns the table needs where the output is not a terminal.
    private const int TableWidth = 120;

    public static async Task<int> Run(Plan plan, CancellationToken cancellation)
    {
        if (Math.Max(plan.ServerCpu, plan.ClientCpu) >= Environment.ProcessorCount || plan.ServerCpu == plan.ClientCpu)
        {
            Console.Error.WriteLine($"perf/compare: server and client need a core each; this machine has {Environment.ProcessorCount}");
            return 1;
        }

        if (Console.IsOutputRedirected)
        {
            AnsiConsole.Profile.Width = TableWidth;
            AnsiConsole.Profile.Capabilities.Ansi = false;
        }

        if (double.Parse(File.ReadAllText("/proc/loadavg").Split(' ')[0], CultureInfo.InvariantCulture) is > QuietLoad and var load)
            AnsiConsole.MarkupLineInterpolated($"[yellow]this machine is busy (load {load:0.0}): ratios will be less exact than they could be[/]");

        try
        {
            await using var lab = new Lab(plan.Root);
            await lab.Up(cancellation);
            return await Measure(plan, lab, cancellation);
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

    private static async Task<int> Measure(Plan plan, Lab lab, CancellationToken cancellation)
    {
        var generator = new LoadGenerator(lab, plan);
        List<Leg> legs = [.. plan.Scheduling.SelectMany(mode => (Leg[])[new("candidate", plan.Candidate, mode), new("baseline", plan.Baseline, mode)])];
        var samples = legs.ToDictionary(leg => leg, _ => new List<Sample>());

        AnsiConsole.MarkupLineInterpolated($"{generator.Name}, {plan.Connections} connections, {plan.Path}: {plan.WarmupSeconds} s to warm up each server, then {plan.Rounds} rounds of {plan.Seconds} s each; servers on core {plan.ServerCpu}, client on core {plan.ClientCpu}");
        foreach (string mode in plan.Scheduling)
            await MeasureMode(plan, lab, generator, [.. legs.Where(leg => leg.Scheduling == mode)], samples, cancellation);

        Report.Print(plan, legs, samples);
        double worst = plan.Scheduling.Min(mode => Report.Ratio(legs, samples, mode, sample => sample.RequestsPerSecond));
        if (worst < plan.AtLeast)
        {
            AnsiConsole.MarkupLineInterpolated($"[red]a ratio of {worst:0.00} is below {plan.AtLeast:0.00}[/]");
            return 1;
        }

        return 0;
    }

    /// <summary>Both servers live through all rounds: what is compiled by then stays compiled. The one that is not measured has no connections.</summary>
    private static async Task MeasureMode(Plan plan, Lab lab, LoadGenerator generator, Leg[] legs, Dictionary<Leg, List<Sample>> samples, CancellationToken cancellation)
    {
        await using var first = await Server.Start(lab, plan, legs[0], cancellation);
        await using var second = await Server.Start(lab, plan, legs[1], cancellation);
        Server[] servers = [first, second];
        for (int warm = 0; warm < plan.WarmupSeconds; warm += WarmupBurst)
        {
            foreach (Server server in servers)
            {
                await generator.Run(server.Url, WarmupBurst, cancellation);
                await Task.Delay(s_warmupPause, cancellation);
            }
        }
        for (int round = 0; round < plan.Rounds; round++)
        {
            for (int i = 0; i < legs.Length; i++)
            {
                int turn = (i + round) % legs.Length;
                Leg leg = legs[turn];
                var sample = await MeasureLeg(plan, generator, leg, servers[turn], cancellation);
                samples[leg].Add(sample);
                AnsiConsole.MarkupLineInterpolated($"[grey]{round + 1}/{plan.Rounds}[/] {leg.Transport,-8}{leg.Scheduling,-8}{sample.RequestsPerSecond,10:N0} requests/s  p50 {sample.P50,6:N0} µs  p99 {sample.P99,6:N0} µs");
            }
        }
    }

    private static async Task<Sample> MeasureLeg(Plan plan, LoadGenerator generator, Leg leg, Server server, CancellationToken cancellation)
    {
        await server.AssertPath(cancellation);

        var cpu = server.CpuTime();
        long kernelSegments = server.KernelSegmentsIn();
        var clock = Stopwatch.StartNew();
        var load = await generator.Run(server.Url, plan.Seconds, cancellation);
        var elapsed = clock.Elapsed;
        kernelSegments = server.KernelSegmentsIn() - kernelSegments;
        cpu = server.CpuTime() - cpu;

        await server.AssertPath(cancellation);
        if (leg.Transport == "xdp" && kernelSegments > load.Requests / RequestsPerStraySegment)
            throw new MeasurementException($"the kernel's TCP took {kernelSegments} segments in while {load.Requests} requests were to go over XDP");
        return new Sample(load.RequestsPerSecond, load.P50, load.P99, cpu.TotalMicroseconds / load.Requests, cpu / elapsed);
    }
}

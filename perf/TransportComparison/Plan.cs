using System.CommandLine;

namespace TransportComparison;

/// <summary>What to measure, from the command line.</summary>
internal sealed record Plan
{
    public required string Root { get; init; }
    public required int Rounds { get; init; }
    public required int Seconds { get; init; }
    public required int WarmupSeconds { get; init; }
    public required int Connections { get; init; }
    public required string Path { get; init; }
    public required string Tool { get; init; }
    public required string[] Scheduling { get; init; }

    /// <summary>Measured against <see cref="Baseline"/>. The same transport on both sides shows how much of a ratio is noise.</summary>
    public required string Candidate { get; init; }

    public required string Baseline { get; init; }
    public required int ServerCpu { get; init; }
    public required int ClientCpu { get; init; }
    public required double? AtLeast { get; init; }

    public static int Parse(string[] args, Func<Plan, CancellationToken, Task<int>> run)
    {
        var root = new Option<string>("--root") { Hidden = true, DefaultValueFactory = _ => Environment.CurrentDirectory };
        var rounds = Number("--rounds", "rounds; each measures every leg once", 5);
        var seconds = Number("--seconds", "seconds measured per leg and round", 5);
        var warmup = Number("--warmup", "seconds of load that each server gets first: on one core the runtime takes its time to compile what is hot", 24);
        var connections = Number("--connections", "connections the client keeps busy", 64);
        var path = new Option<string>("--path") { Description = "what is requested", DefaultValueFactory = _ => "/plaintext" };
        var tool = new Option<string>("--tool") { Description = "load generator; auto is bombardier where it is on PATH, else wrk", DefaultValueFactory = _ => "auto" };
        tool.AcceptOnlyFromAmong("auto", "wrk", "bombardier");
        var scheduling = new Option<string>("--scheduling") { Description = "default, inline or both", DefaultValueFactory = _ => "both" };
        scheduling.AcceptOnlyFromAmong("default", "inline", "both");
        var candidate = new Option<string>("--candidate") { Description = "the transport that is compared", DefaultValueFactory = _ => "xdp" };
        candidate.AcceptOnlyFromAmong("xdp", "sockets");
        var baseline = new Option<string>("--baseline") { Description = "the transport it is compared with", DefaultValueFactory = _ => "sockets" };
        baseline.AcceptOnlyFromAmong("xdp", "sockets");
        var serverCpu = new Option<int>("--server-cpu") { Description = "core the server is pinned to", DefaultValueFactory = _ => 0 };
        var clientCpu = new Option<int>("--client-cpu") { Description = "core the client is pinned to", DefaultValueFactory = _ => 1 };
        var atLeast = new Option<double?>("--at-least") { Description = "exit 1 when the ratio of requests/s is below this in any mode" };

        var command = new RootCommand("Measures HelloWeb on two transports, interleaved in one run.")
        {
            root, rounds, seconds, warmup, connections, path, tool, scheduling, candidate, baseline, serverCpu, clientCpu, atLeast,
        };
        command.Validators.Add(result =>
        {
            if (result.GetValue(candidate) == "xdp" && result.GetValue(baseline) == "xdp")
                result.AddError("both sides on xdp: an interface has room for one XDP program");
        });
        command.SetAction((parsed, cancellation) => run(
            new Plan
            {
                Root = parsed.GetRequiredValue(root),
                Rounds = parsed.GetValue(rounds),
                Seconds = parsed.GetValue(seconds),
                WarmupSeconds = parsed.GetValue(warmup),
                Connections = parsed.GetValue(connections),
                Path = parsed.GetRequiredValue(path),
                Tool = parsed.GetRequiredValue(tool),
                Scheduling = parsed.GetValue(scheduling) == "both" ? ["default", "inline"] : [parsed.GetRequiredValue(scheduling)],
                Candidate = parsed.GetRequiredValue(candidate),
                Baseline = parsed.GetRequiredValue(baseline),
                ServerCpu = parsed.GetValue(serverCpu),
                ClientCpu = parsed.GetValue(clientCpu),
                AtLeast = parsed.GetValue(atLeast),
            },
            cancellation));
        return command.Parse(args).InvokeAsync(new InvocationConfiguration { ProcessTerminationTimeout = TimeSpan.FromSeconds(30) })
            .GetAwaiter().GetResult();
    }

    private static Option<int> Number(string name, string description, int standard)
    {
        var option = new Option<int>(name) { Description = description, DefaultValueFactory = _ => standard };
        option.Validators.Add(result =>
        {
            if (result.GetValueOrDefault<int>() < 1)
                result.AddError($"{name} must be at least 1");
        });
        return option;
    }
}

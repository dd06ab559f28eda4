using System.CommandLine;

namespace TransportComparison;

/// <summary>What to measure, from the command line.</summary>
internal sealed record Plan
{
    public required string Root { get; init; }

    /// <summary>The checkout that the baseline's transport comes from.</summary>
    /// <remarks>With the same checkout and transport on both sides, the ratio shows the noise.</remarks>
    public required string BaselineRoot { get; init; }

    /// <summary><c>xdp</c> or <c>sockets</c>.</summary>
    public required string Candidate { get; init; }

    public required string Baseline { get; init; }
    public required IReadOnlyList<Scenario> Scenarios { get; init; }

    /// <summary><c>default</c> and <c>inline</c>, or one of them.</summary>
    public required string[] Scheduling { get; init; }

    public required int Rounds { get; init; }
    public required int Seconds { get; init; }
    public required int WarmupSeconds { get; init; }
    public required string Tool { get; init; }

    /// <summary>The core of the servers; null leaves them all.</summary>
    public required int? ServerCpu { get; init; }

    public required int? ClientCpu { get; init; }
    public required double? AtLeast { get; init; }
    public required string? Json { get; init; }

    public static int Parse(string[] args, Func<Plan, CancellationToken, Task<int>> run)
    {
        var root = new Option<string>("--root")
        {
            Hidden = true,
            DefaultValueFactory = _ => Environment.CurrentDirectory,
        };
        var candidate = new Option<string>("--candidate")
        {
            Description = "the transport that is compared",
            DefaultValueFactory = _ => "xdp",
        };
        candidate.AcceptOnlyFromAmong("xdp", "sockets");
        var baseline = new Option<string?>("--baseline")
        {
            Description = "the transport it is compared with [default: sockets; with --baseline-root the candidate's]",
        };
        baseline.AcceptOnlyFromAmong("xdp", "sockets");
        var baselineRoot = new Option<string?>("--baseline-root")
        {
            Description = "the checkout that the baseline's transport comes from; this checkout's HelloWeb is built "
                + "on it [default: this checkout]",
            HelpName = "DIR",
        };
        var scenario = new Option<string>("--scenario")
        {
            Description = $"what the clients do: {Scenario.Names}",
            HelpName = "NAME[,NAME…]|all",
            DefaultValueFactory = _ => Scenario.Default,
        };
        var path = new Option<string?>("--path")
        {
            Description = "instead of a scenario: GET this path, on connections that stay [default: /plaintext]",
        };
        var connections = Number<int?>(
            "--connections", "instead of a scenario: so many connections [default: 64]", null);
        var scheduling = new Option<string>("--scheduling")
        {
            Description = "default, inline or both",
            DefaultValueFactory = _ => "both",
        };
        scheduling.AcceptOnlyFromAmong("default", "inline", "both");
        var rounds = Number("--rounds", "rounds; each measures both sides once", 5);
        var seconds = Number("--seconds", "seconds measured per side and round", 5);
        const string warmupHelp = "seconds of load that each server gets first: "
            + "on one core the runtime takes its time to compile what is hot";
        var warmup = Number("--warmup", warmupHelp, 24);
        var tool = new Option<string>("--tool")
        {
            Description =
                "load generator where both can do the scenario; auto is bombardier where it is on PATH, else wrk",
            DefaultValueFactory = _ => "auto",
        };
        tool.AcceptOnlyFromAmong("auto", "wrk", "bombardier");
        var serverCpu = new Option<int>("--server-cpu")
        {
            Description = "core the servers are pinned to",
            DefaultValueFactory = _ => 0,
        };
        var clientCpu = new Option<int>("--client-cpu")
        {
            Description = "core the client is pinned to",
            DefaultValueFactory = _ => 1,
        };
        var unpinned = new Option<bool>("--unpinned") { Description = "leave servers and client all cores" };
        var atLeast = new Option<double?>("--at-least")
        {
            Description = "exit 1 when the ratio of requests/s is below this in any row",
        };
        var json = new Option<string?>("--json")
        {
            Description = "write samples and medians to FILE",
            HelpName = "FILE",
        };

        scenario.Validators.Add(result =>
        {
            if (Scenario.Parse(result.GetRequiredValue(scenario), out var unknown).Count == 0 || unknown.Count > 0)
                result.AddError($"--scenario: '{string.Join(',', unknown)}' is none of {Scenario.Names}");
        });
        baselineRoot.Validators.Add(result =>
        {
            string? directory = result.GetValue(baselineRoot);
            if (directory is not null && !File.Exists(Path.Combine(directory, Checkout.TransportProject)))
                result.AddError($"--baseline-root: '{directory}' has no {Checkout.TransportProject}");
        });

        const string help = "Measures HelloWeb on two transports, or on the transports of two checkouts, interleaved "
            + "in one run. Each side has a network interface to itself.";
        var command = new RootCommand(help)
        {
            root, candidate, baseline, baselineRoot, scenario, path, connections, scheduling,
            rounds, seconds, warmup, tool, serverCpu, clientCpu, unpinned, atLeast, json,
        };
        command.Validators.Add(result =>
        {
            bool isAdHoc = result.GetResult(path) is not null || result.GetResult(connections) is not null;
            if (isAdHoc && result.GetResult(scenario) is { Implicit: false })
                result.AddError("--path and --connections make a scenario of their own; give --scenario or these");
            bool hasCores = result.GetResult(serverCpu) is { Implicit: false }
                || result.GetResult(clientCpu) is { Implicit: false };
            if (hasCores && result.GetValue(unpinned))
                result.AddError("--unpinned contradicts --server-cpu and --client-cpu");
        });
        command.SetAction((parsed, cancellation) => run(
            new Plan
            {
                Root = parsed.GetRequiredValue(root),
                BaselineRoot = Path.GetFullPath(parsed.GetValue(baselineRoot) ?? parsed.GetRequiredValue(root)),
                Candidate = parsed.GetRequiredValue(candidate),
                Baseline = parsed.GetValue(baseline)
                    ?? (parsed.GetValue(baselineRoot) is null ? "sockets" : parsed.GetRequiredValue(candidate)),
                Scenarios = parsed.GetValue(path) is null && parsed.GetValue(connections) is null
                    ? Scenario.Parse(parsed.GetRequiredValue(scenario), out _)
                    : [Scenario.AdHoc(parsed.GetValue(path) ?? "/plaintext", parsed.GetValue(connections) ?? 64)],
                Scheduling = parsed.GetValue(scheduling) == "both"
                    ? ["default", "inline"]
                    : [parsed.GetRequiredValue(scheduling)],
                Rounds = parsed.GetValue(rounds),
                Seconds = parsed.GetValue(seconds),
                WarmupSeconds = parsed.GetValue(warmup),
                Tool = parsed.GetRequiredValue(tool),
                ServerCpu = parsed.GetValue(unpinned) ? null : parsed.GetValue(serverCpu),
                ClientCpu = parsed.GetValue(unpinned) ? null : parsed.GetValue(clientCpu),
                AtLeast = parsed.GetValue(atLeast),
                Json = parsed.GetValue(json),
            },
            cancellation));
        var invocation = new InvocationConfiguration { ProcessTerminationTimeout = TimeSpan.FromSeconds(30) };
        return command.Parse(args).InvokeAsync(invocation).GetAwaiter().GetResult();
    }

    private static Option<int> Number(string name, string description, int standard) =>
        Number<int>(name, description, standard);

    private static Option<T> Number<T>(string name, string description, T standard)
    {
        var option = new Option<T>(name) { Description = description, DefaultValueFactory = _ => standard };
        option.Validators.Add(result =>
        {
            if (result.GetValueOrDefault<T>() is int and < 1)
                result.AddError($"{name} must be at least 1");
        });
        return option;
    }
}

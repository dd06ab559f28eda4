using TransportComparison.Generators;

namespace TransportComparison;

/// <summary>The client's end: load generators and single requests, on its core.</summary>
internal sealed class Client(Lab lab, Plan plan)
{
    // With a connection for each request, the client's ports stay in TIME-WAIT for a minute where it closes first.
    // Within seconds it would have none left, and the measurement would show how long connect() looks for one.
    private const string PlentyOfPorts = """
        echo 1024 65535 >/proc/sys/net/ipv4/ip_local_port_range
        echo 1 >/proc/sys/net/ipv4/tcp_tw_reuse
        """;

    /// <summary>Makes the client's namespace ready.</summary>
    public Task Prepare(CancellationToken cancellation) => Output(["sh", "-ec", PlentyOfPorts], cancellation);

    public string Tool(Scenario scenario) => Generator(scenario).Name;

    /// <exception cref="MeasurementException">More requests failed than the scenario lets pass.</exception>
    public async Task<Load> Run(Scenario scenario, Server server, int seconds, CancellationToken cancellation)
    {
        var generator = Generator(scenario);
        string report = await Output(generator.Command(server.Url(scenario.Path), seconds), cancellation);
        var load = Parse(generator, report);
        if (load.Requests == 0 || load.Failures > load.Requests * scenario.TolerableFailures)
        {
            throw new MeasurementException(
                $"{load.Requests} requests were answered and {load.Failures} failed\n{report}");
        }
        return load;
    }

    /// <summary>The answer to one request, on a connection of its own, by the protocol that is measured.</summary>
    public Task<string> Get(Server server, string path, CancellationToken cancellation)
    {
        string[] protocol = server.Endpoint switch
        {
            Endpoint.Https => ["--insecure"],
            Endpoint.H2c => ["--http2-prior-knowledge"],
            _ => [],
        };
        return Output(["curl", "-sS", "--fail", "--max-time", "10", .. protocol, server.Url(path)], cancellation);
    }

    private ILoadGenerator Generator(Scenario scenario) => scenario.Pattern switch
    {
        Pattern.Streams => new H2Load(scenario),
        Pattern.KeepAlive when plan.Tool == "bombardier" || (plan.Tool == "auto" && OnPath("bombardier")) =>
            new Bombardier(scenario),
        _ => new Wrk(scenario, Path.Combine(plan.Root, "perf/pipelined.lua")),
    };

    private Task<string> Output(string[] command, CancellationToken cancellation)
    {
        var start = plan.ClientCpu is { } cpu ? lab.Command("client", cpu, command) : lab.Command("client", command);
        return lab.Output(start, cancellation);
    }

    private static Load Parse(ILoadGenerator generator, string report)
    {
        try
        {
            return generator.Parse(report);
        }
        catch (FormatException e)
        {
            throw new MeasurementException($"the report of {generator.Name} is not as it was: {e.Message}");
        }
    }

    private static bool OnPath(string tool) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':')
            .Any(directory => File.Exists(Path.Combine(directory, tool)));
}

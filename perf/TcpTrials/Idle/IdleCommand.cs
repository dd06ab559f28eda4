using System.CommandLine;
using System.Globalization;
using Spectre.Console;
using TransportComparison;

namespace TcpTrials.Idle;

/// <summary>
/// Measures what an idle connection costs, as the slope between a few connections and many. Also checks that nothing is
/// left when all have closed.
/// </summary>
internal static class IdleCommand
{
    private const int Few = 5000;

    // Frames in these states are with a connection. An idle one has none.
    private static readonly string[] s_heldStates = ["application", "writing", "send_queue", "rx"];

    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(300);
    private static readonly TimeSpan s_settle = TimeSpan.FromSeconds(3);

    private sealed record State(long GcBytes, long ResidentBytes, long HandlerBytes, Dictionary<string, long> Gauges);

    public static Command Create()
    {
        var root = Trial.Root();
        var connections = Trial.Option("--connections", "idle connections", 50_000);
        var modes = Trial.Some("--mode", "bare", "http");
        var transports = Trial.Some("--transport", "xdp", "sockets");
        var command = new Command("idle", "Memory per idle connection.") { root, connections, modes, transports };
        command.SetAction((parsed, cancellation) => Trial.Run("perf/idle", () => Run(
            parsed.GetRequiredValue(root),
            parsed.GetValue(connections),
            parsed.GetRequiredValue(modes),
            parsed.GetRequiredValue(transports),
            cancellation)));
        return command;
    }

    private static async Task<int> Run(
        string root, int connections, string[] modes, string[] transports, CancellationToken cancellation)
    {
        if (connections <= Few)
            throw new MeasurementException($"--connections {connections}: more than {Few} are needed");
        await using var lab = new Lab(root);
        await lab.Up(cancellation);
        const string manyPorts = "echo 1024 65535 >/proc/sys/net/ipv4/ip_local_port_range";
        await lab.Output(lab.Command("client", "sh", "-ec", manyPorts), cancellation);
        var table = new Table().Title($"Bytes per idle connection, between {Few:N0} and {connections:N0}");
        table.AddColumns(
            "server",
            "transport",
            "GC",
            "handler",
            "native",
            "frames held",
            "connections",
            "open after close",
            "half-open after close");
        bool clean = true;
        foreach (string mode in modes)
        {
            foreach (string transport in transports)
            {
                var (few, many, after) = await Measure(lab, transport, mode, connections, cancellation);
                int more = Count(transport, connections) - Few;
                double gc = (double)(many.GcBytes - few.GcBytes) / more;
                double all = (double)(many.ResidentBytes - few.ResidentBytes) / more;
                long held = s_heldStates.Sum(state => many.Gauges.GetValueOrDefault($"frames:{state}"));
                long open = many.Gauges.GetValueOrDefault("connections:open");
                long left = after.Gauges.GetValueOrDefault("connections:open");
                clean &= held == 0 && left == 0;
                if (transport == "xdp" && open != more + Few)
                    throw new MeasurementException($"of {more + Few} connections only {open} are on XDP");
                table.AddRow(
                    mode == "bare" ? "the transport alone" : "Kestrel, HTTP/1.1",
                    transport,
                    Number(gc),
                    mode == "bare" ? Number(many.HandlerBytes) : "",
                    Number(Math.Max(0, all - gc)),
                    $"{held}",
                    $"{more + Few}",
                    $"{left}",
                    $"{after.Gauges.GetValueOrDefault("connections:half_open")}");
            }
        }

        table.Caption("handler: the part of GC that is not the transport's, but the loop's that serves a connection");
        AnsiConsole.Write(table);
        return clean ? 0 : 1;
    }

    private static async Task<(State Few, State Many, State After)> Measure(
        Lab lab, string transport, string mode, int connections, CancellationToken cancellation)
    {
        await using var server = LabProcess.Start(lab.Command(
            "server", Trial.Self("idle-server", "--transport", transport, "--mode", mode)));
        await server.Line("ready", s_patience, cancellation);
        var clients = new List<LabProcess>();
        try
        {
            int count = Count(transport, connections);
            const int most = ManyConnections.MostPerProcess;
            for (int i = 0; i * most < count; i++)
            {
                clients.Add(LabProcess.Start(lab.Command(
                    "client", Trial.Self("idle-client", "--target", $"{lab.ServerAddress}:{IdleServer.Port}"))));
                await clients[i].Line("ready", s_patience, cancellation);
            }

            // The first connections also cause code to be compiled, and the runtime to take memory that it keeps. They
            // are not measured.
            await Open(clients[0], Few, cancellation);
            await Close(clients[0], cancellation);
            await Open(clients[0], Few, cancellation);
            var few = await Read(server, cancellation);
            for (int i = 0; i < clients.Count; i++)
                await Open(clients[i], Math.Min(most, count - i * most), cancellation);
            var many = await Read(server, cancellation);
            foreach (var client in clients)
                await Close(client, cancellation);

            // A FIN that was lost is sent again. That may take seconds.
            var after = await Read(server, cancellation);
            for (int i = 0; i < 10 && after.Gauges.GetValueOrDefault("connections:open") > 0; i++)
                after = await Read(server, cancellation);
            return (few, many, after);
        }
        finally
        {
            foreach (var client in clients)
                await client.DisposeAsync();
        }
    }

    private static int Count(string transport, int connections) =>
        transport == "xdp" ? connections : Math.Min(connections, ManyConnections.MostPerProcess);

    private static async Task Open(LabProcess client, int connections, CancellationToken cancellation)
    {
        client.Send($"{connections}");
        if (await client.Line("connected", s_patience, cancellation) is var answer && answer != $"{connections} 0")
            throw new MeasurementException($"of {connections} connections: {answer} (open, failed)");
    }

    private static async Task Close(LabProcess client, CancellationToken cancellation)
    {
        client.Send("close");
        await client.Line("closed", s_patience, cancellation);
    }

    private static async Task<State> Read(LabProcess server, CancellationToken cancellation)
    {
        await Task.Delay(s_settle, cancellation);
        server.Send("measure");
        string line = await server.Line("measure", s_patience, cancellation);
        string[] words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        return new State(
            long.Parse(words[0], CultureInfo.InvariantCulture),
            server.ResidentBytes,
            long.Parse(words[1], CultureInfo.InvariantCulture),
            words[2..].Select(word => word.Split('=')).ToDictionary(
                pair => pair[0], pair => long.Parse(pair[1], CultureInfo.InvariantCulture)));
    }

    private static string Number(double value) => value.ToString("N0", CultureInfo.InvariantCulture);
}

using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Spectre.Console;
using TransportComparison;
using Xdp.TcpLite;

namespace TcpTrials.Orphans;

/// <summary>A way in which a client keeps a connection that the app has closed.</summary>
/// <param name="Name">For the command line.</param>
/// <param name="Description">For the table.</param>
/// <param name="Request">What it sends, without the empty line at the end.</param>
/// <param name="Uploads">Whether it goes on with a body.</param>
internal sealed record OrphanCase(string Name, string Description, string Request, bool Uploads)
{
    private const string Fields = "HTTP/1.1\r\nHost: lab";

    // More than any client sends here. The app takes 1 MB at this path, and answers 413.
    private const string Endless = "Content-Length: 1000000000000";

    public static IReadOnlyList<OrphanCase> All { get; } =
    [
        new("response", "60 kB written, window 0", $"GET /bytes/60000 {Fields}\r\nConnection: close", false),
        new("upload", "upload after 413", $"POST /upload/small {Fields}\r\n{Endless}", true),
    ];
}

/// <summary>
/// Measures what connections hold that the app has closed while their peers neither read nor cease to send, and how
/// long they last.
/// </summary>
internal static class OrphansCommand
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(120);
    private static readonly TimeSpan s_settle = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan s_pause = TimeSpan.FromMilliseconds(250);
    private static readonly JsonSerializerOptions s_json = new(JsonSerializerDefaults.Web) { WriteIndented = true };

    // What the stack lets closed connections hold, all together.
    private static readonly long s_payload = new TcpStackOptions().OrphanMemory;

    // What a client may cost besides: what Kestrel and the transport have for a connection, and garbage.
    private const int ClientBytes = 12_000;

    // Frames in these states are nobody's.
    private static readonly string[] s_atHome = ["kestrel.xdp.frames/free", "kestrel.xdp.frames/fill"];

    /// <param name="Connections">Not counting those in TIME-WAIT.</param>
    /// <param name="Orphans">Those that the app has closed.</param>
    /// <param name="ResidentBytes">The process's memory.</param>
    /// <param name="KernelBytes">What the kernel holds for its sockets.</param>
    /// <param name="FramesHeld">Frames that are not at home.</param>
    /// <param name="HeapBlocks">Pages of heap memory that hold payload.</param>
    private sealed record State(
        int Connections, int Orphans, long ResidentBytes, long KernelBytes, long FramesHeld, long HeapBlocks)
    {
        public bool IsHome => FramesHeld == 0 && HeapBlocks == 0;
    }

    /// <param name="Before">With no connection.</param>
    /// <param name="Peak">The most of each that was seen.</param>
    /// <param name="After">When all were gone, or there was no more patience.</param>
    /// <param name="OpenSeconds">Until the last client had its answer.</param>
    /// <param name="Seconds">From there until all were gone; null when they were not.</param>
    /// <param name="Cut">Connections that the transport ended before their peers were done, by reason.</param>
    private sealed record Leg(
        string Case, string Transport, int Clients, State Before, State Peak, State After, double OpenSeconds,
        double? Seconds, Dictionary<string, double> Cut)
    {
        public int Left => After.Connections - Before.Connections;

        public bool IsClean => Seconds is not null && After.IsHome;

        /// <summary>What the connections took, of the process's memory and the kernel's.</summary>
        public long Growth => Peak.ResidentBytes - Before.ResidentBytes + Peak.KernelBytes - Before.KernelBytes;
    }

    public static Command Create()
    {
        var root = Trial.Root();
        var connections = Trial.Option("--connections", "clients of each case", 10_000);
        connections.Validators.Add(result =>
        {
            if (result.GetValueOrDefault<int>() is < 1 or > ManyConnections.MostPerProcess)
                result.AddError($"--connections: 1 to {ManyConnections.MostPerProcess}");
        });
        var cases = Trial.Some("--case", [.. OrphanCase.All.Select(one => one.Name)]);
        var transports = Trial.Some("--transport", "xdp", "sockets");
        var rate = Trial.Option("--rate", "bytes a second that all clients together upload", 20_000_000);
        var limit = Trial.Option("--limit", "seconds to wait until all connections of a case are gone", 900);
        var json = new Option<string?>("--json")
        {
            Description = "write what was measured to FILE",
            HelpName = "FILE",
        };
        var command = new Command("orphans", "Memory and time that closed connections take whose peers do not let go.")
        {
            root, connections, cases, transports, rate, limit, json,
        };
        command.SetAction((parsed, cancellation) => Trial.Run("perf/orphans", () => Run(
            parsed.GetRequiredValue(root),
            parsed.GetValue(connections),
            [.. OrphanCase.All.Where(one => parsed.GetRequiredValue(cases).Contains(one.Name))],
            parsed.GetRequiredValue(transports),
            parsed.GetValue(rate),
            TimeSpan.FromSeconds(parsed.GetValue(limit)),
            parsed.GetValue(json),
            cancellation)));
        return command;
    }

    private static async Task<int> Run(
        string root,
        int connections,
        OrphanCase[] cases,
        string[] transports,
        int rate,
        TimeSpan limit,
        string? json,
        CancellationToken cancellation)
    {
        AnsiConsole.MarkupLineInterpolated(
            $"{connections:N0} clients of each case, at most {limit.TotalSeconds:0} s until all connections are gone");
        var legs = new List<Leg>();
        foreach (var one in cases)
        {
            foreach (string transport in transports)
            {
                var leg = await Measure(root, one, transport, connections, rate, limit, cancellation);
                legs.Add(leg);
                AnsiConsole.WriteLine(string.Create(
                    CultureInfo.InvariantCulture,
                    $"{one.Name}, {transport}: opened in {leg.OpenSeconds:0.0} s, "
                    + $"{leg.Peak.Orphans} closed by the app and waiting at most, {leg.Left} left "
                    + $"after {leg.Seconds ?? limit.TotalSeconds:0.0} s"));
            }
        }

        if (json is not null)
            File.WriteAllText(json, JsonSerializer.Serialize(legs, s_json));
        return Report(legs) ? 0 : 1;
    }

    private static async Task<Leg> Measure(
        string root,
        OrphanCase one,
        string transport,
        int connections,
        int rate,
        TimeSpan limit,
        CancellationToken cancellation)
    {
        // An interface and namespaces of its own: what another leg has left behind does not count here.
        await using var lab = new Lab(root, $"-{transport}");
        await lab.Up(cancellation);
        await using var app = await App.Start(lab, root, transport, null, cancellation);
        await using var client = LabProcess.Start(lab.Command("client", Trial.Self(
            "orphans-client",
            "--target", $"{lab.ServerAddress}:8080",
            "--request", one.Request,
            "--connections", $"{connections}",
            "--rate", $"{(one.Uploads ? rate : 0)}")));
        await client.Line("ready", s_patience, cancellation);
        var (before, countersBefore) = await Read(lab, app, transport, cancellation);
        var peak = before;

        async Task<(State, Dictionary<string, double>)> Look()
        {
            var (state, counters) = await Read(lab, app, transport, cancellation);
            peak = new State(
                Math.Max(peak.Connections, state.Connections),
                Math.Max(peak.Orphans, state.Orphans),
                Math.Max(peak.ResidentBytes, state.ResidentBytes),
                Math.Max(peak.KernelBytes, state.KernelBytes),
                Math.Max(peak.FramesHeld, state.FramesHeld),
                Math.Max(peak.HeapBlocks, state.HeapBlocks));
            return (state, counters);
        }

        var opening = Stopwatch.StartNew();
        client.Send("open");
        var opened = client.Line("connected", s_patience, cancellation);
        while (!opened.IsCompleted)
            await Look();
        if (await opened is var answer && answer != $"{connections} 0")
            throw new MeasurementException($"of {connections} connections: {answer} (answered, failed)");
        double openSeconds = opening.Elapsed.TotalSeconds;
        var clock = Stopwatch.StartNew();
        var (after, counted) = await Look();
        if (transport == "xdp" && Accepted(counted) - Accepted(countersBefore) < connections)
            throw new MeasurementException($"not all of the {connections} connections are on XDP");
        while (after.Connections > before.Connections && clock.Elapsed < limit)
        {
            await Task.Delay(s_pause, cancellation);
            (after, counted) = await Look();
        }

        double seconds = clock.Elapsed.TotalSeconds;
        bool isGone = after.Connections <= before.Connections;
        // The turn in which the last one ended may still go on.
        for (clock.Restart(); isGone && !after.IsHome && clock.Elapsed < s_settle; (after, counted) = await Look())
            await Task.Delay(s_pause, cancellation);
        return new Leg(
            one.Description,
            transport,
            connections,
            before,
            peak,
            after,
            openSeconds,
            isGone ? seconds : null,
            counted.Where(pair => pair.Key.StartsWith("kestrel.xdp.connections.cut/", StringComparison.Ordinal))
                .ToDictionary(pair => pair.Key[(pair.Key.IndexOf('/') + 1)..], pair => pair.Value));
    }

    private static double Accepted(Dictionary<string, double> counters) =>
        counters.GetValueOrDefault("kestrel.xdp.connections.accepted");

    private static async Task<(State State, Dictionary<string, double> Counters)> Read(
        Lab lab, App app, string transport, CancellationToken cancellation)
    {
        var kernel = await KernelSockets.Read(lab, cancellation);
        Dictionary<string, double> counters = [];
        if (transport == "xdp")
            counters = await app.Counters(cancellation);
        double Count(string name) => counters.GetValueOrDefault($"kestrel.xdp.{name}");
        double frames = counters.Where(pair => pair.Key.StartsWith("kestrel.xdp.frames/", StringComparison.Ordinal))
            .Where(pair => !s_atHome.Contains(pair.Key)).Sum(pair => pair.Value);
        var state = new State(
            kernel.Connections + (int)(Count("connections/open") + Count("connections/half_open")),
            kernel.Orphans + (int)Count("connections.orphaned"),
            app.Process.ResidentBytes,
            kernel.Bytes,
            (long)frames,
            (long)Count("heap.blocks"));
        return (state, counters);
    }

    private static bool Report(List<Leg> legs)
    {
        var table = new Table().Title("Connections that the app has closed and whose peers do not let go: MB, s");
        table.AddColumns("clients", "transport");
        string[] columns =
        [
            "orphans\nat most", "process\nbefore", "process\npeak", "process\nafter", "kernel\npeak", "kernel\nafter",
            "gone\nafter s", "left", "frames\nheld", "heap\nblocks",
        ];
        foreach (string column in columns)
            table.AddColumn(new TableColumn(column).RightAligned());
        table.AddColumn("cut");
        foreach (var leg in legs)
        {
            table.AddRow(
                leg.Case,
                leg.Transport,
                $"{leg.Peak.Orphans}",
                Megabytes(leg.Before.ResidentBytes),
                Megabytes(leg.Peak.ResidentBytes),
                Megabytes(leg.After.ResidentBytes),
                Megabytes(leg.Peak.KernelBytes),
                Megabytes(leg.After.KernelBytes),
                leg.Seconds?.ToString("0.0", CultureInfo.InvariantCulture) ?? "never",
                $"{leg.Left}",
                $"{leg.After.FramesHeld}",
                $"{leg.After.HeapBlocks}",
                string.Join(", ", leg.Cut.Where(pair => pair.Value > 0).Select(pair => $"{pair.Value} {pair.Key}")));
        }

        table.Caption("frames, blocks: what is still held when all connections are gone");
        AnsiConsole.Write(table);
        List<(string What, bool Holds)> claims = [];
        foreach (var leg in legs.Where(leg => leg.Transport == "xdp"))
        {
            long most = s_payload + (long)leg.Clients * ClientBytes;
            claims.Add(($"{leg.Case}: all connections gone, all frames and blocks home", leg.IsClean));
            claims.Add((
                $"{leg.Case}: memory up by {Megabytes(leg.Growth)} MB, at most {Megabytes(most)}", leg.Growth <= most));
        }

        foreach (var (what, holds) in claims)
            AnsiConsole.WriteLine($"{(holds ? "holds" : "FAILS")}  {what}");
        return claims.All(claim => claim.Holds);
    }

    private static string Megabytes(long bytes) => (bytes / 1e6).ToString("0.0", CultureInfo.InvariantCulture);
}

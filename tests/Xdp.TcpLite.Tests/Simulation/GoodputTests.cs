using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;

namespace Xdp.TcpLite.Tests.Simulation;

/// <summary>
/// Goodput by loss, round trip and buffer of the bottleneck, compared with the committed table. The figures are exact,
/// since all is deterministic: a change of what is sent and when shows what it costs. GOODPUT_WRITE=1 writes the table
/// anew.
/// </summary>
public class GoodputTests
{
    private const long Bytes = 500_000;
    private const long Rate = 50_000_000;
    private const int Seeds = 2;
    private static readonly double[] s_losses = [0, 0.001, 0.01, 0.03, 0.05];
    private static readonly int[] s_roundTrips = [2, 20, 100];
    private static readonly int[] s_buffers = [16, 64, 256];

    // Of flows that always have something to send.
    private static readonly double[] s_steadyLosses = [0, 0.001, 0.01, 0.02];
    private static readonly int[] s_steadyRoundTrips = [20, 100];
    private static readonly double[] s_steadyBuffers = [0.1, 1, 4];
    private static readonly CongestionAlgorithm[] s_algorithms = [CongestionAlgorithm.Cubic, CongestionAlgorithm.Bbr];
    private const int SteadySeconds = 10;

    [Fact]
    public void Goodput_ByLossRoundTripAndBuffer_IsAsCommitted()
    {
        string actual = Table();
        string path = Path.Combine(Path.GetDirectoryName(ThisFile())!, "goodput.md");
        if (Environment.GetEnvironmentVariable("GOODPUT_WRITE") == "1")
            File.WriteAllText(path, actual);
        Assert.Equal(File.ReadAllText(path), actual);
    }

    private static string ThisFile([CallerFilePath] string path = "") => path;

    private static string Table()
    {
        var text = new StringBuilder();
        text.Append("# Goodput in simulation\n\n");
        text.Append(
            CultureInfo.InvariantCulture,
            $"Mbit/s of a transfer of {Bytes / 1000} kB over {Rate / 1_000_000} Mbit/s, handshake included. ");
        text.Append(CultureInfo.InvariantCulture, $"Mean of {Seeds} seeds.\n");
        text.Append("Burst: 1 % in bursts of 4. Compared on every run by `GoodputTests`; ");
        text.Append("`GOODPUT_WRITE=1` writes it anew.\n\n");
        text.Append("| round trip | buffer |");
        foreach (double loss in s_losses)
            text.Append(CultureInfo.InvariantCulture, $" {loss:P1} |");
        text.Append(" burst |\n|---|---|");
        text.Insert(text.Length, "---|", s_losses.Length + 1).Append('\n');
        foreach (int roundTrip in s_roundTrips)
        {
            foreach (int buffer in s_buffers)
            {
                text.Append(CultureInfo.InvariantCulture, $"| {roundTrip} ms | {buffer} KiB |");
                foreach (double loss in s_losses)
                    text.Append(CultureInfo.InvariantCulture, $" {Mean(loss, 1, roundTrip, buffer):F2} |");
                text.Append(CultureInfo.InvariantCulture, $" {Mean(0.01, 4, roundTrip, buffer):F2} |\n");
            }
        }
        AppendSteady(text);
        return text.ToString();
    }

    private static void AppendSteady(StringBuilder text)
    {
        text.Append("\n## CUBIC and BBR\n\n");
        text.Append(
            CultureInfo.InvariantCulture,
            $"One flow that always has something to send, over {Rate / 1_000_000} Mbit/s, after the first 2 of ");
        text.Append(CultureInfo.InvariantCulture, $"{SteadySeconds + 2} seconds.\n");
        text.Append("Mbit/s, and the mean queue that a segment finds. ");
        text.Append("Buffer and queue in bandwidth-delay products.\n\n");
        text.Append("| round trip | buffer | algorithm |");
        foreach (double loss in s_steadyLosses)
            text.Append(CultureInfo.InvariantCulture, $" {loss:P1} |");
        text.Append("\n|---|---|---|").Insert(text.Length, "---|", s_steadyLosses.Length).Append('\n');
        foreach (int roundTrip in s_steadyRoundTrips)
        {
            foreach (double buffer in s_steadyBuffers)
            {
                foreach (CongestionAlgorithm algorithm in s_algorithms)
                {
                    text.Append(CultureInfo.InvariantCulture, $"| {roundTrip} ms | {buffer} | {algorithm} |");
                    foreach (double loss in s_steadyLosses)
                    {
                        SteadyFlows.Result result = Steady(algorithm, loss, roundTrip, buffer);
                        text.Append(CultureInfo.InvariantCulture, $" {result.Rate:F1}, {result.Queue:F2} |");
                    }
                    text.Append('\n');
                }
            }
        }
    }

    private static SteadyFlows.Result Steady(
        CongestionAlgorithm algorithm, double loss, int roundTrip, double buffer) => new SteadyFlows
        {
            Algorithm = algorithm,
            Rate = Rate,
            RoundTrip = TimeSpan.FromMilliseconds(roundTrip),
            Loss = loss,
            Buffer = buffer,
            Duration = TimeSpan.FromSeconds(SteadySeconds),
        }.Run();

    private static double Mean(double loss, double burst, int roundTrip, int buffer) =>
        Enumerable.Range(1, Seeds).Average(seed => Goodput(seed, loss, burst, roundTrip, buffer));

    private static double Goodput(int seed, double loss, double burst, int roundTrip, int buffer)
    {
        var up = new LinkOptions
        {
            Loss = loss,
            LossBurst = burst,
            Delay = TimeSpan.FromMilliseconds(roundTrip / 2.0),
            Rate = Rate,
            Buffer = buffer << 10,
        };
        var network = new Network(seed, up, up with { Rate = 0 }, frames: 2048);
        Instant start = network.Now;
        var flows = new Flows(network, 1, Bytes);
        Assert.True(flows.Run(), $"stalled: loss {loss}, round trip {roundTrip} ms, buffer {buffer} KiB, seed {seed}");
        return Bytes * 8 / (flows.AllDone!.Value - start).TotalSeconds / 1_000_000;
    }
}

using System.Diagnostics;
using System.Net.Sockets;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>A stop in good order, while a client takes its time over a response.</summary>
[Collection(DirectCollection.Name)]
public sealed class SlowClientStopTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output)
{
    private const int Bytes = 3_000_000, StopAt = Bytes / 2, Bite = 20_000, BytesPerMillisecond = 200;

    private static readonly HelloWebSettings s_onXdp = new()
    {
        // Then the transport says when all connections are closed, and it waits for their peers alone.
        Environment =
        {
            ["Logging__Console__LogLevel__Kestrel.Transport.Xdp"] = "Debug",
            ["Kestrel__Xdp__CongestionControl"] = "Cubic",
        },
    };

    private static readonly HelloWebSettings s_onSockets = HelloWebSettings.Sockets with
    {
        Port = 8081,
        // As above. How much the kernel holds follows from its congestion window.
        CongestionControl = "cubic",
    };

    /// <param name="Received">Bytes of the body that the client got.</param>
    /// <param name="AtClose">Of these, those it had when the app was done with the connection.</param>
    /// <param name="CloseSeconds">From the signal until then.</param>
    /// <param name="ExitSeconds">From the signal until the process had ended.</param>
    /// <param name="ClientSeconds">From the signal until the client had everything.</param>
    private sealed record Outcome(
        int Received, int AtClose, double CloseSeconds, double ExitSeconds, double ClientSeconds);

    /// <summary>
    /// With sockets the kernel goes on delivering when the process has ended. Here the process waits. The app is done
    /// long before, as with sockets, and to the client there is no difference.
    /// </summary>
    [SkippableFact]
    public async Task Sigterm_SlowClient_GetsTheResponseInFull_AsWithSockets()
    {
        Lab.Require();
        Task<Outcome> onXdp = StopAsync(s_onXdp, server => server.Lines.Any(IsLingering));
        Task<Outcome> onSockets = StopAsync(s_onSockets, server => server.HasExited);
        await Task.WhenAll(onXdp, onSockets);
        (string, Outcome)[] outcomes = [("XDP", await onXdp), ("sockets", await onSockets)];
        foreach ((string transport, Outcome outcome) in outcomes)
        {
            Output.WriteLine($"{transport}: {outcome}");
            Assert.Equal(Bytes, outcome.Received);
            Assert.True(outcome.AtClose < Bytes, $"{transport}: the app had to wait for the client's last byte.");
        }

        static bool IsLingering(string line) => line.Contains("Waiting up to", StringComparison.Ordinal);
    }

    private async Task<Outcome> StopAsync(HelloWebSettings settings, Func<HelloWebServer, bool> isClosed)
    {
        Outcome? outcome = null;
        await WithServerAsync(lab.Server, settings, async server =>
        {
            using RawHttp http = await RawHttp.ConnectAsync(lab.Client, server.EndPoint);
            await http.WriteAsync(RawHttp.Get($"/bytes/{Bytes}"));
            Assert.Equal(Bytes, await http.ReadHeadAsync());
            int at = 0;
            await ReadSlowlyAsync(StopAt);
            Assert.Equal(StopAt, at);

            var sinceSignal = Stopwatch.StartNew();
            server.Signal(SystemCalls.SIGTERM);
            Task<(int At, double Seconds)> close = CloseAsync();
            Task<double> exit = ExitAsync();
            await ReadSlowlyAsync(Bytes);
            double clientSeconds = sinceSignal.Elapsed.TotalSeconds;
            outcome = new Outcome(at, (await close).At, (await close).Seconds, await exit, clientSeconds);

            // To the end of the body, or of the connection.
            async Task ReadSlowlyAsync(int end)
            {
                try
                {
                    while (at < end && await http.ReadSomeAsync(Math.Min(Bite, end - at)) is { IsEmpty: false } some)
                    {
                        Pattern.AssertMatches(some.Span, at);
                        Volatile.Write(ref at, at + some.Length);
                        await Task.Delay(some.Length / BytesPerMillisecond);
                    }
                }
                catch (SocketException e) when (e.SocketErrorCode == SocketError.ConnectionReset)
                {
                    // Cut off.
                }
            }

            async Task<(int At, double Seconds)> CloseAsync()
            {
                await Eventually.TrueAsync(() => isClosed(server), () => "The app does not stop.");
                return (Volatile.Read(ref at), sinceSignal.Elapsed.TotalSeconds);
            }

            async Task<double> ExitAsync()
            {
                await server.AssertCleanExitAsync();
                return sinceSignal.Elapsed.TotalSeconds;
            }
        });
        return outcome!;
    }
}

using System.Collections.Concurrent;
using System.CommandLine;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;

namespace TcpTrials.Flood;

/// <summary>What a paced client saw. Latencies in microseconds.</summary>
/// <param name="Due">Requests that were to be sent.</param>
/// <param name="Answered">Those that were answered.</param>
/// <param name="LostConnections">Established connections that ended.</param>
/// <param name="NewClients">Connections opened meanwhile, for one request each.</param>
/// <param name="Refused">Those that had no answer after three SYN retries.</param>
/// <param name="SlowestConnect">Seconds.</param>
internal sealed record PacedResult(
    long Due,
    long Answered,
    int LostConnections,
    double P50,
    double P99,
    int NewClients,
    int Refused,
    double SlowestConnect);

/// <summary>
/// Sends requests at an even rate on connections that are open already, and opens new connections beside them. The rate
/// does not go up when the server has fallen behind.
/// </summary>
internal static class PacedClient
{
    private static readonly byte[] s_request = Encoding.ASCII.GetBytes("GET /plaintext HTTP/1.1\r\nHost: lab\r\n\r\n");
    private static readonly byte[] s_end = Encoding.ASCII.GetBytes("Hello, World!");

    // Linux sends a SYN again after 1, 3 and 7 seconds. The answer to the last one may take another second.
    private static readonly TimeSpan s_threeRetries = TimeSpan.FromSeconds(8);
    private static readonly TimeSpan s_newClientEvery = TimeSpan.FromMilliseconds(100);

    public static Command Create()
    {
        var target = new Option<string>("--target") { Required = true };
        var connections = Trial.Option("--connections", "established connections", 50);
        var rate = Trial.Option("--rate", "requests a second, over all", 1000);
        var seconds = Trial.Option("--seconds", "for how long", 10);
        var command = new Command("paced-client") { target, connections, rate, seconds };
        command.Hidden = true;
        command.SetAction((parsed, cancellation) => Run(
            IPEndPoint.Parse(parsed.GetRequiredValue(target)),
            parsed.GetValue(connections),
            parsed.GetValue(rate),
            parsed.GetValue(seconds)));
        return command;
    }

    private static async Task<int> Run(IPEndPoint target, int connections, int rate, int seconds)
    {
        var sockets = new List<Socket>();
        for (int i = 0; i < connections; i++)
        {
            sockets.Add(new Socket(target.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true });
            await sockets[i].ConnectAsync(target);
            await Request(sockets[i], new byte[4096]);
        }

        Console.WriteLine("ready");
        while (await Console.In.ReadLineAsync() is "run")
        {
            var end = Stopwatch.StartNew();
            var latencies = new ConcurrentBag<double>();
            var connects = new ConcurrentBag<double>();
            double period = (double)connections / rate;
            long due = 0;
            int lost = 0, refused = 0;
            var established = sockets.Select((socket, i) => Task.Run(async () =>
            {
                byte[] buffer = new byte[4096];
                for (double at = period * i / connections; at < seconds; at += period)
                {
                    double early = at - end.Elapsed.TotalSeconds;
                    if (early > 0)
                        await Task.Delay(TimeSpan.FromSeconds(early));
                    Interlocked.Increment(ref due);
                    // When the wait ends late, that is not the server's fault. When the last answer came so late that
                    // there was no wait, it is: then the time counts from when the request was due.
                    double from = early > 0 ? end.Elapsed.TotalSeconds : at;
                    try
                    {
                        await Request(socket, buffer);
                        latencies.Add((end.Elapsed.TotalSeconds - from) * 1e6);
                    }
                    catch (Exception e) when (e is SocketException or OperationCanceledException)
                    {
                        Interlocked.Increment(ref lost);
                        return;
                    }
                }
            })).ToList();
            var fresh = new List<Task>();
            while (end.Elapsed.TotalSeconds < seconds)
            {
                fresh.Add(Task.Run(async () =>
                {
                    using var socket = new Socket(target.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
                    using var patience = new CancellationTokenSource(s_threeRetries);
                    var connecting = Stopwatch.StartNew();
                    try
                    {
                        await socket.ConnectAsync(target, patience.Token);
                        await Request(socket, new byte[4096]);
                        connects.Add(connecting.Elapsed.TotalSeconds);
                    }
                    catch (Exception e) when (e is SocketException or OperationCanceledException)
                    {
                        Interlocked.Increment(ref refused);
                    }
                }));
                await Task.Delay(s_newClientEvery);
            }

            await Task.WhenAll([.. established, .. fresh]);
            double[] sorted = [.. latencies.Order()];
            var result = new PacedResult(
                due,
                sorted.Length,
                lost,
                sorted[sorted.Length / 2],
                sorted[(int)(sorted.Length * 0.99)],
                fresh.Count,
                refused,
                connects.DefaultIfEmpty().Max());
            Console.WriteLine($"result {JsonSerializer.Serialize(result)}");
        }

        return 0;
    }

    private static async Task Request(Socket socket, byte[] buffer)
    {
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(10));
        await socket.SendAsync(s_request, patience.Token);
        for (int have = 0; buffer.AsSpan(0, have).IndexOf(s_end) < 0;)
        {
            int read = await socket.ReceiveAsync(buffer.AsMemory(have), patience.Token);
            if (read == 0)
                throw new SocketException((int)SocketError.ConnectionReset);
            have += read;
        }
    }
}

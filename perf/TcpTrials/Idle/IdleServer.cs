using System.CommandLine;
using System.Diagnostics.Metrics;
using System.IO.Pipelines;
using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace TcpTrials.Idle;

/// <summary>
/// Holds connections that do nothing. With <c>http</c>, Kestrel holds them, after one request on each. With <c>bare</c>
/// there is the transport's listener and a read that waits, to show what the transport costs alone.
/// </summary>
internal static class IdleServer
{
    public const int Port = 8080;

    public static Command Create()
    {
        var transport = Trial.Option("--transport", "xdp or sockets", "xdp");
        var mode = Trial.Option("--mode", "http or bare", "bare");
        var device = Trial.Option("--interface", "for xdp", "srv0");
        var command = new Command("idle-server") { transport, mode, device };
        command.Hidden = true;
        command.SetAction((parsed, cancellation) => Run(
            parsed.GetRequiredValue(transport) == "xdp",
            parsed.GetRequiredValue(mode) == "http",
            parsed.GetRequiredValue(device)));
        return command;
    }

    private static async Task<int> Run(bool onXdp, bool http, string device)
    {
        var gauges = new Dictionary<string, long>();
        using var listener = Listen(gauges);
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            kestrel.ListenAnyIP(Port);
            kestrel.Limits.KeepAliveTimeout = TimeSpan.FromHours(1);
        });
        if (onXdp)
        {
            builder.Services.AddXdpTransport(xdp =>
            {
                xdp.Interfaces.Add(device);
                xdp.Required = true;
                xdp.Backlog = 4096;
            });
        }

        await using var app = builder.Build();
        if (http)
        {
            app.MapGet("/", () => "Hello, World!");
            await app.StartAsync();
        }
        else
        {
            var factory = app.Services.GetServices<IConnectionListenerFactory>().Last();
            _ = Accept(await factory.BindAsync(new IPEndPoint(IPAddress.Any, Port)));
        }

        long handler = HandlerBytes();
        Console.WriteLine("ready");
        while (await Console.In.ReadLineAsync() is "measure")
        {
            for (int i = 0; i < 3; i++)
            {
                GC.Collect(2, GCCollectionMode.Aggressive, blocking: true, compacting: true);
                GC.WaitForPendingFinalizers();
            }

            lock (gauges)
                gauges.Clear();
            listener.RecordObservableInstruments();
            lock (gauges)
            {
                string values = string.Join(' ', gauges.Select(pair => $"{pair.Key}={pair.Value}"));
                Console.WriteLine($"measure {GC.GetTotalMemory(true)} {handler} {values}");
            }
        }

        return 0;
    }

    private static async Task Accept(IConnectionListener listener)
    {
        while (await listener.AcceptAsync() is { } connection)
            _ = Hold(connection);
    }

    // Answers what comes with as many bytes, until the peer closes.
    private static async Task Hold(ConnectionContext connection)
    {
        try
        {
            while (true)
            {
                var read = await connection.Transport.Input.ReadAsync();
                foreach (var part in read.Buffer)
                    await connection.Transport.Output.WriteAsync(part);
                connection.Transport.Input.AdvanceTo(read.Buffer.End);
                if (read.IsCompleted)
                    break;
            }
        }
        catch (IOException)
        {
            // The peer reset the connection.
        }

        await connection.DisposeAsync();
    }

    // What the state of Hold takes for each connection, measured on connections without a transport.
    private static long HandlerBytes()
    {
        const int Count = 1000;
        ConnectionContext[] connections = [.. Enumerable.Range(0, Count).Select(_ => new DefaultConnectionContext("")
        {
            Transport = new SilentPipe(),
        })];
        long before = GC.GetAllocatedBytesForCurrentThread();
        foreach (var connection in connections)
            _ = Hold(connection);
        return (GC.GetAllocatedBytesForCurrentThread() - before) / Count;
    }

    private sealed class SilentPipe : IDuplexPipe
    {
        private readonly Pipe _pipe = new();

        public PipeReader Input => _pipe.Reader;
        public PipeWriter Output => _pipe.Writer;
    }

    private static MeterListener Listen(Dictionary<string, long> gauges)
    {
        var listener = new MeterListener
        {
            InstrumentPublished = (instrument, listener) =>
            {
                if (instrument.Name is "kestrel.xdp.connections" or "kestrel.xdp.frames")
                    listener.EnableMeasurementEvents(instrument);
            },
        };
        listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) =>
        {
            string name = $"{instrument.Name[(instrument.Name.LastIndexOf('.') + 1)..]}:{tags[^1].Value}";
            lock (gauges)
                gauges[name] = gauges.GetValueOrDefault(name) + value;
        });
        listener.Start();
        return listener;
    }
}

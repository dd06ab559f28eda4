using System.Diagnostics.Metrics;
using System.IO.Pipelines;
using System.Net;
using System.Net.Sockets;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Microsoft.AspNetCore.Connections;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Options;
using Shared;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>
/// Handlers that never return, with inline scheduling. Each holds a turn of its queue for ever. Others do not wait.
/// </summary>
[Collection(DirectCollection.Name)]
public sealed class HangingHandlerTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output)
{
    /// <summary>The server's end is the oracle: sockets do the same.</summary>
    [SkippableTheory]
    [InlineData("sockets")]
    [InlineData("xdp")]
    public async Task Stop_WithAHandlerThatNeverReturns_IsAnEndInOrder(string transport)
    {
        Lab.Require();
        HelloWebSettings settings = HelloWebSettings.Over(transport) with
        {
            Inline = true,
            AllowShutdown = true,
            // The host's: how long it waits for handlers.
            Environment = new() { ["DOTNET_shutdownTimeoutSeconds"] = "1" },
        };
        await WithServerAsync(lab.Server, settings, async server =>
        {
            using RawHttp http = await RawHttp.ConnectAsync(lab.Client, server.EndPoint);
            // The server reads again before it sends the second answer. So what comes next finds it waiting, and runs
            // on the thread that receives.
            for (int i = 0; i < 2; i++)
            {
                await http.WriteAsync(RawHttp.Get("/plaintext"));
                await http.ReadHeadAsync();
                await http.ReadChunkedAsync();
            }
            await http.WriteAsync("POST /hang HTTP/1.1\r\nHost: lab\r\nContent-Length: 0\r\n\r\n");
            await Eventually.TrueAsync(
                () => server.Lines.Contains("HelloWeb hangs"), () => $"The handler does not run.\n{server.Log}");
            await server.StopAsync();
            Assert.Null(AttachedProgram.On(lab.Server));
        });
    }

    [SkippableFact]
    public async Task HandlerThatNeverReturns_HoldsUpNoOtherEndpoint_NoMetrics_AndNoEnd()
    {
        Lab.Require();
        using var release = new ManualResetEventSlim();
        await using ServiceProvider services = new ServiceCollection().AddMetrics().BuildServiceProvider();
        var meters = services.GetRequiredService<IMeterFactory>();
        XdpTransportFactory factory = Factory(meters);
        try
        {
            IConnectionListener hanging = await BindAsync(factory);
            using Socket client = await ConnectAsync(hanging), unaccepted = await ConnectAsync(hanging);
            ConnectionContext connection = (await hanging.AcceptAsync())!;
            Assert.NotNull(connection.Features.Get<IXdpConnectionFeature>());
            var runs = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            ValueTask<ReadResult> read = connection.Transport.Input.ReadAsync();
            read.GetAwaiter().UnsafeOnCompleted(() =>
            {
                runs.SetResult();
                release.Wait();
            });
            await client.SendAsync("x"u8.ToArray());
            await runs.Task.WaitAsync(Command.Limit);

            IConnectionListener other = await BindAsync(factory);
            Assert.True(await SteeredAsync(meters));
            await other.UnbindAsync().AsTask().WaitAsync(Command.Limit);
            await other.DisposeAsync().AsTask().WaitAsync(Command.Limit);
            Assert.True(await SteeredAsync(meters));
            await factory.DisposeAsync().AsTask().WaitAsync(Command.Limit);
            Assert.Null(AttachedProgram.On(lab.Server));
        }
        finally
        {
            release.Set();
        }
        // The queue is closed when the handler has returned, and may be had again.
        await Eventually.NullAsync(async () =>
        {
            await using XdpTransportFactory next = Factory(meters, required: true);
            try
            {
                await BindAsync(next);
                return null;
            }
            catch (XdpUnavailableException e)
            {
                return e.Message;
            }
        });
    }

    private static XdpTransportFactory Factory(IMeterFactory meters, bool required = false)
    {
        var options = new XdpTransportOptions
        {
            UnsafePreferInlineScheduling = true,
            Required = required,
            ShutdownLinger = TimeSpan.Zero,
            ShutdownLingerMax = TimeSpan.Zero,
        };
        options.Interfaces.Add(Lab.Interface);
        return new XdpTransportFactory(Options.Create(options), NullLoggerFactory.Instance, meterFactory: meters);
    }

    private Task<IConnectionListener> BindAsync(XdpTransportFactory factory) => lab.Server.EnterAsync(
        () => factory.BindAsync(new IPEndPoint(IPAddress.Any, 0)).AsTask().GetAwaiter().GetResult())
        .WaitAsync(Command.Limit);

    private Task<Socket> ConnectAsync(IConnectionListener listener) =>
        lab.Client.ConnectAsync(new IPEndPoint(Lab.ServerIp4, ((IPEndPoint)listener.EndPoint).Port));

    // Whether the program's counters are shown, which are the engine's.
    private static Task<bool> SteeredAsync(IMeterFactory meters) => Task.Run(() =>
    {
        bool shown = false;
        using var reader = new MeterListener();
        reader.InstrumentPublished = (instrument, listener) =>
        {
            if (instrument.Meter.Scope == meters && instrument.Name == "kestrel.xdp.steering")
                listener.EnableMeasurementEvents(instrument);
        };
        reader.SetMeasurementEventCallback<long>((_, _, _, _) => shown = true);
        reader.Start();
        reader.RecordObservableInstruments();
        return shown;
    }).WaitAsync(Command.Limit);
}

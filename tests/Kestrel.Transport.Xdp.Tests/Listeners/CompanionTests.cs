using System.Diagnostics.Metrics;
using System.Net;
using System.Net.Http;
using System.Net.Sockets;
using Kestrel.Transport.Xdp.Internal.Listeners;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Options;
using WrappedOptions = Microsoft.Extensions.Options.Options;

namespace Kestrel.Transport.Xdp.Tests.Listeners;

/// <summary>An application whose only interface does not exist: sockets serve it, by way of the companion.</summary>
public class CompanionTests
{
    private const string NoInterface = "nosuch0";

    [SkippableTheory]
    [InlineData("http://0.0.0.0:0", "127.0.0.1", "127.0.0.1")]
    [InlineData("http://[::]:0", "127.0.0.1", "::ffff:127.0.0.1")]
    [InlineData("http://[::]:0", "::1", "::1")]
    [InlineData("http://*:0", "127.0.0.1", "::ffff:127.0.0.1")]
    public async Task Wildcard_NoInterface_SocketsServe(string url, string client, string seenAs)
    {
        Skip(client);
        var log = new CollectedLog();
        await using WebApplication app = await StartAsync(url, log);
        using HttpClient http = new();
        string answer = await http.GetStringAsync(new UriBuilder("http", client, Port(app)).Uri);
        Assert.Equal($"{seenAs} False", answer);
        Assert.Equal(1, app.Services.GetServices<IConnectionListenerFactory>().OfType<XdpTransportFactory>()
            .Single().Listeners.Sum(l => l.Companion.AcceptedCount));

        (LogLevel Level, int Id, string Text) line = Assert.Single(log.Lines, l => l.Level >= LogLevel.Information);
        Assert.Equal((LogLevel.Warning, 101), (line.Level, line.Id));
        Assert.Contains("served by sockets", line.Text, StringComparison.Ordinal);
        Assert.Contains("there is no interface nosuch0", line.Text, StringComparison.Ordinal);
        await app.StopAsync();
    }

    [Fact]
    public async Task FallBack_WithSourceLists_SaysThatTheyAreInForce()
    {
        var log = new CollectedLog();
        await using WebApplication app = await StartAsync("http://0.0.0.0:0", log, o =>
        {
            // An interface has one list, and other tests have this one without.
            o.Interfaces[0] = "nosuch5";
            o.DeniedSources.Add(IPNetwork.Parse("192.0.2.0/24"));
        });
        Assert.EndsWith(
            "nosuch5. DeniedSources (1) is in force, for sockets as well; loopback is exempt.",
            Assert.Single(log.Lines, l => l.Level >= LogLevel.Information).Text,
            StringComparison.Ordinal);
    }

    [Fact]
    public async Task Loopback_IsTheSocketTransports_AndThatNothingIsServedIsSaid()
    {
        var log = new CollectedLog();
        await using WebApplication app = await StartAsync("http://127.0.0.1:0", log);
        Assert.Empty(
            app.Services.GetServices<IConnectionListenerFactory>().OfType<XdpTransportFactory>().Single().Listeners);
        (LogLevel Level, int Id, string Text) line = Assert.Single(log.Lines);
        Assert.Equal((LogLevel.Warning, 107), (line.Level, line.Id));
        Assert.Contains("AF_XDP serves nothing", line.Text, StringComparison.Ordinal);
        Assert.Contains("127.0.0.1:0: it is a loopback address", line.Text, StringComparison.Ordinal);
        using HttpClient http = new();
        Assert.Equal("127.0.0.1 False", await http.GetStringAsync(new Uri($"http://127.0.0.1:{Port(app)}")));
    }

    [Fact]
    public async Task Filter_LeavesNothing_IsSaid()
    {
        var log = new CollectedLog();
        await using WebApplication app =
            await StartAsync("http://0.0.0.0:0", log, o => o.EndpointFilter = static _ => false);
        Assert.Contains(
            "0.0.0.0:0: EndpointFilter leaves it out", Assert.Single(log.Lines).Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Loopback_BesideAnotherEndpoint_IsNotWorthALine()
    {
        var log = new CollectedLog();
        await using WebApplication app = await StartAsync("http://127.0.0.1:0;http://0.0.0.0:0", log);
        Assert.Equal(101, Assert.Single(log.Lines, l => l.Level >= LogLevel.Information).Id);
    }

    [Fact]
    public async Task Loopback_Disabled_OnlyThatIsSaid()
    {
        var log = new CollectedLog();
        await using WebApplication app =
            await StartAsync("http://127.0.0.1:0", log, o => (o.Enabled, o.Required) = (false, true));
        Assert.Equal(
            "AF_XDP is switched off (Enabled=false): sockets serve everything.", Assert.Single(log.Lines).Text);
    }

    [Fact]
    public async Task Required_LoopbackOnly_RefusesToStart()
    {
        var error = await Assert.ThrowsAsync<XdpUnavailableException>(
            () => StartAsync("http://127.0.0.1:0", new CollectedLog(), o => o.Required = true));
        Assert.Contains("it is a loopback address", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task PortInUse_BySocket_IsKestrelsOwnError()
    {
        using var holder = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        holder.Bind(new IPEndPoint(IPAddress.Any, 0));
        holder.Listen();
        int port = ((IPEndPoint)holder.LocalEndPoint!).Port;
        IOException error =
            await Assert.ThrowsAnyAsync<IOException>(() => StartAsync($"http://0.0.0.0:{port}", new CollectedLog()));
        Assert.IsType<AddressInUseException>(error.InnerException);
        Assert.Contains("address already in use", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task PortInUse_ByAnother_IsKestrelsOwnError()
    {
        await using WebApplication first = await StartAsync("http://0.0.0.0:0", new CollectedLog());
        await Assert.ThrowsAnyAsync<IOException>(() => StartAsync($"http://0.0.0.0:{Port(first)}", new CollectedLog()));
    }

    /// <summary>Somebody begins to listen on the port between the companion's bind and its listen.</summary>
    [Fact]
    public async Task PortTakenBeforeListen_LeavesNothingBehind()
    {
        Socket? bound = null;
        using var thief = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        var sockets = new SocketTransportOptions
        {
            CreateBoundListenSocket = endpoint =>
            {
                bound = SocketTransportOptions.CreateDefaultBoundListenSocket(endpoint);
                // SO_REUSEADDR of SOL_SOCKET alone: with ReuseAddress both would be allowed to listen.
                bound.SetRawSocketOption(1, 2, [1, 0, 0, 0]);
                thief.SetRawSocketOption(1, 2, [1, 0, 0, 0]);
                thief.Bind(bound.LocalEndPoint!);
                thief.Listen();
                return bound;
            },
        };
        var options = new XdpTransportOptions();
        options.Interfaces.Add(NoInterface);
        await using var factory =
            new XdpTransportFactory(
                WrappedOptions.Create(options), NullLoggerFactory.Instance, WrappedOptions.Create(sockets));
        await Assert.ThrowsAsync<AddressInUseException>(
            () => factory.BindAsync(new IPEndPoint(IPAddress.Any, 0)).AsTask());
        Assert.True(bound!.SafeHandle.IsClosed);
        Assert.Empty(factory.Listeners);
    }

    /// <summary>
    /// Connections that the application does not take stay in the kernel's queue, beyond the backlog.
    /// </summary>
    [Fact]
    public async Task Backlog_BoundsWhatWaitsForTheApplication()
    {
        const int Backlog = 4, Clients = 12;
        var options = new XdpTransportOptions { Backlog = Backlog };
        options.Interfaces.Add(NoInterface);
        var sockets = new SocketTransportOptions { Backlog = 128 };
        await using var factory = new XdpTransportFactory(
            WrappedOptions.Create(options), NullLoggerFactory.Instance, WrappedOptions.Create(sockets));
        IConnectionListener listener = await factory.BindAsync(new IPEndPoint(IPAddress.Any, 0));
        int port = ((IPEndPoint)listener.EndPoint).Port;
        CompanionListener companion = factory.Listeners.Single().Companion;

        Socket[] clients =
            [.. Enumerable.Range(0, Clients).Select(_ => new Socket(SocketType.Stream, ProtocolType.Tcp))];
        foreach (Socket client in clients)
            await client.ConnectAsync(IPAddress.Loopback, port);
        for (int taken = 0; taken < Clients; taken++)
        {
            Assert.True(companion.AcceptedCount <= taken + Backlog, $"{companion.AcceptedCount} were accepted.");
            await using ConnectionContext? connection = await listener.AcceptAsync();
            Assert.NotNull(connection);
        }
        foreach (Socket client in clients)
            client.Dispose();
    }

    [Fact]
    public async Task Rebind_RightAfterStop_Works()
    {
        int port = 0;
        for (int i = 0; i < 3; i++)
        {
            await using WebApplication app = await StartAsync($"http://0.0.0.0:{port}", new CollectedLog());
            port = Port(app);
            using HttpClient http = new();
            await http.GetStringAsync(new Uri($"http://127.0.0.1:{port}"));
            await app.StopAsync();
        }
    }

    [Theory]
    [InlineData("http://0.0.0.0:0")]
    [InlineData("http://*:0")]
    public async Task Required_NoInterface_RefusesToStart(string url)
    {
        var error = await Assert.ThrowsAsync<XdpUnavailableException>(
            () => StartAsync(url, new CollectedLog(), o => o.Required = true));
        Assert.Contains("there is no interface nosuch0", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Required_AnotherInterfaceHasTheAddress_SaysSo()
    {
        IPAddress? own = Dns.GetHostAddresses(Dns.GetHostName())
            .FirstOrDefault(a => a.AddressFamily == AddressFamily.InterNetwork && !IPAddress.IsLoopback(a));
        if (own is null)
            return;
        var error = await Assert.ThrowsAsync<XdpUnavailableException>(
            () => StartAsync($"http://{own}:0", new CollectedLog(), o => o.Required = true));
        Assert.Contains("the address belongs to", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Stop_OpenConnection_Finishes()
    {
        await using WebApplication app = await StartAsync("http://0.0.0.0:0", new CollectedLog());
        using HttpClient http = new();
        Task<string> slow = http.GetStringAsync(new Uri($"http://127.0.0.1:{Port(app)}/slow"));
        await app.Services.GetRequiredService<Gate>().Entered.Task;
        Task stop = app.StopAsync();
        app.Services.GetRequiredService<Gate>().Go.SetResult();
        Assert.Equal("slow", await slow);
        await stop;
    }

    [Fact]
    public async Task Meter_CountsCompanionAccepts()
    {
        await using WebApplication app = await StartAsync("http://0.0.0.0:0", new CollectedLog());
        long accepts = 0;
        using var listener = new MeterListener
        {
            InstrumentPublished = static (instrument, l) =>
            {
                if (instrument.Meter.Name == "Kestrel.Transport.Xdp")
                    l.EnableMeasurementEvents(instrument);
            },
        };
        listener.SetMeasurementEventCallback<long>((instrument, value, _, _) =>
        {
            if (instrument.Name == "kestrel.xdp.companion.accepted")
                accepts = Math.Max(accepts, value);
        });
        listener.Start();
        using HttpClient http = new();
        await http.GetStringAsync(new Uri($"http://127.0.0.1:{Port(app)}"));
        listener.RecordObservableInstruments();
        Assert.True(accepts > 0);
    }

    private sealed class Gate
    {
        internal TaskCompletionSource Entered { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        internal TaskCompletionSource Go { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }

    private static async Task<WebApplication> StartAsync(
        string url, CollectedLog log, Action<XdpTransportOptions>? configure = null)
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders().SetMinimumLevel(LogLevel.Debug).AddProvider(log);
        builder.Services.AddSingleton(new Gate());
        builder.WebHost.UseUrls(url);
        builder.WebHost.UseXdpTransport(o =>
        {
            o.Interfaces.Add(NoInterface);
            configure?.Invoke(o);
        });
        WebApplication app = builder.Build();
        app.MapGet("/", (HttpContext context) =>
            $"{context.Connection.RemoteIpAddress} {context.Features.Get<IXdpConnectionFeature>() is not null}");
        app.MapGet("/slow", async (Gate gate) =>
        {
            gate.Entered.SetResult();
            await gate.Go.Task;
            return "slow";
        });
        try
        {
            await app.StartAsync();
            return app;
        }
        catch
        {
            await app.DisposeAsync();
            throw;
        }
    }

    private static int Port(WebApplication app) => new Uri(
        app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Single()
            .Replace("[::]", "localhost", StringComparison.Ordinal)).Port;

    private static void Skip(string client) =>
        Xunit.Skip.If(client.Contains(':', StringComparison.Ordinal) && !Socket.OSSupportsIPv6);

    private sealed class CollectedLog : ILoggerProvider, ILogger
    {
        private readonly List<(LogLevel, int, string)> _lines = [];

        internal IReadOnlyList<(LogLevel Level, int Id, string Text)> Lines
        {
            get
            {
                lock (_lines)
                    return [.. _lines];
            }
        }

        public ILogger CreateLogger(string categoryName) =>
            categoryName == "Kestrel.Transport.Xdp"
                ? this
                : Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance;

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(
            LogLevel logLevel, EventId eventId, TState state, Exception? exception,
            Func<TState, Exception?, string> formatter)
        {
            lock (_lines)
                _lines.Add((logLevel, eventId.Id, formatter(state, exception)));
        }

        public void Dispose()
        {
        }
    }
}

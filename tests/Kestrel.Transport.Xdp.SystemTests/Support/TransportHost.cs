using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Shared;

namespace Kestrel.Transport.Xdp.SystemTests.Support;

/// <summary>
/// The transport alone, in this process and a namespace, with a configuration that can change, and what it logs.
/// </summary>
internal sealed class TransportHost : ILoggerFactory, ILogger, IAsyncDisposable
{
    private readonly ConcurrentQueue<(LogLevel Level, string Text)> _lines = new();
    private readonly List<ConnectionContext> _connections = [];
    private readonly IConfigurationRoot _configuration = new ConfigurationBuilder().AddInMemoryCollection().Build();
    private readonly Namespace _at;
    private readonly ServiceProvider _services;
    private readonly XdpTransportFactory _factory;
    private IConnectionListener? _listener;

    /// <param name="at">Where it serves.</param>
    /// <param name="configure">Its options.</param>
    /// <param name="prepare">Sets options of each listening socket, before it is bound.</param>
    internal TransportHost(
        Namespace at, Action<XdpTransportOptions> configure, Action<Socket>? prepare = null)
    {
        _at = at;
        _services = new ServiceCollection()
            .AddSingleton<ILoggerFactory>(this)
            .AddSingleton<IConfiguration>(_configuration)
            .AddXdpTransport(options =>
            {
                options.ShutdownLinger = options.ShutdownLingerMax = TimeSpan.Zero;
                configure(options);
            })
            .Configure<SocketTransportOptions>(options =>
            {
                if (prepare is not null)
                    options.CreateBoundListenSocket = endpoint => Listen(endpoint, prepare);
            })
            .BuildServiceProvider();
        _factory = _services.GetServices<IConnectionListenerFactory>().OfType<XdpTransportFactory>().Single();
    }

    /// <summary>From Information on, each with its level in front.</summary>
    internal IReadOnlyCollection<string> Lines =>
        [.. _lines.Where(line => line.Level >= LogLevel.Information).Select(line => $"{line.Level}: {line.Text}")];

    internal IReadOnlyCollection<string> Warnings =>
        [.. _lines.Where(line => line.Level >= LogLevel.Warning).Select(line => line.Text)];

    /// <summary>The connection that was accepted last.</summary>
    internal ConnectionContext Last => _connections[^1];

    internal void Bind(IPEndPoint endpoint)
    {
        Assert.True(_factory.CanBind(endpoint));
        _listener = _at.Enter(() => _factory.BindAsync(endpoint).AsTask().GetAwaiter().GetResult());
    }

    /// <summary>Did the next connection come over AF_XDP?</summary>
    internal async Task<bool> AcceptedOnXdpAsync()
    {
        ConnectionContext? connection = await _listener!.AcceptAsync().AsTask().WaitAsync(Command.Limit);
        Assert.NotNull(connection);
        _connections.Add(connection);
        return connection.Features.Get<IXdpConnectionFeature>() is not null;
    }

    /// <summary>As if the file with the configuration had been written, and read again.</summary>
    internal void Change(string key, string? value)
    {
        _configuration[$"Kestrel:Xdp:{key}"] = value;
        _configuration.Reload();
    }

    /// <summary>Waits until an endpoint of the port is steered whole.</summary>
    internal Task SteeredAsync(int port) => Eventually.TrueAsync(
        () => _lines.Any(line => line.Text.Contains($" port {port} on ", StringComparison.Ordinal)
            && line.Text.EndsWith(": Steer.", StringComparison.Ordinal)),
        () => $"Port {port} is not steered whole.");

    /// <summary>Waits until a line has all of these texts.</summary>
    internal async Task<string> LineAsync(params string[] texts)
    {
        string? found = null;
        await Eventually.TrueAsync(
            () => (found = Lines.FirstOrDefault(
                line => texts.All(text => line.Contains(text, StringComparison.Ordinal)))) is not null,
            () => $"No line has {string.Join(" and ", texts)}:\n{string.Join('\n', Lines)}");
        return found!;
    }

    public async ValueTask DisposeAsync()
    {
        foreach (ConnectionContext connection in _connections)
        {
            connection.Abort();
            await connection.DisposeAsync();
        }
        await _services.DisposeAsync();
    }

    public ILogger CreateLogger(string categoryName) =>
        categoryName == "Kestrel.Transport.Xdp" ? this : NullLogger.Instance;

    public void AddProvider(ILoggerProvider provider)
    {
    }

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Debug;

    public void Log<TState>(
        LogLevel logLevel, EventId eventId, TState state, Exception? exception,
        Func<TState, Exception?, string> formatter) => _lines.Enqueue((logLevel, formatter(state, exception)));

    public void Dispose()
    {
    }

    private static Socket Listen(EndPoint endpoint, Action<Socket> prepare)
    {
        var socket = new Socket(endpoint.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        prepare(socket);
        socket.Bind(endpoint);
        return socket;
    }
}

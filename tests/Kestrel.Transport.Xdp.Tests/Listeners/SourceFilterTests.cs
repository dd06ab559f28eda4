using System.Net;
using System.Net.Sockets;
using Kestrel.Transport.Xdp.Tests.Support;
using Microsoft.AspNetCore.Connections;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace Kestrel.Transport.Xdp.Tests.Listeners;

/// <summary>
/// The source lists where AF_XDP serves nothing. All of 127.0.0.0/8 is this machine's, so one address of it is denied,
/// and another is not.
/// </summary>
public sealed class SourceFilterTests : IAsyncLifetime
{
    private const string Welcome = "127.0.0.1", Unwelcome = "127.0.0.2";

    private readonly CollectingLogger _log = new();
    private readonly IConfigurationRoot _configuration = new ConfigurationBuilder().AddInMemoryCollection().Build();
    private ServiceProvider? _services;

    private XdpTransportFactory Factory => _services!.GetServices<IConnectionListenerFactory>()
        .OfType<XdpTransportFactory>().Single();

    public Task InitializeAsync() => Task.CompletedTask;

    public async Task DisposeAsync()
    {
        if (_services is { } services)
            await services.DisposeAsync();
    }

    [Theory]
    [InlineData("no such interface", "0.0.0.0")]
    [InlineData("disabled", "0.0.0.0")]
    [InlineData("left out", "0.0.0.0")]
    [InlineData("no such interface", "127.0.0.1")]
    [InlineData("disabled", "127.0.0.1")]
    public async Task DeniedSource_IsRefused_WhyeverAfXdpServesNothing(string why, string at)
    {
        Build(denied: Unwelcome, options =>
        {
            options.Enabled = why != "disabled";
            options.EndpointFilter = _ => why != "left out";
        });
        await using IConnectionListener listener = await BindAsync(at);
        await AssertRefusedAsync(listener);
        await AssertAcceptedAsync(listener);
        Assert.Contains(
            _log.AboveDebug,
            line => line.Contains("DeniedSources (1) is in force, for sockets as well", StringComparison.Ordinal));
    }

    [Fact]
    public async Task NotAllowed_LoopbackIsExempt()
    {
        Build(denied: null, options => options.AllowedSources.Add(IPNetwork.Parse("192.0.2.0/24")));
        await using IConnectionListener listener = await BindAsync("0.0.0.0");
        await AssertAcceptedAsync(listener);
    }

    [Fact]
    public async Task Reload_ChangesTheLists()
    {
        Build(denied: null);
        await using IConnectionListener listener = await BindAsync("0.0.0.0");
        (await ConnectAsync(listener, Unwelcome)).Dispose();
        await (await listener.AcceptAsync())!.DisposeAsync();

        Change("DeniedSources", Unwelcome);
        await AssertRefusedAsync(listener);
        await AssertAcceptedAsync(listener);
        Assert.Contains("DeniedSources (1) is in force", _log.AboveDebug.Last(), StringComparison.Ordinal);

        Change("DeniedSources", null);
        (await ConnectAsync(listener, Unwelcome)).Dispose();
        await (await listener.AcceptAsync())!.DisposeAsync();
        Assert.Contains("Nobody is kept out", _log.AboveDebug.Last(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("DeniedSources", "nobody")]
    [InlineData("Nonsense", "1")]
    public async Task Reload_ThatCannotBeRead_ChangesNothing(string key, string value)
    {
        Build(Unwelcome);
        await using IConnectionListener listener = await BindAsync("0.0.0.0");
        Change(key, value);
        await AssertRefusedAsync(listener);
        Assert.Contains("the source lists stay as they were", _log.AboveDebug.Last(), StringComparison.Ordinal);
    }

    /// <summary>The socket transport has bound it already, and cannot be told.</summary>
    [Fact]
    public void Reload_EndpointOfTheSocketTransport_IsNamed()
    {
        Build(denied: null, options => options.EndpointFilter = static _ => false);
        Assert.False(Factory.CanBind(new IPEndPoint(IPAddress.Any, 81)));
        Assert.False(Factory.CanBind(new IPEndPoint(IPAddress.Loopback, 82)));
        Change("DeniedSources", "192.0.2.1");
        string only = Assert.Single(
            _log.AboveDebug, line => line.Contains("do not apply", StringComparison.Ordinal));
        Assert.Contains("0.0.0.0:81", only, StringComparison.Ordinal);
    }

    private void Build(string? denied, Action<XdpTransportOptions>? configure = null)
    {
        _configuration["Kestrel:Xdp:DeniedSources"] = denied;
        _services = new ServiceCollection()
            .AddSingleton<ILoggerFactory>(new OneLogger(_log))
            .AddSingleton<IConfiguration>(_configuration)
            .AddXdpTransport(options =>
            {
                options.Interfaces.Add("nosuch9");
                configure?.Invoke(options);
            })
            .BuildServiceProvider();
    }

    private void Change(string key, string? value)
    {
        _configuration[$"Kestrel:Xdp:{key}"] = value;
        _configuration.Reload();
    }

    private async Task<IConnectionListener> BindAsync(string address)
    {
        var endpoint = new IPEndPoint(IPAddress.Parse(address), 0);
        Assert.True(Factory.CanBind(endpoint));
        return await Factory.BindAsync(endpoint);
    }

    private static async Task<Socket> ConnectAsync(IConnectionListener listener, string from)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(IPAddress.Parse(from), 0));
        await socket.ConnectAsync(IPAddress.Loopback, ((IPEndPoint)listener.EndPoint).Port);
        return socket;
    }

    // The kernel has completed the handshake before anybody can look at the source. The reset may be there before it is
    // known that the connection was.
    private static async Task AssertRefusedAsync(IConnectionListener listener)
    {
        var error = await Assert.ThrowsAsync<SocketException>(async () =>
        {
            using Socket socket = await ConnectAsync(listener, Unwelcome);
            await socket.ReceiveAsync(new byte[1]);
        });
        Assert.Equal(SocketError.ConnectionReset, error.SocketErrorCode);
    }

    private static async Task AssertAcceptedAsync(IConnectionListener listener)
    {
        using Socket socket = await ConnectAsync(listener, Welcome);
        await using ConnectionContext? connection = await listener.AcceptAsync();
        Assert.Equal(((IPEndPoint)socket.LocalEndPoint!).Port, ((IPEndPoint)connection!.RemoteEndPoint!).Port);
    }

    private sealed class OneLogger(ILogger logger) : ILoggerFactory
    {
        public ILogger CreateLogger(string categoryName) => logger;

        public void AddProvider(ILoggerProvider provider) => throw new NotSupportedException();

        public void Dispose()
        {
        }
    }
}

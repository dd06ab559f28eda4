using System.Buffers;
using System.Diagnostics.Metrics;
using System.Net;
using System.Net.Sockets;
using Kestrel.Transport.Xdp.Internal.Interfaces;
using Kestrel.Transport.Xdp.Internal.Options;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using WrappedOptions = Microsoft.Extensions.Options.Options;

namespace Kestrel.Transport.Xdp.Tests.Listeners;

/// <summary>
/// Loggers, meters, pools and sockets of others that fail: endpoints are served and ended all the same.
/// </summary>
public class ForeignFailureTests
{
    private static readonly IPEndPoint s_anyPort = new(IPAddress.Any, 0);

    [Fact]
    public async Task LoggerThatThrows_StartsServesAndStops()
    {
        using var loggers = new ThrowingLoggers();
        await using XdpTransportFactory factory = Factory("nosuch1", loggers);
        IConnectionListener listener = await factory.BindAsync(s_anyPort);
        using var client = new Socket(SocketType.Stream, ProtocolType.Tcp);
        await client.ConnectAsync(IPAddress.Loopback, ((IPEndPoint)listener.EndPoint).Port);
        await using (ConnectionContext? connection = await listener.AcceptAsync())
        {
            Assert.NotNull(connection);
            await connection.Transport.Output.WriteAsync("x"u8.ToArray());
            Assert.Equal(1, await client.ReceiveAsync(new byte[2]));
        }
        await listener.UnbindAsync();
        Assert.Null(await listener.AcceptAsync());
        await listener.DisposeAsync();
        Assert.True(loggers.Calls > 0);
    }

    [Fact]
    public async Task MeterThatThrows_InterfacesAreReleased()
    {
        XdpTransportFactory factory = Factory("nosuch2", NullLoggerFactory.Instance, meters: new ThrowingMeters());
        await factory.BindAsync(s_anyPort);
        await factory.DisposeAsync();
        AssertReleased("nosuch2");
    }

    [Fact]
    public async Task PoolThatThrows_IsNobodysExceptionAtTheEnd()
    {
        XdpTransportFactory factory = Factory("nosuch3", NullLoggerFactory.Instance, pools: new ThrowingPools());
        await factory.BindAsync(s_anyPort);
        await factory.DisposeAsync();
        AssertReleased("nosuch3");
    }

    /// <summary>CreateBoundListenSocket is the application's: it may give a socket of another kind.</summary>
    [Fact]
    public async Task SocketOfAnotherKind_IsClosed_WhenTheEndpointCannotBeBound()
    {
        Socket? made = null;
        var sockets = new SocketTransportOptions
        {
            CreateBoundListenSocket = _ =>
            {
                made = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                made.Bind(new UnixDomainSocketEndPoint(Path.Combine(Path.GetTempPath(), Path.GetRandomFileName())));
                return made;
            },
        };
        await using XdpTransportFactory factory = Factory("nosuch4", NullLoggerFactory.Instance, sockets);
        await Assert.ThrowsAsync<InvalidCastException>(() => factory.BindAsync(s_anyPort).AsTask());
        Assert.True(made!.SafeHandle.IsClosed);
        Assert.Empty(factory.Listeners);
    }

    // An engine that somebody still leases takes no other source lists.
    private static void AssertReleased(string interfaceName)
    {
        var options = new XdpTransportOptions();
        options.DeniedSources.Add(IPNetwork.Parse("192.0.2.0/24"));
        InterfaceSettings settings = InterfaceSettings.From(options, new SocketTransportOptions(), TcpSysctls.None);
        var others = new SourceFilter(SourceLists.From(options));
        EngineRegistry.Process.Release(
            EngineRegistry.Process.Lease(interfaceName, settings, others, NullLogger.Instance));
    }

    private static XdpTransportFactory Factory(
        string interfaceName, ILoggerFactory loggers, SocketTransportOptions? sockets = null,
        IMeterFactory? meters = null, IMemoryPoolFactory<byte>? pools = null)
    {
        var options = new XdpTransportOptions();
        options.Interfaces.Add(interfaceName);
        return new XdpTransportFactory(
            WrappedOptions.Create(options), loggers, WrappedOptions.Create(sockets ?? new SocketTransportOptions()),
            meters, pools);
    }

    private sealed class ThrowingLoggers : ILoggerFactory, ILogger
    {
        private int _calls;

        internal int Calls => Volatile.Read(ref _calls);

        public ILogger CreateLogger(string categoryName) => this;

        public void AddProvider(ILoggerProvider provider) => throw new NotSupportedException();

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => throw new InvalidOperationException("a scope");

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(
            LogLevel logLevel, EventId eventId, TState state, Exception? exception,
            Func<TState, Exception?, string> formatter)
        {
            Interlocked.Increment(ref _calls);
            throw new InvalidOperationException("the disk is full");
        }

        public void Dispose()
        {
        }
    }

    private sealed class ThrowingPools : IMemoryPoolFactory<byte>
    {
        public MemoryPool<byte> Create(MemoryPoolOptions? options = null) => new Pool();

        private sealed class Pool : MemoryPool<byte>
        {
            public override int MaxBufferSize => 4096;

            public override IMemoryOwner<byte> Rent(int minBufferSize = -1) => Shared.Rent(minBufferSize);

            protected override void Dispose(bool disposing) => throw new InvalidOperationException("a pool's");
        }
    }

    private sealed class ThrowingMeters : IMeterFactory
    {
        public Meter Create(MeterOptions options) => new ThrowingMeter(options);

        public void Dispose()
        {
        }
    }

    private sealed class ThrowingMeter(MeterOptions options) : Meter(options)
    {
        protected override void Dispose(bool disposing)
        {
            base.Dispose(disposing);
            throw new InvalidOperationException("a meter's");
        }
    }
}

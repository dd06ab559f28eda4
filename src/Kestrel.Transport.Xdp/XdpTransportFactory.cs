using System.Buffers;
using System.Diagnostics.Metrics;
using System.Net;
using Kestrel.Transport.Xdp.Internal.Diagnostics;
using Kestrel.Transport.Xdp.Internal.Interfaces;
using Kestrel.Transport.Xdp.Internal.Listeners;
using Kestrel.Transport.Xdp.Internal.Logging;
using Kestrel.Transport.Xdp.Internal.Options;
using Kestrel.Transport.Xdp.Internal.Queues;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Xdp.Sockets;

namespace Kestrel.Transport.Xdp;

/// <summary>
/// Binds IP endpoints to AF_XDP, each with a companion socket for what does not come that way. Loopback, Unix sockets
/// and file handles are left to the socket transport. Disposing waits until peers have acknowledged what was sent to
/// them, up to <see cref="XdpTransportOptions.ShutdownLinger"/>.
/// </summary>
public sealed class XdpTransportFactory
    : IConnectionListenerFactory, IConnectionListenerFactorySelector, IDisposable, IAsyncDisposable
{
    // A process that crashes is not held up by a turn that hangs.
    private static readonly TimeSpan s_crashPatience = TimeSpan.FromMilliseconds(100);

    // On top of the linger, an orderly exit waits so long for turns that are under way.
    private static readonly TimeSpan s_exitPatience = TimeSpan.FromSeconds(5);

    private readonly ListenerContext _context;
    private readonly EndpointTally _endpoints;
    private readonly SysctlNotice _sysctls;
    private readonly Lock _lock = new();
    private readonly Dictionary<EngineKey, XdpEngine> _engines = [];
    private readonly List<XdpConnectionListener> _listeners = [];
    private readonly List<EndpointBinding> _bindings = [];

    // Endpoints that are none for AF_XDP, and why.
    private readonly Dictionary<EndPoint, string> _left = [];

    // Those of them that the socket transport binds: its sockets know nothing of the source lists.
    private readonly Dictionary<EndPoint, string> _unfiltered = [];
    private readonly Dictionary<ulong, PolicyWatch> _policies = [];
    private readonly IDisposable? _reload;
    private Task? _disposal;

    /// <param name="options">Settings of this transport.</param>
    /// <param name="loggerFactory">Its logs have the category <c>Kestrel.Transport.Xdp</c>.</param>
    /// <param name="socketOptions">
    /// Settings of the companion sockets, and defaults for those left null in <paramref name="options"/>.
    /// </param>
    /// <param name="meterFactory">Where its meter, <c>Kestrel.Transport.Xdp</c>, is made; null for no metrics.</param>
    /// <param name="poolFactory">Where memory for applications comes from; null for the shared pool.</param>
    /// <exception cref="OptionsValidationException">The settings cannot work.</exception>
    public XdpTransportFactory(
        IOptions<XdpTransportOptions> options,
        ILoggerFactory loggerFactory,
        IOptions<SocketTransportOptions>? socketOptions = null,
        IMeterFactory? meterFactory = null,
        IMemoryPoolFactory<byte>? poolFactory = null)
        : this(options, loggerFactory, socketOptions, meterFactory, poolFactory, new EndpointTally(), reload: null)
    {
    }

    // For hosts that look at the tally once they have started, and whose configuration may change.
    internal XdpTransportFactory(
        IOptions<XdpTransportOptions> options,
        ILoggerFactory loggerFactory,
        IOptions<SocketTransportOptions>? socketOptions,
        IMeterFactory? meterFactory,
        IMemoryPoolFactory<byte>? poolFactory,
        EndpointTally endpoints,
        SourceReload? reload)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(loggerFactory);
        var loggers = new GuardedLoggerFactory(loggerFactory);
        _context = new ListenerContext(
            new TransportSettings(options.Value, socketOptions?.Value ?? new SocketTransportOptions()),
            loggers,
            loggers.CreateLogger(TransportLog.Category),
            poolFactory?.Create(new MemoryPoolOptions { Owner = "kestrel-xdp" }) ?? MemoryPool<byte>.Shared,
            meterFactory is null ? null : new XdpMetrics(meterFactory, () => Engines));
        _endpoints = endpoints;
        _sysctls = new SysctlNotice(Logger);
        if (Settings.SwitchedOffBy is { } what)
            TransportLog.SwitchedOff(Logger, what);
        if (EnvironmentSwitches.IsUnknown)
            TransportLog.SwitchUnknown(Logger, EnvironmentSwitches.Value);
        _reload = reload?.Watch(OnSourcesRead, e => TransportLog.SourcesNotChanged(Logger, e));
        AppDomain.CurrentDomain.ProcessExit += OnProcessExit;
        AppDomain.CurrentDomain.UnhandledException += OnUnhandledException;
    }

    private TransportSettings Settings => _context.Settings;

    private ILogger Logger => _context.Logger;

    // Interfaces in use.
    private XdpEngine[] Engines
    {
        get
        {
            lock (_lock)
                return [.. _engines.Values];
        }
    }

    private IEnumerable<XdpQueue> Queues => Engines.SelectMany(engine => engine.Queues);

    internal XdpConnectionListener[] Listeners
    {
        get
        {
            lock (_lock)
                return [.. _listeners];
        }
    }

    /// <inheritdoc/>
    public bool CanBind(EndPoint endpoint)
    {
        ArgumentNullException.ThrowIfNull(endpoint);
        if (Settings.WhyNot(endpoint) is not { } whyNot)
        {
            _endpoints.Take();
            return true;
        }
        if (Settings.SwitchedOffBy is null)
        {
            if (endpoint is FileHandleEndPoint)
                TransportLog.HandedOver(Logger, NameOf(endpoint));
            _endpoints.Leave(NameOf(endpoint), whyNot);
        }
        // A companion obeys the source lists, and the socket transport does not.
        bool filtered = !Sources.Current.AreEmpty && endpoint is IPEndPoint;
        lock (_lock)
            (filtered ? _left : _unfiltered)[endpoint] = whyNot;
        if (!filtered)
            TellOfUnfiltered(endpoint, whyNot);
        return filtered;
    }

    /// <inheritdoc/>
    /// <exception cref="AddressInUseException">Somebody has the port.</exception>
    /// <exception cref="XdpUnavailableException">
    /// AF_XDP cannot serve the endpoint, and <see cref="XdpTransportOptions.Required"/> is set.
    /// </exception>
    public ValueTask<IConnectionListener> BindAsync(EndPoint endpoint, CancellationToken cancellationToken = default)
    {
        if (endpoint is not IPEndPoint ip)
            throw new NotSupportedException($"{endpoint?.GetType().Name} is not an IP endpoint.");
        cancellationToken.ThrowIfCancellationRequested();
        ObjectDisposedException.ThrowIf(_disposal is not null, this);
        // On the calling thread: it is the one that is in the right network namespace.
        EnginePlan plan = Plan(ip);
        XdpConnectionListener listener = XdpConnectionListener.Bind(_context, ip, plan, Policy, Forget);
        lock (_lock)
        {
            _listeners.Add(listener);
            _bindings.RemoveAll(static b => b.IsDraining && b.Connections == 0);
            _bindings.Add(listener.Binding);
        }
        if (plan.IsServed)
            _sysctls.Tell();
        return new ValueTask<IConnectionListener>(listener);
    }

    /// <summary>Blocks as long as <see cref="DisposeAsync"/> takes.</summary>
    public void Dispose() => DisposeAsync().AsTask().GetAwaiter().GetResult();

    /// <summary>Waits for peers to acknowledge what was sent, then releases the interfaces.</summary>
    public ValueTask DisposeAsync()
    {
        lock (_lock)
            return new ValueTask(_disposal ??= Task.Run(EndAsync));
    }

    private SourceFilter Sources => Settings.Sources;

    // Not every kind of endpoint can say where it is.
    private static string NameOf(EndPoint endpoint) => endpoint is FileHandleEndPoint file
        ? $"{file.FileHandleType} handle {file.FileHandle}"
        : $"{endpoint}";

    // On the thread of whoever reads the configuration again.
    private void OnSourcesRead(SourceLists lists)
    {
        KeyValuePair<EndPoint, string>[] unfiltered;
        lock (_lock)
        {
            if (Sources.Current.DifferenceTo(lists) is null)
                return;
            Sources.Current = lists;
            unfiltered = [.. _unfiltered];
        }
        foreach (XdpEngine engine in Engines)
            engine.SourcesChanged();
        TransportLog.SourcesChanged(Logger, lists.AreEmpty ? " Nobody is kept out." : lists.Describe());
        foreach ((EndPoint endpoint, string reason) in unfiltered)
            TellOfUnfiltered(endpoint, reason);
    }

    // Nobody who comes from elsewhere reaches a Unix socket, or loopback, which is exempt.
    private void TellOfUnfiltered(EndPoint endpoint, string reason)
    {
        SourceLists lists = Sources.Current;
        bool concerned = endpoint is FileHandleEndPoint
            || (endpoint is IPEndPoint ip && !(IPAddress.IsLoopback(ip.Address) && lists.Admit(ip.Address)));
        if (concerned && !lists.AreEmpty)
            TransportLog.SourcesDoNotApply(Logger, NameOf(endpoint), reason);
    }

    private EnginePlan Plan(IPEndPoint endpoint)
    {
        lock (_lock)
        {
            if (_left.TryGetValue(endpoint, out string? whyNot))
                return EnginePlan.LeaveToSockets(whyNot, Sources);
        }

        XdpTransportOptions options = Settings.Options;
        string? reason = null;
        var engines = new List<XdpEngine>();
        if (!OperatingSystem.IsLinux())
        {
            reason = "AF_XDP is Linux's";
        }
        else
        {
            try
            {
                InterfaceSelector.Selection selection = InterfaceSelector.Select(options, endpoint);
                reason = selection.Reason;
                foreach (string name in selection.Names)
                    engines.Add(Lease(name));
            }
            catch (Exception e) when (e is IOException or (SystemException and not InvalidOperationException))
            {
                // The system does not tell what is needed. Another host's source lists are the user's to settle.
                reason = e.Message;
            }
        }
        return new EnginePlan(engines, reason, options.Interfaces.Count > 0, options.Required, Sources);
    }

    // On a thread in the network namespace of the interfaces.
    private PolicyWatch Policy
    {
        get
        {
            ulong space = EngineRegistry.CurrentNamespace;
            lock (_lock)
            {
                if (!_policies.TryGetValue(space, out PolicyWatch? policy))
                    _policies[space] = policy = new PolicyWatch(Logger);
                return policy;
            }
        }
    }

    // Under an engine's lock.
    private void OnUpgraded()
    {
        foreach (PolicyWatch policy in Policies)
            policy.LookAgain();
        _sysctls.Tell();
    }

    private PolicyWatch[] Policies
    {
        get
        {
            lock (_lock)
                return [.. _policies.Values];
        }
    }

    private void Forget(XdpConnectionListener listener)
    {
        lock (_lock)
            _listeners.Remove(listener);
    }

    // The engine is the host's, from its first endpoint to its end: rebinding detaches nothing.
    private XdpEngine Lease(string interfaceName)
    {
        var key = new EngineKey(EngineRegistry.CurrentNamespace, interfaceName);
        lock (_lock)
        {
            if (_engines.TryGetValue(key, out XdpEngine? own))
                return own;
        }
        // May wait for another host to give the interface back, so not under the lock.
        XdpEngine leased = EngineRegistry.Process.Lease(interfaceName, SettingsOf(interfaceName), Sources, Logger);
        lock (_lock)
        {
            if (_engines.TryAdd(key, leased))
            {
                leased.Upgraded += OnUpgraded;
                return leased;
            }
        }
        // Another endpoint of this host was faster: it has the same engine.
        EngineRegistry.Process.Release(leased);
        return leased;
    }

    // On a thread in the network namespace of the interface.
    private InterfaceSettings SettingsOf(string interfaceName)
    {
        var sysctls = TcpSysctls.Read(interfaceName);
        _sysctls.Add(sysctls.NotObeyedUnder(Settings.Options));
        return Settings.ForInterface(sysctls);
    }

    private async Task EndAsync()
    {
        CleanUp end = End;
        foreach (XdpConnectionListener listener in Listeners)
            await end.DoAsync(() => listener.DisposeAsync().AsTask()).ConfigureAwait(false);
        await end.DoAsync(LingerAsync).ConfigureAwait(false);
        Release();
        if (!ReferenceEquals(_context.Pool, MemoryPool<byte>.Shared))
            end.Do(_context.Pool.Dispose);
    }

    private CleanUp End => new(Logger, "The transport");

    // The interfaces first: what follows calls foreign code.
    private void Release()
    {
        CleanUp end = End;
        end.Do(() => _reload?.Dispose());
        foreach (PolicyWatch policy in Policies)
            end.Do(policy.Dispose);
        foreach (XdpEngine engine in Engines)
        {
            engine.Upgraded -= OnUpgraded;
            end.Do(() => EngineRegistry.Process.Release(engine));
            engine.Forget(Sources);
        }
        AppDomain.CurrentDomain.ProcessExit -= OnProcessExit;
        AppDomain.CurrentDomain.UnhandledException -= OnUnhandledException;
        end.Do(() => _context.Metrics?.Dispose());
    }

    private async Task LingerAsync()
    {
        var linger = new Linger(Settings.Options.ShutdownLinger, Settings.Options.ShutdownLingerMax, Uptime);
        int left = Unacknowledged;
        if (left > 0)
            TransportLog.Lingering(Logger, Settings.Options.ShutdownLinger, left);
        while (linger.GoesOn(left, AcknowledgedBytes, Uptime))
        {
            await Task.Delay(Linger.Poll).ConfigureAwait(false);
            left = Unacknowledged;
        }
        if (left > 0)
            TransportLog.Cut(Logger, left, Settings.Options.ShutdownLinger);
    }

    // Environment.Exit, or the end of Main, with the host still running. The kernel would give what was written to its
    // sockets to the peers, and end the connections. Background threads and the pool go on until this returns.
    private void OnProcessExit(object? sender, EventArgs e)
    {
        Task? end = null;
        // A handler that runs inline may have ended the process: no turn can run before it returns, which it never
        // will.
        if (!Queues.Any(queue => queue.InTurn))
        {
            lock (_lock)
                end = _disposal ??= Task.Run(EndOnExitAsync);
        }
        TimeSpan most = Settings.Options.ShutdownLingerMax + Settings.Options.ShutdownLinger + s_exitPatience;
        if (end?.Wait(most) != true)
            EndAtOnce();
    }

    private async Task EndOnExitAsync()
    {
        CleanUp end = End;
        foreach (XdpConnectionListener listener in Listeners)
            await end.DoAsync(() => listener.UnbindAsync().AsTask()).ConfigureAwait(false);
        EndpointBinding[] bindings = Bindings;
        foreach (XdpQueue queue in Queues)
            end.Do(() => queue.CloseConnections(bindings));
        // The host's memory, and its listeners, are still in use.
        await end.DoAsync(LingerAsync).ConfigureAwait(false);
        Release();
    }

    // A crash must not be held up: no waiting for peers, and no cleaning up.
    private void OnUnhandledException(object sender, UnhandledExceptionEventArgs e)
    {
        if (e.IsTerminating)
            EndAtOnce();
    }

    private void EndAtOnce()
    {
        EndpointBinding[] bindings = Bindings;
        foreach (XdpQueue queue in Queues)
            End.Do(() => queue.EndConnectionsAtOnce(bindings, s_crashPatience));
    }

    private static TimeSpan Uptime => TimeSpan.FromMilliseconds(Environment.TickCount64);

    private EndpointBinding[] Bindings
    {
        get
        {
            lock (_lock)
                return [.. _bindings];
        }
    }

    // Connections whose peers have not acknowledged everything, the FIN included.
    private int Unacknowledged => Bindings.Sum(b => b.Unacknowledged);

    private long AcknowledgedBytes => Queues.Sum(queue => queue.Statistics.Tcp.BytesAcknowledged);
}

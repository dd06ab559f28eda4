using Kestrel.Transport.Xdp.Internal.Steering;
using Microsoft.Extensions.Logging;
using Xdp.Sockets;
using Xdp.Sockets.Bpf;
using Xdp.Sockets.Net;

namespace Kestrel.Transport.Xdp.Internal;

/// <summary>
/// One interface: the XDP program on it, a queue for each of the NIC's, and the endpoints of all listeners that it serves. It always knows what should be
/// (the bindings) and works towards it (<see cref="Reconcile"/>): at every change, when the network changes, and from time to time, on a thread of its own that
/// stays in the interface's network namespace. So an interface that is missing, busy or refused at start is taken later, without anybody asking.
/// <para>
/// Order at start: <see cref="Prepare"/> (program attached, no endpoint in it) → the listener binds its companion → <see cref="Activate"/> (sockets, then the endpoint,
/// mixed) → the companion listens. At the end: <see cref="Drain"/> → the companion closes → connections finish → <see cref="Close"/>.
/// All of it under one lock, from any thread, and never from within a queue's turn.
/// </para>
/// </summary>
internal sealed partial class XdpEngine : IQueueOwner
{
    private static readonly TimeSpan Tick = TimeSpan.FromMilliseconds(250);

    private static readonly TimeSpan PauseAfterFailure = TimeSpan.FromSeconds(10);

    // Between two attempts to take an interface that is missing, down or held by another program. Nothing is changed by them.
    private static readonly TimeSpan RetryAfter = TimeSpan.FromSeconds(2);

    // A blocked turn stops the queue's acknowledgements; peers retransmit after 200 ms and more.
    private static readonly TimeSpan StallAfter = TimeSpan.FromMilliseconds(500);

    // SYNs a second that a queue under pressure answers: a twentieth of a core at two to three microseconds each. More, and a flood takes from
    // those who are connected; less, and a client among it needs more of its retries.
    private const long SynsPerSecond = 20_000;

    // What arrives at that rate between two turns of a worker that has to wait for its core.
    private const long SynBurst = 1_000;

    private static readonly TimeSpan SynPressureLasts = TimeSpan.FromSeconds(2);

    private readonly EngineRegistry _registry;
    private readonly ILogger _logger;
    private readonly Lock _gate = new();
    private readonly AutoResetEvent _changed = new(false);
    private readonly Thread _control;
    private readonly List<EndpointBinding> _bindings = [];
    private NetworkWatcher? _watcher;
    private NetworkInterfaceInfo? _device;
    private SteeringProgram? _program;
    private readonly RetryPause _openRetry = new();
    private long _nextAttempt;
    private volatile bool _networkChanged;
    private volatile bool _stopping;

    internal XdpEngine(
        EngineRegistry registry, (ulong Namespace, string Interface) key, FlowDirectory<XdpConnection> flows, TransportSettings settings, ILogger logger)
    {
        _registry = registry;
        Settings = settings;
        _logger = logger;
        Key = key;
        Flows = flows;
        _control = new Thread(Control) { IsBackground = true, Name = $"xdp {key.Interface} control" };
        _control.Start();
    }

    internal (ulong Namespace, string Interface) Key { get; }

    internal string InterfaceName => Key.Interface;

    internal TransportSettings Settings { get; }

    public FlowDirectory<XdpConnection> Flows { get; }

    /// <summary>Why the interface is not served; null when it is.</summary>
    internal string? Failure { get; private set; } = "it has not been tried";

    internal XdpAttachMode AttachMode { get; private set; }

    /// <summary>Reads "native, copy as the driver has no zero-copy, 2 queues".</summary>
    internal string Modes => $"{(AttachMode == XdpAttachMode.Generic ? "generic as asked for" : "native")}, {CopyMode}, "
        + (_queues.Length == 1 ? "1 queue" : $"{_queues.Length} queues");

    private string CopyMode => _queues.All(q => q.IsZeroCopy) ? "zero-copy"
        : Settings.Options.BindMode == BindMode.Copy ? "copy as asked for"
        : AttachMode == XdpAttachMode.Generic ? "copy"
        : "copy as the driver has no zero-copy";

    /// <summary>Attaches the program, waiting up to two seconds for a predecessor's. No segment changes its way yet. Returns <see cref="Failure"/>.</summary>
    internal string? Prepare()
    {
        lock (_gate)
        {
            if (_program is null && !_stopping)
                TryAttach(XdpLink.BusyRetry);
            return Failure;
        }
    }

    /// <summary>Serves the binding's endpoint from now on, or as soon as that is possible. Returns <see cref="Failure"/>.</summary>
    internal string? Activate(EndpointBinding binding)
    {
        lock (_gate)
        {
            _bindings.Add(binding);
            if (_program is not null && OpenQueues())
                Reconcile();
            return Failure;
        }
    }

    /// <summary>New connections to the binding's endpoint are the kernel's; those that are open go on, until the binding has none.</summary>
    internal void Drain(EndpointBinding binding)
    {
        lock (_gate)
        {
            binding.Drain();
            Reconcile();
        }
    }

    /// <summary>Takes everything down. Connections that are left end.</summary>
    internal void Close()
    {
        _stopping = true;
        _changed.Set();
        _control.Join();
        lock (_gate)
        {
            TakeDown("it was closed");
            _watcher?.Dispose();
            _watcher = null;
            _neighbours?.Dispose();
            _neighbours = null;
        }
        _changed.Dispose();
    }

    internal SteeringCounters? ReadSteering()
    {
        lock (_gate)
            return _program?.ReadCounters();
    }

    private void Control()
    {
        TimeSpan pause = Tick;
        while (!_stopping)
        {
            _changed.WaitOne(pause);
            if (_stopping)
                return;
            try
            {
                lock (_gate)
                    Maintain();
                pause = Tick;
            }
            catch (Exception e) when (e is not OutOfMemoryException)
            {
                XdpLog.ControlFailed(_logger, InterfaceName, e);
                pause = PauseAfterFailure;
            }
        }
    }

    private void Maintain()
    {
        if (_watcher is null)
        {
            _watcher = new NetworkWatcher(OnNetworkChanged);
            _networkChanged = true;
        }
        if (_networkChanged)
        {
            _networkChanged = false;
            OnDeviceChanged(NetworkInterfaceInfo.Get(InterfaceName));
        }
        ForgetEnded();
        ReplaceFailedQueues();
        if (_bindings.Count > 0 && (_program is null || _queues.Length == 0) && Environment.TickCount64 >= _nextAttempt)
            TryUpgrade();
        PromoteQuietEndpoints();
        WatchTurns();
        LimitSyns();
        ResolvePaths();
    }

    // On the watcher's thread, which must not wait.
    private void OnNetworkChanged(NetworkChange change)
    {
        _networkChanged = true;
        _changed.Set();
    }

    private void OnDeviceChanged(NetworkInterfaceInfo? device)
    {
        if (_program is null)
        {
            // Attaching and detaching make a driver tell of changes as well: those are no reason to try again.
            if (device is { IsUp: true } && !LooksLike(device, _device))
            {
                _openRetry.Reset();
                _nextAttempt = 0;
            }
            return;
        }
        if (device is null || device.Index != _device!.Index)
        {
            TakeDown($"the interface {InterfaceName} is gone");
            XdpLog.InterfaceLost(_logger, InterfaceName, Failure!);
            return;
        }
        if (!device.Mac.Equals(_device.Mac))
            _program.SetMacs([device.Mac]);
        _device = device;
        Reconcile();
    }

    // As far as it decides whether the interface can be served.
    private static bool LooksLike(NetworkInterfaceInfo device, NetworkInterfaceInfo? other) =>
        other is not null
        && (device.Index, device.IsUp, device.Mtu, device.RxQueues, device.TxQueues, device.MasterIndex)
            == (other.Index, other.IsUp, other.Mtu, other.RxQueues, other.TxQueues, other.MasterIndex)
        && device.Mac.Equals(other.Mac);

    private bool TryAttach(TimeSpan busyRetry)
    {
        _nextAttempt = Environment.TickCount64 + (long)RetryAfter.TotalMilliseconds;
        SteeringProgram? program = null;
        try
        {
            _device = NetworkInterfaceInfo.Get(InterfaceName);
            if (_device is null)
                return Refuse($"there is no interface {InterfaceName}");
            if (!_device.IsUp)
                return Refuse($"the interface {InterfaceName} is down");
            program = SteeringProgram.Load();
            program.SetMacs([_device.Mac]);
            program.SetAllowedSources([.. Settings.Options.AllowedSources]);
            program.SetDeniedSources([.. Settings.Options.DeniedSources]);
            (AttachMode, _) = program.Attach(_device.Index, ToSockets(Settings.Options.AttachMode), busyRetry);
            _program = program;
            Failure = null;
            return true;
        }
        catch (Exception e) when (e is XdpException or PlatformNotSupportedException or DllNotFoundException or EntryPointNotFoundException or ArgumentException)
        {
            program?.Dispose();
            return Refuse(e.Message);
        }
    }

    private void TryUpgrade()
    {
        if ((_program is not null || TryAttach(TimeSpan.Zero)) && OpenQueues())
        {
            Reconcile();
            foreach (EndpointBinding binding in _bindings.Where(b => !b.IsDraining))
                XdpLog.Upgraded(_logger, binding.EndPoint, InterfaceName, Modes);
        }
    }

    private bool Refuse(string reason)
    {
        Failure = reason;
        return false;
    }

    // Endpoints first: a segment must not be sent to a socket that is about to close.
    private void TakeDown(string reason)
    {
        Failure = reason;
        _program?.Detach();
        CloseQueues();
        _installed.Clear();
        _program?.Dispose();
        _program = null;
        _nextAttempt = Environment.TickCount64 + (long)RetryAfter.TotalMilliseconds;
    }

    private void WatchTurns()
    {
        foreach (XdpQueue queue in _queues)
        {
            TimeSpan duration = queue.TurnDuration;
            if (duration < StallAfter)
            {
                queue.StallReported = false;
            }
            else if (!queue.StallReported)
            {
                queue.StallReported = true;
                Interlocked.Increment(ref queue.Counters.StalledTurns);
                XdpLog.TurnStalled(_logger, InterfaceName, queue.Settings.QueueId, (long)duration.TotalMilliseconds);
            }
        }
    }

    // A queue whose stack answers with SYN cookies is flooded, or has more clients than its backlog: its SYNs are limited in the program, where
    // dropping one is nearly free, until no cookie has been sent for a while. A client whose SYN is dropped tries again.
    private void LimitSyns()
    {
        foreach (XdpQueue queue in _queues)
        {
            long cookies = queue.Tcp.SynCookiesSent;
            if (cookies != queue.SynCookiesSeen)
            {
                queue.SynCookiesSeen = cookies;
                queue.SynPressureUntil = Environment.TickCount64 + (long)SynPressureLasts.TotalMilliseconds;
            }
            bool limit = Environment.TickCount64 < queue.SynPressureUntil;
            if (limit == queue.SynsLimited)
                continue;
            _program?.SetSynRate(queue.Settings.QueueId, limit ? SynsPerSecond : 0, SynBurst);
            queue.SynsLimited = limit;
            if (limit)
                XdpLog.SynsLimited(_logger, InterfaceName, queue.Settings.QueueId, SynsPerSecond);
        }
    }

    private static XdpAttachMode ToSockets(global::Kestrel.Transport.Xdp.AttachMode mode) => mode switch
    {
        global::Kestrel.Transport.Xdp.AttachMode.Generic => XdpAttachMode.Generic,
        global::Kestrel.Transport.Xdp.AttachMode.Native => XdpAttachMode.Native,
        _ => XdpAttachMode.Auto,
    };
}

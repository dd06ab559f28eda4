using Kestrel.Transport.Xdp.Internal.Logging;
using Kestrel.Transport.Xdp.Internal.Options;
using Kestrel.Transport.Xdp.Internal.Queues;
using Kestrel.Transport.Xdp.Internal.Steering;
using Microsoft.Extensions.Logging;
using Xdp.Sockets;
using Xdp.Sockets.Bpf;
using Xdp.Sockets.Net;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>
/// One interface: the XDP program on it, a queue for each of the NIC's, and the endpoints of all listeners that it
/// serves. It always knows what should be (the listeners' bindings) and works towards it: at every change, when the
/// network changes, and from time to time, on a thread of its own that stays in the interface's network namespace. So
/// an interface that is missing, busy or refused at start is taken later, without anybody asking.
/// <para>
/// Order at start: the listener binds its companion → <see cref="Prepare"/> (sockets with their frames, then the
/// program attached, no endpoint in it) → <see cref="Activate"/> (sockets bound, then the endpoint, mixed) → the
/// companion listens. At the end: <see cref="Drain"/> → the companion closes → connections finish →
/// <see cref="Close"/>. All of it is for any thread, and never from within a queue's turn.
/// </para>
/// <para>
/// It owns the order in which things happen: one lock, the control thread, and the watch on the network. What happens
/// is left to its parts, each of which owns its variables.
/// </para>
/// </summary>
internal sealed class XdpEngine
{
    /// <summary>
    /// Released bytes of heap memory for which the garbage collector is called, which is once a minute at most.
    /// </summary>
    private const long WorthCollecting = 32 << 20;

    private static readonly TimeSpan Tick = TimeSpan.FromMilliseconds(250);

    private static readonly TimeSpan PauseAfterFailure = TimeSpan.FromSeconds(10);

    // At the end, for turns that are under way. Those that take longer run a handler that may never return.
    private static readonly TimeSpan ClosePatience = TimeSpan.FromSeconds(2);

    private readonly ILogger _logger;
    private readonly Lock _lock = new();
    private readonly Lock _filtersLock = new();
    private readonly AutoResetEvent _wake = new(false);
    private readonly Thread _control;
    private readonly ProgramAttachment _attachment;
    private readonly QueueSet _queues;
    private readonly EndpointReconciler _endpoints;
    private readonly RouteResolver _routes;
    private readonly KernelHandOver _handOver;
    private readonly SynLimiter _syns;
    private readonly StallWatch _stalls;
    private readonly RedirectWatch _redirects = new();
    private readonly BlockPool _blocks;
    private readonly ServedInterfaces _served;
    private volatile SourceFilter[] _filters = [];
    private NetworkWatcher? _watcher;
    private bool _isBehind;
    private volatile bool _networkChanged;
    private volatile bool _deviceRemoved, _deviceWentDown;
    private volatile bool _stopping;

    internal XdpEngine(EngineKey key, InterfaceSettings settings, QueueResources shared, ILogger logger)
    {
        Key = key;
        Settings = settings;
        _logger = logger;
        _attachment = new ProgramAttachment(InterfaceName, settings, logger, shared.Served.Includes);
        _handOver = new KernelHandOver(peer => _routes!.RoutedAs(peer), () => _wake.Set());
        _routes = new RouteResolver(InterfaceName, () => _attachment.Device, () => Queues, _handOver.Forget, logger);
        _queues = new QueueSet(InterfaceName, settings, shared, _routes, _handOver, failed: () => _wake.Set(), logger);
        _endpoints = new EndpointReconciler(InterfaceName, _queues, KernelSockets.RemoteConnections, logger);
        _syns = new SynLimiter(InterfaceName, logger);
        _stalls = new StallWatch(InterfaceName, settings.UnsafePreferInlineScheduling, logger);
        _blocks = shared.Blocks;
        _served = shared.Served;
        _served.Changed += OnServedChanged;
        _served.Listens += OnOthersListen;
        _control = new Thread(Control) { IsBackground = true, Name = $"xdp {InterfaceName} control" };
        _control.Start();
        _routes.Start();
    }

    internal EngineKey Key { get; }

    /// <summary>
    /// The name that it was asked for by. Logs and metrics have it, whatever the device is called now.
    /// </summary>
    internal string InterfaceName => Key.Interface;

    /// <summary>What the device is called now, as far as that is known.</summary>
    internal string DeviceName => _attachment.Device?.Name ?? InterfaceName;

    internal InterfaceSettings Settings { get; }

    /// <summary>Who may send to its endpoints: whom all of its hosts let in.</summary>
    internal SourceLists Sources => SourceLists.Strictest([.. _filters.Select(filter => filter.Current)]);

    /// <summary>The queues that are open. Any thread.</summary>
    internal IReadOnlyList<XdpQueue> Queues => _queues.Open;

    /// <summary>Reads "native, copy as the driver has no zero-copy, 2 queues".</summary>
    internal string Modes
    {
        get
        {
            IReadOnlyList<XdpQueue> queues = Queues;
            bool generic = _attachment.Mode == AttachMode.Generic;
            string copy = queues.All(q => q.IsZeroCopy) ? "zero-copy"
                : Settings.BindMode == BindMode.Copy ? "copy as asked for"
                : generic ? "copy"
                : queues.Any(q => q.Settings.MultiBuffer) ? "copy as the driver has no zero-copy for large packets"
                : "copy as the driver has no zero-copy";
            string count = queues.Count == 1 ? "1 queue" : $"{queues.Count} queues";
            return $"{(generic ? "generic as asked for" : "native")}, {copy}, {count}";
        }
    }

    private string WhyNotServed(EndpointBinding binding) =>
        _endpoints.WhyRefused(binding) ?? $"{InterfaceName} has no address that the endpoint listens on";

    private static long Now => Environment.TickCount64;

    // What the endpoints need; null while the interface is not served.
    private ServedInterface? Served =>
        _attachment is { Program: { } program, Device: { } device } && Queues.Count > 0
            ? new(program, device.Addresses,
                AllQueues: Queues.Count >= device.RxQueues && !_handOver.IsActive)
            {
                Elsewhere = _attachment.Elsewhere,
                OfOthers = _attachment.OfOthers,
                WildcardsTakeAll = Settings.LocalAddresses == LocalAddresses.All,
            }
            : null;

    /// <summary>
    /// Endpoints are served that were not before, without their listeners having asked. Under the engine's lock.
    /// </summary>
    internal event Action? Upgraded;

    /// <summary>Is the binding's endpoint served over AF_XDP now?</summary>
    internal bool Serves(EndpointBinding binding)
    {
        lock (_lock)
            return _attachment.Program is not null && _endpoints.IsServed(binding);
    }

    /// <summary>A host has come. Its lists hold for all endpoints of the interface.</summary>
    internal void Obey(SourceFilter filter)
    {
        lock (_filtersLock)
            _filters = [.. _filters.Where(other => other != filter), filter];
    }

    /// <summary>The host has gone.</summary>
    internal void Forget(SourceFilter filter)
    {
        lock (_filtersLock)
            _filters = [.. _filters.Where(other => other != filter)];
    }

    /// <summary>A host's lists have changed.</summary>
    internal void SourcesChanged()
    {
        lock (_lock)
            Attempt(FollowSources);
    }

    /// <summary>
    /// Attaches the program, waiting up to two seconds for a predecessor's. No segment changes its way yet. Returns why
    /// the interface is not served, or null.
    /// </summary>
    internal string? Prepare()
    {
        lock (_lock)
        {
            bool attach = _attachment.Program is null && !_stopping;
            return (attach ? Attempt(() => TryAttach(XdpLink.BusyRetry)) : null) ?? _attachment.Failure;
        }
    }

    /// <summary>
    /// Serves the binding's endpoint from now on, or as soon as that is possible. Returns why the interface does not
    /// serve it, or null.
    /// </summary>
    internal string? Activate(EndpointBinding binding)
    {
        lock (_lock)
        {
            _endpoints.Add(binding);
            string? failure = Attempt(() =>
            {
                if (_attachment.Program is not null && OpenQueues())
                    Reconcile(begins: binding);
            });
            return failure ?? _attachment.Failure ?? (_endpoints.IsServed(binding) ? null : WhyNotServed(binding));
        }
    }

    /// <summary>
    /// New connections to the binding's endpoint are the kernel's. Those that are open go on, until the binding has
    /// none.
    /// </summary>
    internal void Drain(EndpointBinding binding)
    {
        lock (_lock)
        {
            binding.Drain();
            Attempt(() => Reconcile());
        }
    }

    /// <summary>
    /// Takes everything down. Connections that are left end, those of a queue whose turn does not end when it does.
    /// Does not throw.
    /// </summary>
    internal void Close()
    {
        _stopping = true;
        _served.Changed -= OnServedChanged;
        _served.Listens -= OnOthersListen;
        _wake.Set();
        _control.Join();
        Task closed;
        lock (_lock)
        {
            var end = new CleanUp(_logger, InterfaceName);
            TakeDown("it was closed");
            end.Do(() => _watcher?.Dispose());
            _watcher = null;
            end.Do(_routes.Dispose);
            end.Do(_handOver.Dispose);
            closed = _queues.Closing().End;
        }
        if (closed.Wait(ClosePatience))
            return;
        lock (_lock)
        {
            foreach (XdpQueue queue in _queues.Closing().Queues)
                TransportLog.QueueLeft(_logger, InterfaceName, queue.Settings.QueueId);
        }
    }

    /// <summary>
    /// Null while the interface is not served, and when the kernel does not tell. Any thread; waits for nothing.
    /// </summary>
    internal SteeringCounters? ReadSteering()
    {
        try
        {
            return _attachment.Program?.ReadCounters();
        }
        catch (Exception e) when (e is XdpException or ObjectDisposedException)
        {
            return null;
        }
    }

    private void Control()
    {
        // One that fails holds up none of the others.
        Action[] steps =
        [
            HandOver, FollowSources, WatchNetwork, CheckAttachment, CatchUp, ReplaceFailedQueues, Upgrade, PromoteQuiet,
            RemoveGone, CheckStalls, CheckSyns, CheckRedirects, TrimHeap,
        ];
        TimeSpan pause = Tick;
        while (!_stopping)
        {
            _wake.WaitOne(pause);
            if (_stopping)
                return;
            bool failed = false;
            lock (_lock)
            {
                foreach (Action step in steps)
                    failed |= Attempt(step) is not null;
            }
            pause = failed ? PauseAfterFailure : Tick;
        }
    }

    /// <summary>
    /// Returns why the action failed, or null. Nothing of that may end the control thread, a start or a stop: sockets
    /// serve, and the control thread tries again. With the lock.
    /// </summary>
    private string? Attempt(Action action)
    {
        try
        {
            action();
            return null;
        }
        catch (Exception e)
        {
            _isBehind = true;
            TransportLog.ControlFailed(_logger, InterfaceName, e);
            return e.Message;
        }
    }

    // Lists that the program cannot take are the companion's alone to enforce.
    private void FollowSources()
    {
        try
        {
            _attachment.FollowSources(Sources);
        }
        catch (XdpException e)
        {
            Lose($"its source lists could not be changed: {e.Message.TrimEnd('.')}");
            _attachment.RetryLater(Now);
        }
    }

    private void HandOver()
    {
        if (_handOver.IsDue)
            _handOver.Apply(_attachment.Program, _attachment.Device, prepare: () => Reconcile());
    }

    private void CatchUp()
    {
        bool ended = _endpoints.RemoveEnded();
        if (!ended && !_isBehind && !_endpoints.MayRetry(Now))
            return;
        _isBehind = false;
        Reconcile();
    }

    private void Upgrade()
    {
        if (_endpoints.Bindings.Count == 0 || Served is not null || !_attachment.MayTry(Now))
            return;
        if ((_attachment.Program is not null || TryAttach(TimeSpan.Zero)) && OpenQueues())
            Reconcile();
    }

    private void PromoteQuiet()
    {
        if (Served is { } served)
            _endpoints.PromoteQuiet(served, Now);
    }

    private void RemoveGone()
    {
        if (Served is { } served)
            _endpoints.RemoveGone(served, Now);
    }

    private void CheckStalls()
    {
        foreach (XdpQueue queue in Queues)
            _stalls.Check(queue.Settings.QueueId, queue.TurnDuration, queue.Counters, Now);
    }

    private void CheckSyns()
    {
        if (_attachment.Program is not { } program)
            return;
        foreach (XdpQueue queue in Queues)
            _syns.Check(queue.Settings.QueueId, queue.Statistics.Tcp.SynCookiesSent, program, Now);
    }

    private void CheckRedirects()
    {
        if (_attachment.Program is { } program && Queues.Count > 0
            && _redirects.Check(Queues.Sum(queue => queue.Statistics.Arrived), program.ReadRedirected, Now))
        {
            Abandon("what its XDP program redirects does not arrive at the AF_XDP sockets");
        }
    }

    /// <summary>Heap memory that a peak has left behind goes back to the system.</summary>
    private void TrimHeap()
    {
        long released = _blocks.Trim(new Instant(Now * TimeSpan.TicksPerMillisecond));
        // A process that has nothing to do allocates nothing, and so would collect nothing for hours.
        if (released >= WorthCollecting)
            GC.Collect(GC.MaxGeneration, GCCollectionMode.Forced, blocking: false);
    }

    private void WatchNetwork()
    {
        if (_watcher is null)
        {
            _watcher = new NetworkWatcher(OnNetworkChanged, routes: true);
            _networkChanged = true;
            _routes.Renew();
        }
        // Nobody is told of it where the driver does not restart the link.
        if (_attachment.HasOtherQueues)
            _networkChanged = true;
        if (!_networkChanged)
            return;
        _networkChanged = false;
        bool removed = _deviceRemoved;
        _deviceRemoved = false;
        try
        {
            OnDeviceChanged(removed);
        }
        catch
        {
            _deviceRemoved |= removed;
            _networkChanged = true;
            throw;
        }
    }

    // On the watcher's thread, which must not wait.
    private void OnNetworkChanged(NetworkChange change)
    {
        if (change.Neighbour is { } neighbour)
        {
            if (_attachment.Device is { } device
                && (neighbour.Ifindex == device.Index || neighbour.Ifindex == device.MasterIndex))
            {
                _routes.Learn(neighbour);
            }
            return;
        }
        if (change.Kind == NetworkChangeKind.QueueingChanged)
        {
            if (change.Ifindex == _attachment.Device?.Index)
                LookAtNetwork();
            return;
        }
        _routes.Renew();
        if (change.Kind == NetworkChangeKind.RouteChanged)
            return;
        // It may be back before anybody looks.
        if (change.Ifindex == _attachment.Device?.Index)
        {
            if (change.Kind == NetworkChangeKind.LinkRemoved)
                _deviceRemoved = true;
            else if (change is { Kind: NetworkChangeKind.LinkDown or NetworkChangeKind.LinkChanged, IsUp: false })
                _deviceWentDown = true;
        }
        LookAtNetwork();
    }

    // Another interface is served, or no longer: its addresses are this one's too. That this one is, is no news to it.
    // But from its first queue on the network has to be watched, sooner than by the next tick.
    private void OnServedChanged()
    {
        if (!_lock.IsHeldByCurrentThread)
            LookAtNetwork();
        else if (_watcher is null)
            _wake.Set();
    }

    // What was handed over to the kernel may be for a queue of theirs from now on.
    private void OnOthersListen()
    {
        if (_lock.IsHeldByCurrentThread)
            return;
        foreach (XdpQueue queue in Queues)
            queue.Ask(_ => _handOver.Forget());
    }

    private void LookAtNetwork()
    {
        _networkChanged = true;
        _wake.Set();
    }

    /// <param name="removed">
    /// It was gone, from the network namespace at least, wherever it is now. Its AF_XDP sockets are of no use any more.
    /// </param>
    private void OnDeviceChanged(bool removed)
    {
        bool wentDown = _deviceWentDown;
        _deviceWentDown = false;
        IReadOnlyList<NetworkInterfaceInfo> all = NetworkInterfaceInfo.List();
        NetworkInterfaceInfo? device = _attachment.FindDevice(all);
        if (_attachment.Program is null)
        {
            if (removed || wentDown)
                _attachment.ForgetDevice();
            _attachment.ConsiderDevice(device);
        }
        else if (device is null || removed)
        {
            Lose($"the interface {InterfaceName} is gone");
            _attachment.ForgetDevice();
            _networkChanged = true;
            _wake.Set();
        }
        else if (VlanTags.WhyNot(device, all) is { } hidden)
        {
            Lose(hidden);
        }
        else
        {
            _attachment.FollowDevice(device, all);
            _queues.Follow(device);
            // They have its MAC address.
            _routes.Renew();
            Reconcile();
        }
    }

    // The kernel tells nobody of it.
    private void CheckAttachment()
    {
        if (!_attachment.IsDetached)
            return;
        if (_attachment.FindDevice(NetworkInterfaceInfo.List()) is null)
            OnDeviceChanged(removed: true);
        else
            Abandon("somebody else has detached its XDP program");
    }

    // Sockets serve, and it is not tried again before the device changes.
    private void Abandon(string reason)
    {
        TakeDown(reason);
        _attachment.GiveUp();
        TransportLog.InterfaceAbandoned(_logger, InterfaceName, reason);
    }

    private void ReplaceFailedQueues()
    {
        IReadOnlyList<XdpQueue> failed = _queues.RemoveFailed(_attachment.Program);
        if (failed.Count > 0)
        {
            _attachment.RetrySoon(Now);
            Forget(failed, _attachment.Program);
            Reconcile();
        }
        else if (_queues.IsIncomplete && _attachment.Program is not null && _attachment.MayTry(Now) && OpenQueues())
        {
            Reconcile();
        }
    }

    // Attaching makes many drivers restart the interface. So first comes what may be refused without touching it.
    private bool TryAttach(TimeSpan patience)
    {
        if (!_attachment.TryLoad(patience, Sources, Now))
            return false;
        if (_queues.PrepareMissing(_attachment.Device!) is { } refusal)
        {
            _attachment.Release(refusal, Now);
            _attachment.RetryLater(Now);
            return false;
        }
        if (_attachment.TryAttach(patience, Now))
            return true;
        _queues.CloseAll();
        return false;
    }

    // With the program attached. False when not one queue is open; then the program is off again as well.
    private bool OpenQueues()
    {
        if (_queues.OpenMissing(_attachment.Device!, _attachment.Program!, _endpoints.Listening) is { } refusal)
        {
            TakeDown(refusal);
            _attachment.RetryLater(Now);
            return false;
        }
        _attachment.QueuesOpened(all: !_queues.IsIncomplete, Now);
        return true;
    }

    // Tells of the endpoints that come to be served by it, or cease to be, but for one that begins.
    private void Reconcile(EndpointBinding? begins = null)
    {
        if (Served is not { } served)
            return;
        _endpoints.Reconcile(served, Now);
        _endpoints.TakeServedChanges(out var begun, out var ended);
        foreach (EndpointBinding binding in begun.Where(b => b != begins))
            TransportLog.Upgraded(_logger, binding.EndPoint, InterfaceName, Modes);
        if (begun.Any(b => b != begins))
            Upgraded?.Invoke();
        foreach (EndpointBinding binding in ended)
            TransportLog.PartialFallBack(
                _logger, binding.EndPoint, InterfaceName, WhyNotServed(binding), Sources.Describe());
    }

    private void Lose(string reason)
    {
        TakeDown(reason);
        TransportLog.InterfaceLost(_logger, InterfaceName, reason);
    }

    // The program first: a segment must not be sent to a socket that is about to close.
    private void TakeDown(string reason)
    {
        var end = new CleanUp(_logger, InterfaceName);
        end.Do(_attachment.Detach);
        end.Do(() => Forget(_queues.CloseAll(), maps: null));
        end.Do(_endpoints.ForgetInstalled);
        end.Do(_handOver.Reset);
        end.Do(() => _attachment.Release(reason, Now));
    }

    private void Forget(IReadOnlyList<XdpQueue> closed, ISteeringMaps? maps)
    {
        foreach (XdpQueue queue in closed)
        {
            _stalls.Forget(queue.Settings.QueueId);
            foreach (EndpointBinding binding in _endpoints.Bindings)
                binding.Forget(queue);
            new CleanUp(_logger, InterfaceName).Do(() => _syns.Forget(queue.Settings.QueueId, maps));
        }
    }
}

using System.Collections.Concurrent;
using System.Net;
using System.Net.NetworkInformation;
using Kestrel.Transport.Xdp.Internal.Connections;
using Kestrel.Transport.Xdp.Internal.Logging;
using Kestrel.Transport.Xdp.Internal.Queues;
using Microsoft.Extensions.Logging;
using Xdp.Sockets;
using Xdp.Sockets.Net;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>
/// Asks the kernel for the ways to peers, for the queues of one interface, and tells them when these have changed. On a
/// thread of its own, in the interface's network namespace: the kernel may let it wait for whoever configures the
/// network. Owns the questions that have not been answered, and what is known of neighbours.
/// </summary>
/// <remarks>
/// A peer is checked as the kernel would check its packets. What the kernel does not take is not answered. Where the
/// next hop is not known, the kernel is made to resolve it, and the question waits.
/// </remarks>
/// <param name="interfaceName">The interface's name.</param>
/// <param name="device">The interface as it was seen last.</param>
/// <param name="queues">Those that are open.</param>
/// <param name="renewed">What was said of peers holds no more. Called in a turn of each queue.</param>
/// <param name="logger">The engine's.</param>
internal sealed class RouteResolver(
    string interfaceName, Func<NetworkInterfaceInfo?> device, Func<IReadOnlyList<XdpQueue>> queues,
    Action renewed, ILogger logger)
    : IDisposable
{
    // Prefixes within a prefix that the program is told of. Where there are more, it is told of the peer alone.
    private const int MostWithin = 256;

    /// <summary>Changes seldom come alone: so many milliseconds after the first of them, all are read.</summary>
    private const long SettleTime = 50;

    /// <summary>Where reading the tables takes long, it takes this share of the time at most.</summary>
    private const int ReadingShare = 10;

    /// <summary>Milliseconds between two signs to the kernel that a neighbour is in use.</summary>
    private const long UseInterval = 15_000;

    /// <summary>Milliseconds that the kernel has to resolve a neighbour. It asks three times, once a second.</summary>
    private const long NeighbourPatience = 3_500;

    /// <summary>Milliseconds between two looks at tables that are too large to be of use.</summary>
    private const long LargeTableInterval = 60_000;

    private const long WarningInterval = 60_000;

    // Milliseconds after a question that could not be asked, in which others get one attempt.
    private const long FailingTime = 1_000;

    private const int Attempts = 3;

    // Before it is looked whether anything has changed.
    private const int WorkAtOnce = 256;

    // Questions that wait for neighbours. The kernel's own limit of neighbours is of this size.
    private const int MostWaiting = 1024;

    private const int MostNeighbours = 65_536;

    // In intervals of use.
    private const int RememberedIdle = 8;

    private static readonly TimeSpan s_pauseAfterFailure = TimeSpan.FromMilliseconds(10);
    private static readonly HostRoute s_refused = new(LinkPath.IpOnly, RouteKind.Refused);

    private readonly ConcurrentQueue<Action> _work = new();
    private readonly AutoResetEvent _wake = new(false);
    private readonly Dictionary<IpAddr, Neighbour> _neighbours = [];
    private readonly List<Waiting> _waiting = [];
    private volatile PeerClasses _classes = PeerClasses.None;
    private KernelRoutes? _kernel;
    private volatile RawIpSocket? _raw;
    private Thread? _thread;
    private long _renewAt, _mayRenewAt, _readAt, _useAt, _mayWarnAt, _failingUntil;
    private volatile bool _changed = true, _stopping;

    /// <summary>A next hop, and the ways that lead to it, as long as somebody has used them lately.</summary>
    private sealed class Neighbour
    {
        /// <summary>Null while it has not been found.</summary>
        internal PhysicalAddress? Mac;

        /// <summary>Somebody has waited for it in vain, and keeps to another way.</summary>
        internal bool IsMissed;
        internal readonly List<(HostRoute Route, int Idle)> Routes = [];
    }

    /// <summary>A question that waits for the kernel to resolve a neighbour.</summary>
    private sealed record Waiting(IpAddr Neighbour, XdpQueue Queue, FlowKey Flow, long Until);

    private static long Now => Environment.TickCount64;

    internal void Start()
    {
        _thread = new Thread(Run) { IsBackground = true, Name = $"xdp {interfaceName} routes" };
        _thread.Start();
    }

    /// <summary>Answered by <see cref="XdpQueue.TakeAnswer"/>. Any thread.</summary>
    internal void Ask(XdpQueue queue, FlowKey flow) => Do(() => Answer(queue, flow));

    /// <summary>
    /// The connection's peer is silent. Answered by <see cref="XdpQueue.Redirect"/>. The kernel is made to verify what
    /// it knows either way. Any thread.
    /// </summary>
    internal void Suspect(XdpQueue queue, QueueSide connection) => Do(() =>
    {
        RouteAnswer answer = Resolve(connection.Flow, verify: true, out IpAddr? silent);
        if (silent is { } neighbour)
            NeighbourOf(neighbour).IsMissed = true;
        queue.Ask(_ => queue.Redirect(connection, answer));
    });

    /// <summary>Has the queue do this when what it has asked before is answered. Any thread.</summary>
    internal void AfterAnswers(XdpQueue queue, Action<TcpStack> action) => Do(() => queue.Ask(action));

    /// <summary>The queue is open: it learns which peers are alike. Any thread.</summary>
    internal void Begin(XdpQueue queue) => Do(() => Tell(queue, hop: null, areNew: false));

    /// <summary>The kernel's tables have changed. Any thread.</summary>
    internal void Renew()
    {
        _changed = true;
        _wake.Set();
    }

    /// <summary>The kernel knows something new of a neighbour. Any thread.</summary>
    internal void Learn(NeighbourEntry entry) => Do(() => OnNeighbour(entry));

    /// <summary>Sends an IP packet by the kernel's routes; false when it does not. Any thread.</summary>
    internal bool Send(ReadOnlySpan<byte> packet) => _raw is { } raw && raw.TrySend(packet);

    /// <summary>What has not been answered is not answered any more.</summary>
    public void Dispose()
    {
        _stopping = true;
        _wake.Set();
        _thread?.Join();
        _kernel?.Dispose();
        _raw?.Dispose();
    }

    private void Do(Action work)
    {
        _work.Enqueue(work);
        _wake.Set();
    }

    private void Run()
    {
        while (!_stopping)
        {
            Attempt(RenewIfDue);
            for (int i = 0; i < WorkAtOnce && !_stopping && _work.TryDequeue(out Action? work); i++)
                Attempt(work);
            Attempt(GiveUpWaiting);
            Attempt(ShowUse);
            if (_work.IsEmpty)
                _wake.WaitOne(UntilDue());
        }
    }

    // Nothing of that may end the thread: nobody could connect any more.
    private void Attempt(Action action)
    {
        try
        {
            action();
        }
        catch (Exception e)
        {
            Warn(e);
        }
    }

    private void Warn(Exception e)
    {
        if (Now < _mayWarnAt)
            return;
        _mayWarnAt = Now + WarningInterval;
        TransportLog.ControlFailed(logger, interfaceName, e);
    }

    private int UntilDue()
    {
        long due = _useAt;
        if (IsToBeRenewed)
            due = Math.Min(due, Math.Max(_renewAt, _mayRenewAt));
        foreach (Waiting waiting in _waiting)
            due = Math.Min(due, waiting.Until);
        return (int)Math.Clamp(due - Now, 1, UseInterval);
    }

    // ---- questions

    private void Answer(XdpQueue queue, FlowKey flow)
    {
        RouteAnswer answer = default;
        IpAddr? silent = null;
        try
        {
            answer = Resolve(flow, verify: false, out silent);
        }
        catch (Exception e)
        {
            // Each question is answered, or it would never be asked again.
            Warn(e);
        }
        if (silent is not { } neighbour)
        {
            Tell(queue, flow, answer);
            return;
        }
        if (_waiting.Count >= MostWaiting)
        {
            Miss(_waiting[0]);
            _waiting.RemoveAt(0);
        }
        _waiting.Add(new(neighbour, queue, flow, Now + NeighbourPatience));
        queue.Ask(_ => queue.Postpone(flow));
    }

    private static void Tell(XdpQueue queue, FlowKey flow, RouteAnswer answer) =>
        queue.Ask(_ => queue.TakeAnswer(flow, answer));

    private void TellAll(IpAddr? hop, bool areNew)
    {
        foreach (XdpQueue queue in queues())
            Tell(queue, hop, areNew);
    }

    /// <param name="queue">What it has handed over before this goes by what was said before.</param>
    /// <param name="hop">Of the ways that may be others now; null for all.</param>
    /// <param name="areNew">The kernel's tables have changed.</param>
    private void Tell(XdpQueue queue, IpAddr? hop, bool areNew)
    {
        PeerClasses classes = _classes;
        queue.Ask(_ =>
        {
            queue.Reroute(classes, hop);
            if (areNew)
                renewed();
        });
    }

    /// <param name="flow">Of which the peer's way is asked for.</param>
    /// <param name="verify">The neighbour is to show that it is there.</param>
    /// <param name="silent">The neighbour that the kernel has to resolve first.</param>
    private RouteAnswer Resolve(in FlowKey flow, bool verify, out IpAddr? silent)
    {
        silent = null;
        for (int attempt = 1; ; attempt++)
        {
            try
            {
                _kernel ??= new KernelRoutes();
                return device() is { } link ? Resolve(_kernel, link, flow, verify, out silent) : default;
            }
            catch (XdpException e)
            {
                LeaveKernel();
                // Those that wait meanwhile are not to wait for each other's attempts.
                if (attempt < Attempts && Now >= _failingUntil)
                {
                    Thread.Sleep(s_pauseAfterFailure);
                    continue;
                }
                _failingUntil = Now + FailingTime;
                Warn(e);
                return default;
            }
        }
    }

    private RouteAnswer Resolve(
        KernelRoutes kernel, NetworkInterfaceInfo link, in FlowKey flow, bool verify, out IpAddr? silent)
    {
        silent = null;
        // What comes over loopback has been routed when it was sent.
        if (link.IsLoopback)
            return new(new HostRoute(new LinkPath(0, 0), RouteKind.Link, link.Index, flow.Remote), false);
        var routed = new RoutedFlow(
            flow.Local.ToIPAddress(), flow.Remote.ToIPAddress(), flow.LocalPort, flow.RemotePort);
        // What a bond or a bridge has as a port comes in by the bond or bridge, for the kernel.
        if (!kernel.Delivers(routed, link.MasterIndex != 0 ? link.MasterIndex : link.Index)
            || kernel.Find(routed, flow.Remote.IsLinkLocal ? link.Index : 0) is not { } route)
        {
            OpenRaw();
            return new(s_refused, true);
        }
        IpAddr hop = IpAddr.From(route.NextHop);
        bool isOurs = route.Ifindex == link.Index || (route.Ifindex == link.MasterIndex && link.MasterIndex != 0);
        if (!isOurs || route.IsEncapsulated)
        {
            OpenRaw();
            return new(Elsewhere(route, hop), HoldsForClass: !route.IsException);
        }
        if (verify)
            kernel.Probe(route.Ifindex, route.NextHop, create: true);
        if (FindNeighbour(kernel, route.Ifindex, route.NextHop) is not { } mac)
        {
            silent = hop;
            return default;
        }
        var path = new LinkPath(
            LinkPath.ReadMac(link.Mac.GetAddressBytes()), LinkPath.ReadMac(mac.GetAddressBytes()));
        var found = new HostRoute(path, RouteKind.Link, route.Ifindex, hop)
        {
            // The stack finds out the path MTU by itself.
            Mtu = route.IsException ? int.MaxValue : route.Mtu ?? int.MaxValue,
            IsMtuLocked = route.IsMtuLocked && !route.IsException,
            AdvertisedMss = route.AdvertisedMss,
        };
        return new(Remember(hop, mac, found), HoldsForClass: hop != flow.Remote && !route.IsException);
    }

    private static HostRoute Elsewhere(KernelRoute route, IpAddr hop) =>
        new(LinkPath.IpOnly, RouteKind.Elsewhere, route.IsEncapsulated ? 0 : route.Ifindex, hop)
        {
            Mtu = route.Mtu ?? NetworkInterfaceInfo.Get(route.Ifindex)?.Mtu ?? int.MaxValue,
            IsMtuLocked = route.IsMtuLocked,
            AdvertisedMss = route.AdvertisedMss,
        };

    private static PhysicalAddress? FindNeighbour(KernelRoutes kernel, int ifindex, IPAddress address)
    {
        if (kernel.FindNeighbour(ifindex, address) is { } known)
            return known;
        kernel.Probe(ifindex, address, create: true);
        // Where nothing has to be resolved, as on a link without ARP, it is known at once.
        return kernel.FindNeighbour(ifindex, address);
    }

    /// <summary>
    /// Peers that are routed as this one, and with false those within them, which are not. Any thread.
    /// </summary>
    internal IReadOnlyDictionary<IPNetwork, bool> RoutedAs(IpAddr peer)
    {
        PeerClasses classes = _classes;
        if (classes.DependsOnPorts || classes.Find(peer) is not { } alike
            || classes.Within(alike.Prefix, alike.Length, MostWithin) is not { } within)
        {
            return new Dictionary<IPNetwork, bool> { [Network(peer, PeerClasses.WholeAddress)] = true };
        }
        return within.ToDictionary(
            static other => Network(other.Prefix, other.Length), other => other == alike);
    }

    private static IPNetwork Network(IpAddr prefix, int length) =>
        new(prefix.ToIPAddress(), prefix.IsIPv4 ? length - PeerClasses.BitsBeforeIPv4 : length);

    // The next question is asked through another socket.
    private void LeaveKernel()
    {
        _kernel?.Dispose();
        _kernel = null;
    }

    // Where that fails, segments of connections that move there are lost until it does not.
    private void OpenRaw()
    {
        try
        {
            _raw ??= new RawIpSocket();
        }
        catch (XdpException e)
        {
            Warn(e);
        }
    }

    private void GiveUpWaiting()
    {
        long now = Now;
        foreach (Waiting late in _waiting.FindAll(waiting => waiting.Until <= now))
            Miss(late);
        _waiting.RemoveAll(waiting => waiting.Until <= now);
    }

    private void Miss(Waiting waiting)
    {
        NeighbourOf(waiting.Neighbour).IsMissed = true;
        Tell(waiting.Queue, waiting.Flow, default);
    }

    // ---- changes

    private bool IsToBeRenewed => _changed && queues().Count > 0;

    private void RenewIfDue()
    {
        if (!IsToBeRenewed)
            return;
        if (_renewAt == 0)
            _renewAt = _mayRenewAt == 0 ? Now : Now + SettleTime;
        long begin = Now;
        if (begin < Math.Max(_renewAt, _mayRenewAt))
            return;
        _changed = false;
        _renewAt = 0;
        try
        {
            _kernel ??= new KernelRoutes();
            bool rulesOnly = begin < _readAt;
            RouteDistinctions distinctions = _kernel.ReadDistinctions(rulesOnly);
            if (distinctions.Prefixes is null && !rulesOnly)
                _readAt = Now + LargeTableInterval;
            _classes = new PeerClasses(distinctions);
        }
        catch
        {
            LeaveKernel();
            _classes = PeerClasses.None;
            _changed = true;
            throw;
        }
        finally
        {
            _mayRenewAt = Now + Math.Max(SettleTime, (Now - begin) * ReadingShare);
            _neighbours.Clear();
            TellAll(hop: null, areNew: true);
        }
    }

    private void OnNeighbour(NeighbourEntry entry)
    {
        IpAddr address = IpAddr.From(entry.Address);
        Neighbour? known = _neighbours.GetValueOrDefault(address);
        PhysicalAddress? before = known?.Mac;
        List<Waiting> heard = _waiting.FindAll(waiting => waiting.Neighbour == address);
        _waiting.RemoveAll(waiting => waiting.Neighbour == address);
        foreach (Waiting waiting in heard)
        {
            if (entry.Mac is null)
                Miss(waiting);
            else
                Answer(waiting.Queue, waiting.Flow);
        }
        if (entry.Mac is null || known is null || (!known.IsMissed && (before is null || entry.Mac.Equals(before))))
            return;
        IpAddr? hop = known.IsMissed ? null : address;
        (known.Mac, known.IsMissed) = (entry.Mac, false);
        known.Routes.Clear();
        TellAll(hop, areNew: false);
    }

    // ---- neighbours

    private Neighbour NeighbourOf(IpAddr hop)
    {
        if (!_neighbours.TryGetValue(hop, out Neighbour? neighbour))
        {
            // Those in use come back.
            if (_neighbours.Count >= MostNeighbours)
                Renew();
            _neighbours[hop] = neighbour = new Neighbour();
        }
        return neighbour;
    }

    // The same way is one object.
    private HostRoute Remember(IpAddr hop, PhysicalAddress mac, HostRoute route)
    {
        Neighbour neighbour = NeighbourOf(hop);
        neighbour.Mac = mac;
        int index = neighbour.Routes.FindIndex(known => known.Route.IsSameAs(route));
        if (index >= 0)
        {
            neighbour.Routes[index] = (neighbour.Routes[index].Route, 0);
            return neighbour.Routes[index].Route;
        }
        neighbour.Routes.Add((route, 0));
        return route;
    }

    // Our packets do not pass the kernel. So it is told that their neighbours are in use, and verifies them as it does
    // its own. Those that it has forgotten it need not know.
    private void ShowUse()
    {
        if (Now < _useAt)
            return;
        _useAt = Now + UseInterval;
        if (_kernel is not { } kernel)
            return;
        foreach ((IpAddr address, Neighbour neighbour) in _neighbours)
        {
            bool isUsed = false;
            for (int i = 0; i < neighbour.Routes.Count; i++)
            {
                (HostRoute route, int idle) = neighbour.Routes[i];
                neighbour.Routes[i] = (route, route.IsUsed ? 0 : idle + 1);
                isUsed |= route.IsUsed;
                route.IsUsed = false;
            }
            if (isUsed)
                kernel.Probe(neighbour.Routes[0].Route.Ifindex, address.ToIPAddress(), create: false);
            neighbour.Routes.RemoveAll(static route => route.Idle > RememberedIdle);
        }
    }
}

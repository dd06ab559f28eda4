using System.Net;
using Kestrel.Transport.Xdp.Internal.Logging;
using Kestrel.Transport.Xdp.Internal.Queues;
using Kestrel.Transport.Xdp.Internal.Steering;
using Microsoft.Extensions.Logging;
using Xdp.Sockets;
using Xdp.Sockets.Net;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>An interface that is served, as its endpoints depend on it.</summary>
/// <param name="Maps">Of its program.</param>
/// <param name="Addresses">Its own.</param>
/// <param name="AllQueues">Every NIC queue has a socket, so nothing arrives that only the companion could take.</param>
internal readonly record struct ServedInterface(
    ISteeringMaps Maps, IReadOnlyList<InterfaceAddress> Addresses, bool AllQueues)
{
    /// <summary>Addresses that other interfaces have, and that segments on this one may be for.</summary>
    internal IReadOnlyList<InterfaceAddress> Elsewhere { get; init; } = [];

    /// <summary>Addresses of other interfaces that are served.</summary>
    internal IReadOnlyList<InterfaceAddress> OfOthers { get; init; } = [];

    /// <summary>Those elsewhere are for wildcard listeners too, not only for those that name them.</summary>
    internal bool WildcardsTakeAll { get; init; }
}

/// <summary>What a stack listens on, and for whom.</summary>
internal sealed record StackListener(IpAddr Address, ushort Port, ListeningEndpoint Endpoint);

/// <summary>
/// Keeps the endpoints in the program's map and in the stacks equal to what is wanted: each address of the interface
/// that a listener covers, with the listener's port. Owns the listeners' bindings, what it has installed for them, and
/// which of them were served when that was last asked. Under the engine's lock. Times are in milliseconds.
/// <para>
/// An address that the program's map does not take stays with sockets, and is tried again. The others are served.
/// </para>
/// <para>
/// A connection outlives its address, which may come back: with DHCP and VRRP within milliseconds. So an address that
/// has gone stays in the map, draining, as long as a stack has a connection of it. The kernel knows nothing of these
/// connections, and would end them with RST as soon as it has the address again.
/// </para>
/// </summary>
/// <param name="interfaceName">The interface's name.</param>
/// <param name="stacks">Those of all queues that are open.</param>
/// <param name="kernelConnections">
/// Local ends of the kernel's connections on some ports that come in from outside; null when that is not to be found
/// out.
/// </param>
/// <param name="logger">The engine's.</param>
internal sealed class EndpointReconciler(
    string interfaceName, IListeningStacks stacks,
    Func<IReadOnlySet<int>, IReadOnlySet<(IpAddr Address, int Port)>?> kernelConnections, ILogger logger)
{
    /// <summary>
    /// Not before this long in mixed mode is an endpoint steered whole. Late segments of connections that the kernel
    /// has just forgotten have arrived by then.
    /// </summary>
    internal const long QuietGrace = 2_000;

    /// <summary>Between two looks at the kernel's connections.</summary>
    internal const long QuietCheck = 2_000;

    /// <summary>Until what the map has refused is tried again.</summary>
    internal const long RetryAfter = 10_000;

    /// <summary>
    /// Not before this long is an address that has gone taken out of the map. SYN cookies have come back by then, and
    /// late segments have arrived.
    /// </summary>
    internal const long GoneGrace = 2_000;

    /// <summary>Between two looks for connections of addresses that have gone.</summary>
    internal const long GoneCheck = 5_000;

    private const int E2BIG = 7; // a hash map that is full

    private readonly List<EndpointBinding> _bindings = [];
    private readonly Dictionary<IPEndPoint, Endpoint> _installed = [];
    private readonly Dictionary<EndpointBinding, string> _refusals = [];
    private HashSet<EndpointBinding> _served = [];
    private long _nextQuietCheck, _nextGoneCheck, _retryAt;
    private bool _toldOfRefusals;

    /// <param name="local">An address of the machine's, with a listener's port.</param>
    /// <param name="binding">Of the listener.</param>
    /// <param name="now">In milliseconds.</param>
    private sealed class Endpoint(IPEndPoint local, EndpointBinding binding, long now)
    {
        internal readonly IPEndPoint Local = local;

        // As the stacks have it.
        internal IpAddr Address => IpAddr.From(Local.Address);
        internal ushort Port => (ushort)Local.Port;

        internal EndpointBinding Binding = binding;
        internal SteeringMode Mode = SteeringMode.Off;
        internal bool Listening;

        /// <summary>The kernel has no connection of the endpoint's.</summary>
        internal bool Quiet;

        /// <summary>When something last changed that makes the kernel's connections count again.</summary>
        internal long Since = now;

        /// <summary>Since when the interface has not had the address; null while it has.</summary>
        internal long? GoneSince;
    }

    /// <summary>Those that are open, and those whose connections have not ended.</summary>
    internal IReadOnlyList<EndpointBinding> Bindings => _bindings;

    /// <summary>What every stack listens on.</summary>
    internal IReadOnlyList<StackListener> Listening =>
        [.. _installed.Values.Where(e => e.Listening).Select(e => new StackListener(e.Address, e.Port, e.Binding))];

    internal void Add(EndpointBinding binding) => _bindings.Add(binding);

    /// <summary>Why the map has taken none of the binding's addresses; null when it has, or was not asked.</summary>
    internal string? WhyRefused(EndpointBinding binding) =>
        IsServed(binding) ? null : _refusals.GetValueOrDefault(binding);

    /// <summary>Is it time to try again what the map has refused?</summary>
    internal bool MayRetry(long now) => _refusals.Count > 0 && now >= _retryAt;

    /// <summary>
    /// A draining endpoint goes when its last connection has: until then its segments must not reach a kernel that
    /// would answer with RST. False when there is none to go.
    /// </summary>
    internal bool RemoveEnded() => _bindings.RemoveAll(static b => b.IsDraining && b.Connections == 0) > 0;

    /// <summary>Makes map and stacks what they should be.</summary>
    internal void Reconcile(in ServedInterface served, long now)
    {
        Dictionary<IPEndPoint, EndpointBinding> wanted = Wanted(served);
        _refusals.Clear();
        foreach (Endpoint endpoint in _installed.Values.ToArray())
        {
            if (wanted.ContainsKey(endpoint.Local))
                continue;
            if (_bindings.Contains(endpoint.Binding))
                LetGo(endpoint, served, now);
            else
                Remove(endpoint, served);
        }
        int left = 0;
        string? full = null;
        foreach ((IPEndPoint local, EndpointBinding binding) in wanted)
        {
            bool isNew = !_installed.TryGetValue(local, out Endpoint? endpoint);
            // What is full for one address is full for all.
            if (isNew && full is not null)
            {
                _refusals.TryAdd(binding, full);
                left++;
                continue;
            }
            endpoint ??= new Endpoint(local, binding, now);
            if (endpoint.Binding != binding)
            {
                StopListening(endpoint);
                endpoint.Binding = binding;
                endpoint.Quiet = false;
                endpoint.Since = now;
            }
            try
            {
                Install(endpoint, served, now);
                if (isNew)
                    _installed[local] = endpoint;
            }
            catch (XdpException e)
            {
                _refusals.TryAdd(binding, e.Message);
                // One that is in the map already stays as it is.
                if (!isNew)
                    continue;
                left++;
                if (e.Errno == E2BIG)
                    full = e.Message;
                StopListening(endpoint);
            }
        }
        _retryAt = now + RetryAfter;
        TellOfRefusals(left, wanted.Count);
    }

    /// <summary>
    /// Steers endpoints whole once the kernel has no connection of theirs left that comes in from outside.
    /// </summary>
    internal void PromoteQuiet(in ServedInterface served, long now)
    {
        if (now < _nextQuietCheck || !served.AllQueues)
            return;
        Endpoint[] candidates =
            [.. _installed.Values.Where(e => e.Mode == SteeringMode.Mixed && now - e.Since >= QuietGrace)];
        if (candidates.Length == 0)
            return;
        _nextQuietCheck = now + QuietCheck;

        if (kernelConnections(candidates.Select(c => c.Local.Port).ToHashSet()) is not { } connections)
            return;
        foreach (Endpoint endpoint in candidates)
            endpoint.Quiet = !connections.Contains((endpoint.Address, endpoint.Port));
        Reconcile(served, now);
    }

    /// <summary>Takes addresses out of the map that have gone, once no stack has a connection of theirs.</summary>
    internal void RemoveGone(in ServedInterface served, long now)
    {
        if (now < _nextGoneCheck)
            return;
        Endpoint[] gone = [.. _installed.Values.Where(e => e.GoneSince is { } since && now - since >= GoneGrace)];
        if (gone.Length == 0)
            return;
        _nextGoneCheck = now + GoneCheck;
        IReadOnlySet<(IpAddr, ushort)> inUse = stacks.InUse(gone.Select(LocalEnd).ToHashSet());
        foreach (Endpoint endpoint in gone)
        {
            if (!inUse.Contains(LocalEnd(endpoint)))
                Remove(endpoint, served);
        }
    }

    /// <summary>The program and the queues are gone, and with them what was installed. What is wanted stays.</summary>
    internal void ForgetInstalled()
    {
        _installed.Clear();
        _served = [];
        _refusals.Clear();
    }

    /// <summary>Does the interface have an address that is steered for the listener?</summary>
    internal bool IsServed(EndpointBinding binding) =>
        _installed.Values.Any(e => e.Binding == binding && e.GoneSince is null);

    /// <summary>
    /// Open bindings that have been served since the last call, and those that are no longer although the interface
    /// still is.
    /// </summary>
    internal void TakeServedChanges(
        out IReadOnlyList<EndpointBinding> begun, out IReadOnlyList<EndpointBinding> ended)
    {
        HashSet<EndpointBinding> served = [.. _bindings.Where(b => !b.IsDraining && IsServed(b))];
        begun = [.. served.Except(_served)];
        ended = [.. _served.Except(served).Where(b => !b.IsDraining)];
        _served = served;
    }

    // A stack must be listening before the first SYN is sent to it, and must not be left before the last.
    private void Install(Endpoint endpoint, in ServedInterface served, long now)
    {
        bool listen = !endpoint.Binding.IsDraining;
        if (listen && !endpoint.Listening)
        {
            stacks.Listen(endpoint.Address, endpoint.Port, endpoint.Binding);
            endpoint.Listening = true;
        }

        // What arrived at a queue without a socket meanwhile is the kernel's, and so is a connection that began when
        // the address was back and nobody had noticed.
        if (!served.AllQueues || endpoint.GoneSince is not null)
        {
            endpoint.Quiet = false;
            endpoint.Since = now;
        }
        SetMode(endpoint, served, !listen ? SteeringMode.Drain
            : endpoint.Quiet ? SteeringMode.Steer
            : SteeringMode.Mixed);
        endpoint.GoneSince = null;

        if (!listen)
            StopListening(endpoint);
    }

    private void SetMode(Endpoint endpoint, in ServedInterface served, SteeringMode mode)
    {
        if (mode == endpoint.Mode)
            return;
        served.Maps.SetEndpoint(endpoint.Local.Address, endpoint.Local.Port, vlan: 0, mode);
        TransportLog.EndpointMode(logger, endpoint.Local.Address, endpoint.Local.Port, interfaceName, mode.ToString());
        endpoint.Mode = mode;
    }

    // The stacks go on listening, for the handshakes that have begun. SYNs are the kernel's, which knows better whether
    // the address is there.
    private void LetGo(Endpoint endpoint, in ServedInterface served, long now)
    {
        try
        {
            endpoint.GoneSince ??= now;
            SetMode(endpoint, served, SteeringMode.Drain);
        }
        catch (XdpException e)
        {
            _refusals.TryAdd(endpoint.Binding, e.Message);
        }
    }

    private static (IpAddr Address, ushort Port) LocalEnd(Endpoint endpoint) => (endpoint.Address, endpoint.Port);

    // Out of the map before the stacks stop listening: the last SYN must find its listener.
    private void Remove(Endpoint endpoint, in ServedInterface served)
    {
        try
        {
            served.Maps.RemoveEndpoint(endpoint.Local.Address, endpoint.Local.Port, vlan: 0);
        }
        catch (XdpException e)
        {
            _refusals.TryAdd(endpoint.Binding, e.Message);
            return;
        }
        StopListening(endpoint);
        _installed.Remove(endpoint.Local);
    }

    // Once, however often it is tried again, until everything is in the map.
    private void TellOfRefusals(int left, int wanted)
    {
        if (left > 0 && !_toldOfRefusals)
            TransportLog.AddressesRefused(
                logger, interfaceName, left, wanted, wanted - left, _refusals.Values.First().TrimEnd('.'));
        _toldOfRefusals = left > 0;
    }

    private void StopListening(Endpoint endpoint)
    {
        if (endpoint.Listening)
            stacks.StopListening(endpoint.Address, endpoint.Port);
        endpoint.Listening = false;
    }

    // Open endpoints before those that drain: a listener may have come back to the same port.
    private Dictionary<IPEndPoint, EndpointBinding> Wanted(in ServedInterface served)
    {
        var wanted = new Dictionary<IPEndPoint, EndpointBinding>();
        // Sorting one is not worth what it takes to load.
        IEnumerable<EndpointBinding> inOrder = _bindings.Count < 2 ? _bindings
            : _bindings.OrderBy(b => b.IsDraining).ThenBy(b => InterfaceSelector.IsWildcard(b.EndPoint.Address));
        foreach (EndpointBinding binding in inOrder)
        {
            bool takesAll = served.WildcardsTakeAll || !InterfaceSelector.IsWildcard(binding.EndPoint.Address);
            IPAddress[] covered = Covered(takesAll ? served.Addresses.Concat(served.Elsewhere) : served.Addresses);
            // What others have is not a reason to serve.
            foreach (IPAddress address in covered.Length > 0 ? covered.Concat(Covered(served.OfOthers)) : [])
                wanted.TryAdd(new(address, binding.EndPoint.Port), binding);

            IPAddress[] Covered(IEnumerable<InterfaceAddress> addresses) =>
                [.. addresses.Where(own => !own.IsTentative && binding.Covers(own.Address)).Select(own => own.Address)];
        }
        return wanted;
    }
}

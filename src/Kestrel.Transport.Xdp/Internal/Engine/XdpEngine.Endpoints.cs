using System.Net;
using Kestrel.Transport.Xdp.Internal.Steering;
using Xdp.Sockets.Net;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal;

// The endpoints in the program's map and in the stacks, kept equal to what the bindings and the interface's addresses ask for.
internal sealed partial class XdpEngine
{
    // Not before this long in mixed mode is an endpoint steered whole: late segments of connections that the kernel has just forgotten have arrived by then.
    private static readonly TimeSpan QuietGrace = TimeSpan.FromSeconds(2);

    private static readonly TimeSpan QuietCheck = TimeSpan.FromSeconds(2);

    private readonly Dictionary<(IPAddress Address, int Port), Endpoint> _installed = [];
    private long _nextQuietCheck;

    private sealed class Endpoint(EndpointBinding binding)
    {
        internal EndpointBinding Binding = binding;
        internal SteeringMode Mode = SteeringMode.Off;
        internal bool Listening;
        internal bool Quiet;
        internal long Since = Environment.TickCount64;
    }

    /// <summary>Makes map and stacks what they should be. Does nothing while the interface is not served.</summary>
    private void Reconcile()
    {
        if (_program is null || _device is null || _queues.Length == 0)
            return;

        Dictionary<(IPAddress, int), EndpointBinding> wanted = Wanted(_device);
        foreach (((IPAddress Address, int Port) key, Endpoint endpoint) in _installed.ToArray())
        {
            if (wanted.ContainsKey(key))
                continue;
            _program.RemoveEndpoint(key.Address, key.Port, vlan: 0);
            if (endpoint.Listening)
                OnQueues(stack => stack.StopListening(IpAddr.From(key.Address), (ushort)key.Port));
            _installed.Remove(key);
        }
        foreach (((IPAddress Address, int Port) key, EndpointBinding binding) in wanted)
        {
            if (!_installed.TryGetValue(key, out Endpoint? endpoint))
                _installed[key] = endpoint = new Endpoint(binding);
            if (endpoint.Binding != binding)
            {
                if (endpoint.Listening)
                    OnQueues(stack => stack.StopListening(IpAddr.From(key.Address), (ushort)key.Port));
                endpoint.Binding = binding;
                endpoint.Listening = endpoint.Quiet = false;
                endpoint.Since = Environment.TickCount64;
            }
            Install(key.Address, key.Port, endpoint);
        }
    }

    // A stack must be listening before the first SYN is sent to it, and must not be left before the last.
    private void Install(IPAddress address, int port, Endpoint endpoint)
    {
        bool listen = !endpoint.Binding.IsDraining;
        if (listen && !endpoint.Listening)
            OnQueues(stack => stack.Listen(IpAddr.From(address), (ushort)port, endpoint.Binding));

        // What arrived at a queue without a socket meanwhile is the kernel's.
        if (!AllQueuesServed)
        {
            endpoint.Quiet = false;
            endpoint.Since = Environment.TickCount64;
        }
        SteeringMode mode = !listen ? SteeringMode.Drain
            : endpoint.Quiet ? SteeringMode.Steer
            : SteeringMode.Mixed;
        if (mode != endpoint.Mode)
        {
            _program!.SetEndpoint(address, port, vlan: 0, mode);
            XdpLog.EndpointMode(_logger, address, port, InterfaceName, mode);
            endpoint.Mode = mode;
        }

        if (!listen && endpoint.Listening)
            OnQueues(stack => stack.StopListening(IpAddr.From(address), (ushort)port));
        endpoint.Listening = listen;
    }

    // Open endpoints before those that drain: a listener may have come back to the same port.
    private Dictionary<(IPAddress, int), EndpointBinding> Wanted(NetworkInterfaceInfo device)
    {
        var wanted = new Dictionary<(IPAddress, int), EndpointBinding>();
        foreach (EndpointBinding binding in _bindings.OrderBy(b => b.IsDraining).ThenBy(b => InterfaceSelector.IsWildcard(b.EndPoint.Address)))
        {
            foreach (InterfaceAddress own in device.Addresses)
            {
                if (!own.IsTentative && binding.Covers(own.Address))
                    wanted.TryAdd((own.Address, binding.EndPoint.Port), binding);
            }
        }
        return wanted;
    }

    // A queue that is opened late: it must know the endpoints before packets are sent to it.
    private void ListenOn(XdpQueue queue)
    {
        queue.Run(stack =>
        {
            foreach (((IPAddress address, int port), Endpoint endpoint) in _installed)
            {
                if (endpoint.Listening)
                    stack.Listen(IpAddr.From(address), (ushort)port, endpoint.Binding);
            }
        });
    }

    private void OnQueues(Action<TcpStack> action)
    {
        foreach (XdpQueue queue in _queues)
            queue.Run(action);
    }

    // A draining endpoint goes when its last connection has: until then its segments must not reach a kernel that would answer with RST.
    private void ForgetEnded()
    {
        if (_bindings.RemoveAll(static b => b.IsDraining && b.Connections == 0) > 0)
            Reconcile();
    }

    /// <summary>Steers endpoints whole once the kernel has no connection of theirs left that comes in from outside.</summary>
    private void PromoteQuietEndpoints()
    {
        long now = Environment.TickCount64;
        if (now < _nextQuietCheck || !AllQueuesServed)
            return;
        KeyValuePair<(IPAddress Address, int Port), Endpoint>[] candidates =
            [.. _installed.Where(e => e.Value is { Mode: SteeringMode.Mixed } && now - e.Value.Since >= (long)QuietGrace.TotalMilliseconds)];
        if (candidates.Length == 0)
            return;
        _nextQuietCheck = now + (long)QuietCheck.TotalMilliseconds;

        HashSet<IpAddr> own = [.. NetworkInterfaceInfo.List().SelectMany(i => i.Addresses).Select(a => IpAddr.From(a.Address))];
        HashSet<(IpAddr, int)>? connections = KernelSockets.RemoteConnections(candidates.Select(c => c.Key.Port).ToHashSet(), own);
        if (connections is null)
            return;
        foreach (((IPAddress Address, int Port) key, Endpoint endpoint) in candidates)
            endpoint.Quiet = !connections.Contains((IpAddr.From(key.Address), key.Port));
        Reconcile();
    }
}

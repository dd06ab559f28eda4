using Kestrel.Transport.Xdp.Internal.Logging;
using Microsoft.Extensions.Logging;
using Xdp.Sockets.Net;

namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>
/// Whether the administrator's rules in one network namespace (packet filters, traffic control, IPsec) are for what a
/// host serves over AF_XDP, which passes them by. Owns the host's endpoints there, and what has been told of. Warns at
/// the start of an endpoint, and at once when a rule comes later. Any thread; reading needs one in the namespace.
/// </summary>
internal sealed class PolicyWatch(ILogger logger) : IDisposable
{
    private readonly Lock _lock = new();
    private readonly List<(EndpointBinding Binding, IReadOnlyList<XdpEngine> Engines)> _endpoints = [];
    private HashSet<string> _toldRules = [], _toldNat = [];
    private HostPolicyWatcher? _watcher;
    private bool _ended;

    /// <summary>The rules as they are; null when that cannot be found out. On a thread in the namespace.</summary>
    internal HostPolicy? TryRead()
    {
        try
        {
            return HostPolicy.Read();
        }
        catch (Exception e)
        {
            TransportLog.PolicyUnknown(logger, e);
            return null;
        }
    }

    /// <summary>An endpoint has begun. On a thread in the namespace.</summary>
    internal void Add(EndpointBinding binding, IReadOnlyList<XdpEngine> engines)
    {
        HostPolicyWatcher? watcher = null;
        lock (_lock)
        {
            _endpoints.Add((binding, engines));
            try
            {
                // Watched before it is looked at, so that nothing is missed.
                if (!_ended)
                    watcher = _watcher ??= new HostPolicyWatcher(Check);
            }
            catch (Exception e)
            {
                TransportLog.PolicyUnknown(logger, e);
            }
        }
        // A start does not wait for it where there is a thread to look.
        if (watcher is not null)
            watcher.Wake();
        else
            Check();
    }

    /// <summary>An interface serves endpoints that it has not served before.</summary>
    internal void LookAgain() => Volatile.Read(ref _watcher)?.Wake();

    /// <summary>Nothing is told any more.</summary>
    public void Dispose()
    {
        HostPolicyWatcher? watcher;
        lock (_lock)
        {
            _ended = true;
            watcher = _watcher;
        }
        watcher?.Dispose();
    }

    // On a thread in the namespace. An exception would end the process.
    private void Check()
    {
        try
        {
            HostPolicy policy = HostPolicy.Read();
            lock (_lock)
            {
                _endpoints.RemoveAll(static endpoint => endpoint.Binding.IsDraining);
                var rules = new HashSet<string>();
                var nat = new HashSet<string>();
                foreach ((EndpointBinding binding, IReadOnlyList<XdpEngine> engines) in _endpoints)
                {
                    int port = binding.EndPoint.Port;
                    XdpEngine[] serving = [.. engines.Where(engine => engine.Serves(binding))];
                    foreach (XdpEngine engine in serving)
                        rules.UnionWith(policy.PassedBy(port, engine.DeviceName));
                    if (serving.Length > 0)
                        nat.UnionWith(policy.SourceNatMayUse(port).Select(rule => $"port {port} ({rule})"));
                }
                if (rules.Except(_toldRules).Order(StringComparer.Ordinal).ToArray() is { Length: > 0 } newRules)
                    TransportLog.PassedBy(logger, string.Join(", ", newRules));
                if (nat.Except(_toldNat).Order(StringComparer.Ordinal).ToArray() is { Length: > 0 } newNat)
                    TransportLog.NatMayTakePort(logger, string.Join(", ", newNat));
                // One that goes and comes back is told again.
                (_toldRules, _toldNat) = (rules, nat);
            }
        }
        catch (Exception e)
        {
            TransportLog.PolicyUnknown(logger, e);
        }
    }
}

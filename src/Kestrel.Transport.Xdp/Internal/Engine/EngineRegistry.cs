using System.Security.Cryptography;
using Microsoft.Extensions.Logging;
using Xdp.TcpLite;
using NetworkNamespace = Xdp.Sockets.NetworkNamespace;

namespace Kestrel.Transport.Xdp.Internal;

/// <summary>
/// The engines of the process, one for each network namespace and interface, shared by all hosts in it: an interface takes one XDP program. An engine lives from
/// the first lease to the last, so a host that rebinds its endpoints detaches nothing.
/// </summary>
internal sealed class EngineRegistry
{
    internal static readonly EngineRegistry Process = new();

    private readonly Lock _gate = new();
    private readonly Dictionary<(ulong Namespace, string Interface), (XdpEngine Engine, int Leases)> _engines = [];

    internal static ulong CurrentNamespace => NetworkNamespace.CurrentId;

    private readonly Dictionary<ulong, FlowDirectory<XdpConnection>> _flows = [];

    internal FrameBudget Frames { get; } = new();

    internal BlockPool Blocks { get; } = new() { Poison = TransportSettings.PoisonsMemory };

    /// <summary>The key of sequence numbers and SYN cookies: one for all queues, which may see each other's flows.</summary>
    internal ReadOnlyMemory<byte> Secret { get; } = RandomNumberGenerator.GetBytes(32);

    /// <summary>The engine of an interface in the calling thread's network namespace, created if need be with the settings given. To be returned by <see cref="Release"/>.</summary>
    /// <exception cref="InvalidOperationException">Another host has the interface with other source lists: whom one of them keeps out would come in.</exception>
    internal XdpEngine Lease(string interfaceName, TransportSettings settings, ILogger logger)
    {
        lock (_gate)
        {
            (ulong, string) key = (NetworkNamespace.CurrentId, interfaceName);
            XdpEngine engine;
            if (_engines.TryGetValue(key, out var entry))
            {
                engine = entry.Engine;
                IReadOnlyList<string> differences = engine.Settings.InterfaceDifferences(settings);
                if (differences.FirstOrDefault(IsSourceList) is { } list)
                    throw new InvalidOperationException($"Another host of this process serves {interfaceName} with other {list}. An interface has one list: give both hosts the same one.");
                if (differences.Count > 0)
                    XdpLog.SharedInterface(logger, interfaceName, string.Join(", ", differences));
            }
            else
            {
                engine = new XdpEngine(this, key, FlowsOf(key.Item1), settings, logger);
            }
            _engines[key] = (engine, entry.Leases + 1);
            return engine;
        }
    }

    private static bool IsSourceList(string option) => option is nameof(XdpTransportOptions.AllowedSources) or nameof(XdpTransportOptions.DeniedSources);

    // Two namespaces may have the same addresses.
    private FlowDirectory<XdpConnection> FlowsOf(ulong space) =>
        _flows.TryGetValue(space, out FlowDirectory<XdpConnection>? flows) ? flows : _flows[space] = new(static connection => connection.Flow);

    internal void Release(XdpEngine engine)
    {
        lock (_gate)
        {
            (_, int leases) = _engines[engine.Key];
            if (leases > 1)
            {
                _engines[engine.Key] = (engine, leases - 1);
                return;
            }
            _engines.Remove(engine.Key);
            // Under the lock: the next lease of this interface waits until the program is off.
            engine.Close();
        }
    }
}

using System.Security.Cryptography;
using Kestrel.Transport.Xdp.Internal.Logging;
using Kestrel.Transport.Xdp.Internal.Options;
using Microsoft.Extensions.Logging;
using Xdp.Sockets;
using Xdp.TcpLite;
using NetworkNamespace = Xdp.Sockets.NetworkNamespace;

namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>Which interface, in which network namespace.</summary>
internal sealed record EngineKey(ulong Namespace, string Interface);

/// <summary>
/// The engines of the process, one for each network namespace and interface, shared by all hosts in it: an interface
/// takes one XDP program. An engine lives from the first lease to the last, so a host that rebinds its endpoints
/// detaches nothing.
/// </summary>
internal sealed class EngineRegistry
{
    internal static readonly EngineRegistry Process = new();

    private readonly Leases<EngineKey, XdpEngine> _engines = new(static e => e.Close());

    // While an engine is made, which one is at a time.
    private readonly Dictionary<ulong, QueueResources> _resources = [];
    private readonly FrameBudget _frames = new(static () => XdpPrivileges.MemoryLockLimit);
    private readonly byte[] _secret = NewSecret();

    /// <summary>Heap blocks for payload, of all queues.</summary>
    internal BlockPool Blocks { get; } = new() { Poison = EnvironmentSwitches.PoisonsMemory };

    internal static ulong CurrentNamespace => NetworkNamespace.CurrentId;

    /// <summary>
    /// The engine of an interface in the calling thread's network namespace, created if need be with the settings
    /// given. It obeys the host's source lists. To be returned by <see cref="Release"/>.
    /// </summary>
    /// <exception cref="InvalidOperationException">
    /// Another host has the interface with other source lists: whom one of them keeps out would come in.
    /// </exception>
    internal XdpEngine Lease(
        string interfaceName, InterfaceSettings settings, SourceFilter sources, ILogger logger)
    {
        XdpEngine engine = _engines.Lease(new(CurrentNamespace, interfaceName), Create, out bool isNew);
        if (isNew)
            return engine;
        try
        {
            CompareSettings(engine, settings, sources.Current, logger);
            engine.Obey(sources);
            return engine;
        }
        catch
        {
            Release(engine);
            throw;
        }

        XdpEngine Create(EngineKey key)
        {
            var created = new XdpEngine(key, settings, ResourcesOf(key.Namespace), logger);
            created.Obey(sources);
            return created;
        }
    }

    /// <summary>
    /// The last release waits until the program is off, and so does the next lease of this interface. Those of others
    /// do not.
    /// </summary>
    internal void Release(XdpEngine engine) => _engines.Release(engine.Key);

    private static void CompareSettings(
        XdpEngine engine, InterfaceSettings settings, SourceLists sources, ILogger logger)
    {
        if (engine.Sources.DifferenceTo(sources) is { } list)
        {
            throw new InvalidOperationException(
                $"Another host of this process serves {engine.InterfaceName} with other {list}. "
                + "An interface has one list: give both hosts the same one.");
        }
        IReadOnlyList<string> differences = engine.Settings.DifferencesTo(settings);
        if (differences.Count > 0)
            TransportLog.SharedInterface(logger, engine.InterfaceName, string.Join(", ", differences));
    }

    // The class library's random numbers are OpenSSL's. Loading that takes ten milliseconds of a start. The kernel's
    // wait only until it has gathered enough, once after booting.
    private static byte[] NewSecret()
    {
        byte[] secret = new byte[32];
        try
        {
            using var kernel =
                new FileStream("/dev/random", FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
            kernel.ReadExactly(secret);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            RandomNumberGenerator.Fill(secret);
        }
        return secret;
    }

    private QueueResources ResourcesOf(ulong space)
    {
        if (!_resources.TryGetValue(space, out QueueResources? resources))
            _resources[space] = resources = new(_frames, Blocks, _secret, new(static connection => connection.Flow));
        return resources;
    }
}

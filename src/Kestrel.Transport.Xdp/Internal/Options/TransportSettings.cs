using System.Net;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;

namespace Kestrel.Transport.Xdp.Internal;

/// <summary>The options as the transport uses them: fixed at start, with what is inherited from the socket transport filled in.</summary>
internal sealed class TransportSettings
{
    internal TransportSettings(XdpTransportOptions options, SocketTransportOptions sockets)
    {
        Options = options;
        Sockets = sockets;
        Backlog = options.Backlog ?? sockets.Backlog;
        NoDelay = options.NoDelay ?? sockets.NoDelay;
        MaxReadBufferSize = options.MaxReadBufferSize ?? sockets.MaxReadBufferSize ?? 0;
        MaxWriteBufferSize = options.MaxWriteBufferSize ?? sockets.MaxWriteBufferSize ?? 0;
        Inline = options.UnsafePreferInlineScheduling ?? sockets.UnsafePreferInlineScheduling;
    }

    internal XdpTransportOptions Options { get; }

    /// <summary>The application's own object: the companion's connections use it as it is.</summary>
    internal SocketTransportOptions Sockets { get; }

    internal int Backlog { get; }

    internal bool NoDelay { get; }

    /// <summary>Bytes; 0 is unlimited.</summary>
    internal long MaxReadBufferSize { get; }

    /// <summary>Bytes; 0 is unlimited.</summary>
    internal long MaxWriteBufferSize { get; }

    internal bool Inline { get; }

    /// <summary>Environment variable that, set to "off", leaves everything to sockets.</summary>
    internal const string KillSwitch = "KESTREL_XDP";

    internal static bool IsSwitchedOff =>
        string.Equals(Environment.GetEnvironmentVariable(KillSwitch), "off", StringComparison.OrdinalIgnoreCase);

    /// <summary>
    /// Set to "1" in the environment: memory that is given back is overwritten, so that data which is read or sent from it too late shows.
    /// A diagnostic; it costs a pass over each frame.
    /// </summary>
    internal const string PoisonSwitch = "KESTREL_XDP_POISON";

    internal static bool PoisonsMemory { get; } = Environment.GetEnvironmentVariable(PoisonSwitch) == "1";

    /// <summary>
    /// Endpoints that this transport binds: IP, not loopback, let through by the filter. Everything else is for the socket transport, file
    /// handles and Unix sockets among them, whose address family is not even looked at (FileHandleEndPoint throws).
    /// </summary>
    internal bool Serves(EndPoint endpoint) =>
        !IsSwitchedOff
        && endpoint.GetType() == typeof(IPEndPoint) && endpoint is IPEndPoint ip
        && !IsLoopback(ip.Address)
        && Options.EndpointFilter?.Invoke(ip) != false;

    /// <summary>Options that belong to an interface, and in which <paramref name="other"/> differs, by their names: hosts that share an interface share these.</summary>
    internal IReadOnlyList<string> InterfaceDifferences(TransportSettings other)
    {
        XdpTransportOptions mine = Options, theirs = other.Options;
        (string Name, bool Same)[] options =
        [
            (nameof(mine.AttachMode), mine.AttachMode == theirs.AttachMode),
            (nameof(mine.BindMode), mine.BindMode == theirs.BindMode),
            (nameof(mine.Queues), (mine.Queues ?? []).SequenceEqual(theirs.Queues ?? [])),
            (nameof(mine.FramesPerQueue), mine.FramesPerQueue == theirs.FramesPerQueue),
            (nameof(mine.MemoryBudget), mine.MemoryBudget == theirs.MemoryBudget),
            (nameof(mine.ReceiveRingSize), mine.ReceiveRingSize == theirs.ReceiveRingSize),
            (nameof(mine.TransmitRingSize), mine.TransmitRingSize == theirs.TransmitRingSize),
            (nameof(mine.BusySpin), mine.BusySpin == theirs.BusySpin),
            (nameof(mine.AllowedSources), mine.AllowedSources.SequenceEqual(theirs.AllowedSources)),
            (nameof(mine.DeniedSources), mine.DeniedSources.SequenceEqual(theirs.DeniedSources)),
            (nameof(mine.ReceiveBufferMax), mine.ReceiveBufferMax == theirs.ReceiveBufferMax),
            (nameof(mine.SendBufferMax), mine.SendBufferMax == theirs.SendBufferMax),
            (nameof(mine.Backlog), Backlog == other.Backlog),
            (nameof(mine.NoDelay), NoDelay == other.NoDelay),
            (nameof(mine.UnsafePreferInlineScheduling), Inline == other.Inline),
        ];
        return [.. options.Where(option => !option.Same).Select(option => option.Name)];
    }

    private static bool IsLoopback(IPAddress address) => IPAddress.IsLoopback(address);
}

using System.Buffers;
using System.Net;
using System.Net.Sockets;
using Kestrel.Transport.Xdp.Internal.Pipes;
using Microsoft.Extensions.Logging;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Connections;

/// <summary>What the connections of one queue and listener have in common.</summary>
/// <param name="Host">The queue that carries them.</param>
internal sealed record ConnectionSettings(ConnectionHost Host) : PipeSettings(Host)
{
    /// <summary>Run continuations inside the turn's deliver stage, instead of on the thread pool.</summary>
    public bool InlineScheduling { get; init; }

    /// <summary>What the application is told to rent memory from. Not the memory of the pipes.</summary>
    public required MemoryPool<byte> MemoryPool { get; init; }

    public required ILogger Logger { get; init; }

    /// <summary>Who counts the connections; null without a queue.</summary>
    public ConnectionOwner? Owner { get; init; }

    /// <summary>Show IPv4 addresses in their IPv6-mapped form, as under a dual-mode endpoint.</summary>
    public bool MapIPv4 { get; init; }

    /// <summary>Scope of link-local addresses: the interface's index.</summary>
    public long ScopeId { get; init; }

    public required string InterfaceName { get; init; }

    public int QueueId { get; init; }

    /// <summary><c>copy</c> or <c>zero-copy</c>.</summary>
    public required string BindMode { get; init; }

    /// <summary>
    /// End aborted connections with FIN: the switch <c>Microsoft.AspNetCore.Server.Kestrel.FinOnError</c>.
    /// </summary>
    public bool FinOnError { get; init; }

    /// <summary>An address and port of a connection in the form that sockets give.</summary>
    public IPEndPoint EndPointOf(IpAddr address, ushort port)
    {
        IPAddress shown = address.ToIPAddress(MapIPv4);
        if (address.IsLinkLocal && shown.AddressFamily == AddressFamily.InterNetworkV6)
            shown.ScopeId = ScopeId;
        return new IPEndPoint(shown, port);
    }
}

using System.Buffers;
using System.Net;
using System.Net.Sockets;
using Microsoft.Extensions.Logging;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal;

/// <summary>What the connections of one queue and listener have in common.</summary>
internal sealed record XdpConnectionSettings
{
    /// <summary>Unexamined bytes at which Input is paused; null or 0 is without limit.</summary>
    public long? MaxReadBufferSize { get; init; } = 1024 * 1024;

    /// <summary>Flushed and unsent bytes at which flushes wait; null or 0 is without limit.</summary>
    public long? MaxWriteBufferSize { get; init; } = 64 * 1024;

    public long PauseInputAt => MaxReadBufferSize is > 0 and long max ? max : long.MaxValue;

    public long ResumeInputBelow => Math.Max(1, PauseInputAt / 2);

    public long PauseOutputAt => MaxWriteBufferSize is > 0 and long max ? max : long.MaxValue;

    public long ResumeOutputBelow => Math.Max(1, PauseOutputAt / 2);

    /// <summary>Run continuations inside the turn's deliver stage, instead of on the thread pool.</summary>
    public bool InlineScheduling { get; init; }

    /// <summary>Let writers write into UMEM frames; otherwise into heap blocks always.</summary>
    public bool UseFrames { get; init; } = true;

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

    /// <summary>End aborted connections with FIN: the switch <c>Microsoft.AspNetCore.Server.Kestrel.FinOnError</c>.</summary>
    public bool FinOnError { get; init; }

    /// <summary>Received frames that a connection's reader may hold; beyond it payload is copied to heap blocks.</summary>
    public int ReceiveFrames { get; init; } = 64;

    /// <summary>Frames that a connection's unacknowledged output may occupy; beyond it writers write into heap blocks.</summary>
    public int TransmitFrames { get; init; } = 64;

    /// <summary>
    /// Examined bytes that are worth waking the queue for, to open the receive window. Fewer are released when the queue visits the connection for another
    /// reason. More than an eighth of the stack's smallest receive buffer (128 KiB by default) would throttle the peer, and most of
    /// it would stop the peer for good; a small value costs a wake-up for each read.
    /// </summary>
    public int WindowUpdateBytes { get; init; } = 16 * 1024;

    /// <summary>An address and port of a connection in the form that sockets give.</summary>
    public IPEndPoint EndPointOf(IpAddr address, ushort port)
    {
        IPAddress shown = address.ToIPAddress(MapIPv4);
        if (address.IsLinkLocal && shown.AddressFamily == AddressFamily.InterNetworkV6)
            shown.ScopeId = ScopeId;
        return new IPEndPoint(shown, port);
    }
}

using System.Buffers;
using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Threading.Channels;
using Kestrel.Transport.Xdp.Internal.Connections;
using Kestrel.Transport.Xdp.Internal.Options;
using Kestrel.Transport.Xdp.Internal.Queues;
using Microsoft.AspNetCore.Connections;
using Microsoft.Extensions.Logging;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>
/// One listener's side in the engines: which addresses and port are its own, what its connections are made with, and
/// where they go. It counts its connections over all queues of all engines that serve it. Any thread.
/// </summary>
internal sealed class EndpointBinding : ListeningEndpoint
{
    private static readonly bool FinOnError =
        AppContext.TryGetSwitch("Microsoft.AspNetCore.Server.Kestrel.FinOnError", out bool fin) && fin;

    private readonly ChannelWriter<ConnectionContext> _accepted;
    private readonly AcceptBacklog _backlog;
    private readonly MemoryPool<byte> _pool;
    private readonly ILogger _logger;
    private readonly TransportSettings _settings;
    private readonly ConcurrentDictionary<XdpQueue, ConnectionSettings> _perQueue = new();
    private int _connections, _unacknowledged;
    private volatile bool _draining;

    internal EndpointBinding(
        IPEndPoint endpoint, TransportSettings settings, ChannelWriter<ConnectionContext> accepted,
        AcceptBacklog backlog, MemoryPool<byte> pool, ILogger logger)
    {
        EndPoint = endpoint;
        _settings = settings;
        _accepted = accepted;
        _backlog = backlog;
        _pool = pool;
        _logger = logger;
    }

    /// <summary>As bound, port 0 resolved.</summary>
    internal IPEndPoint EndPoint { get; }

    /// <summary>An IPv6 wildcard leaves IPv4 to others (IPV6_V6ONLY).</summary>
    internal bool IPv6Only { get; init; }

    /// <summary>Takes no new connections; those it has go on.</summary>
    internal bool IsDraining => _draining;

    /// <summary>Connections that a stack still has.</summary>
    internal int Connections => Volatile.Read(ref _connections);

    /// <summary>Those of them whose peers have not acknowledged everything yet, the FIN included.</summary>
    internal int Unacknowledged => Volatile.Read(ref _unacknowledged);

    internal void Drain()
    {
        _draining = true;
        Interlocked.MemoryBarrier();
    }

    /// <summary>
    /// An IPv6 wildcard takes IPv4 too, unless it is told not to, and then shows IPv4 addresses in mapped form.
    /// </summary>
    internal bool IsDualMode => EndPoint.Address.Equals(IPAddress.IPv6Any) && !IPv6Only;

    /// <summary>Is a segment to this address of a steered interface the endpoint's?</summary>
    internal bool Covers(IPAddress local) =>
        InterfaceSelector.Covers(EndPoint.Address, local)
        && !(IPv6Only && local.AddressFamily == AddressFamily.InterNetwork);

    internal override bool HasRoom() => _backlog.HasRoom;

    internal override bool TryBeginConnection()
    {
        // Counted first: who drains the endpoint and then finds no connection may take it away.
        Interlocked.Increment(ref _connections);
        if (_draining)
        {
            Interlocked.Decrement(ref _connections);
            return false;
        }
        Interlocked.Increment(ref _unacknowledged);
        return true;
    }

    internal override void ConnectionAcknowledged() => Interlocked.Decrement(ref _unacknowledged);

    internal override void ConnectionEnded() => Interlocked.Decrement(ref _connections);

    internal override XdpConnection CreateConnection(XdpQueue queue, TcpConnection tcp) =>
        new(tcp, _perQueue.GetOrAdd(queue, static (q, self) => self.SettingsFor(q), this));

    /// <summary>Hands a connection to the listener; ends it when there is none any more.</summary>
    internal override void Accepted(XdpConnection connection)
    {
        _backlog.Added();
        if (_accepted.TryWrite(connection))
            return;
        _backlog.Taken();
        connection.Abort(
            new ConnectionAbortedException("The listener was closed before the connection was accepted."));
    }

    /// <summary>The queue is closed.</summary>
    internal void Forget(XdpQueue queue) => _perQueue.TryRemove(queue, out _);

    private ConnectionSettings SettingsFor(XdpQueue queue) => new(queue)
    {
        MaxReadBufferSize = _settings.MaxReadBufferSize,
        MaxWriteBufferSize = _settings.MaxWriteBufferSize,
        // The queue's, which may be another host's choice: only a queue that runs application code itself delivers on
        // its worker.
        InlineScheduling = queue.Settings.Inline,
        MemoryPool = _pool,
        Logger = _logger,
        Owner = this,
        MapIPv4 = IsDualMode,
        ScopeId = queue.Settings.InterfaceIndex,
        InterfaceName = queue.Settings.InterfaceName,
        QueueId = queue.Settings.QueueId,
        BindMode = queue.IsZeroCopy ? "zero-copy" : "copy",
        FinOnError = FinOnError,
    };
}

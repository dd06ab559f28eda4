using System.Net;
using System.Net.Sockets;
using System.Threading.Channels;
using Kestrel.Transport.Xdp.Internal.Logging;
using Kestrel.Transport.Xdp.Internal.Options;
using Kestrel.Transport.Xdp.Internal.Queues;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Microsoft.Extensions.Logging;

namespace Kestrel.Transport.Xdp.Internal.Listeners;

/// <summary>
/// The kernel's socket on an endpoint's address and port. It reserves the port, resolves port 0, and serves what does
/// not come through a steered interface: local clients, other interfaces, queues without a socket, and everything where
/// AF_XDP is not to be had. Its connections are the socket transport's own. Whom the XDP program keeps out, it refuses,
/// so that the source lists hold whatever becomes of AF_XDP.
/// </summary>
internal sealed class CompanionListener : IAsyncDisposable
{
    private static readonly TimeSpan AcceptRetry = TimeSpan.FromMilliseconds(50);

    // Meanwhile the kernel's own queue takes connections, and then drops their handshakes.
    private static readonly TimeSpan RoomPoll = TimeSpan.FromMilliseconds(10);

    private readonly Socket _socket;
    private readonly ListenerContext _context;
    private readonly ChannelWriter<ConnectionContext> _accepted;
    private readonly AcceptBacklog _backlog;
    private readonly SocketConnectionContextFactory _connections;
    private Task _accepting = Task.CompletedTask;
    private long _count;
    private volatile bool _closed;

    /// <exception cref="SocketException">The socket's options cannot be read.</exception>
    private CompanionListener(
        Socket socket, ListenerContext context, ChannelWriter<ConnectionContext> accepted, AcceptBacklog backlog)
    {
        _socket = socket;
        _context = context;
        _accepted = accepted;
        _backlog = backlog;
        EndPoint = (IPEndPoint)socket.LocalEndPoint!;
        Options = ListenSocketOptions.Read(socket);
        SocketTransportOptions sockets = context.Settings.Sockets;
        _connections = new SocketConnectionContextFactory(
            new SocketConnectionFactoryOptions
            {
                IOQueueCount = sockets.IOQueueCount,
                MaxReadBufferSize = sockets.MaxReadBufferSize,
                MaxWriteBufferSize = sockets.MaxWriteBufferSize,
                UnsafePreferInlineScheduling = sockets.UnsafePreferInlineScheduling,
                WaitForDataBeforeAllocatingBuffer = sockets.WaitForDataBeforeAllocatingBuffer,
            },
            context.Loggers.CreateLogger("Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets"));
    }

    /// <summary>As bound: port 0 is resolved.</summary>
    internal IPEndPoint EndPoint { get; }

    /// <summary>What the application has set on the socket.</summary>
    internal ListenSocketOptions Options { get; }

    /// <summary>Connections accepted so far.</summary>
    internal long AcceptedCount => Interlocked.Read(ref _count);

    /// <summary>Takes the port; clients are refused until <see cref="Listen"/>.</summary>
    /// <exception cref="AddressInUseException">Somebody has the port.</exception>
    /// <exception cref="SocketException">The address is none of this machine's, IPv6 is missing, …</exception>
    internal static CompanionListener Bind(
        IPEndPoint endpoint, ListenerContext context, ChannelWriter<ConnectionContext> accepted, AcceptBacklog backlog)
    {
        Socket socket;
        try
        {
            socket = context.Settings.Sockets.CreateBoundListenSocket(endpoint);
        }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.AddressAlreadyInUse)
        {
            throw new AddressInUseException(e.Message, e);
        }
        try
        {
            return new CompanionListener(socket, context, accepted, backlog);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <exception cref="AddressInUseException">
    /// Somebody has begun to listen on the port since <see cref="Bind"/>.
    /// </exception>
    internal void Listen()
    {
        try
        {
            _socket.Listen(_context.Settings.Sockets.Backlog);
        }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.AddressAlreadyInUse)
        {
            throw new AddressInUseException(e.Message, e);
        }
        _accepting = AcceptAsync();
    }

    /// <summary>Accepts no more; what was accepted lives on.</summary>
    internal async Task StopAsync()
    {
        _closed = true;
        _socket.Dispose();
        await _accepting.ConfigureAwait(false);
    }

    public async ValueTask DisposeAsync()
    {
        try
        {
            await StopAsync().ConfigureAwait(false);
        }
        finally
        {
            _connections.Dispose();
        }
    }

    private SourceLists Sources => _context.Settings.Sources.Current;

    private async Task AcceptAsync()
    {
        await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        while (!_closed)
        {
            Socket? accepted = null;
            try
            {
                while (!_backlog.HasRoom && !_closed)
                    await Task.Delay(RoomPoll).ConfigureAwait(false);
                accepted = await _socket.AcceptAsync().ConfigureAwait(false);
                if (accepted.RemoteEndPoint is IPEndPoint peer && !Sources.Admit(peer.Address))
                {
                    // With RST, and nothing left in TIME-WAIT.
                    accepted.LingerState = new LingerOption(true, 0);
                    _context.Metrics?.CompanionRefused();
                    continue;
                }
                if (accepted.LocalEndPoint is IPEndPoint)
                    accepted.NoDelay = _context.Settings.Sockets.NoDelay;
                ConnectionContext connection = _connections.Create(accepted);
                accepted = null;
                Interlocked.Increment(ref _count);
                _context.Metrics?.CompanionAccepted();
                _backlog.Added();
                if (!_accepted.TryWrite(connection))
                {
                    _backlog.Taken();
                    await connection.DisposeAsync().ConfigureAwait(false);
                }
            }
            catch (Exception e) when (_closed && e is (ObjectDisposedException or SocketException))
            {
                return;
            }
            catch (SocketException e)
            {
                // The peer is gone already, or descriptors have run out: neither is this endpoint's end.
                TransportLog.CompanionAcceptFailed(_context.Logger, EndPoint, e);
                if (e.SocketErrorCode != SocketError.ConnectionReset)
                    await Task.Delay(AcceptRetry).ConfigureAwait(false);
            }
            catch (ObjectDisposedException e)
            {
                // By whoever made it: CreateBoundListenSocket is the application's.
                TransportLog.CompanionFailed(_context.Logger, EndPoint, e);
                return;
            }
            catch (Exception e)
            {
                // One connection's failure, or a want of memory. The endpoint goes on.
                TransportLog.CompanionAcceptFailed(_context.Logger, EndPoint, e);
                await Task.Delay(AcceptRetry).ConfigureAwait(false);
            }
            finally
            {
                // What has become a connection is the connection's.
                accepted?.Dispose();
            }
        }
    }
}

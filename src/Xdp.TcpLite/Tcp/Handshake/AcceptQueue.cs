using System.Diagnostics.CodeAnalysis;

namespace Xdp.TcpLite;

/// <summary>
/// Established connections that the host has not taken yet, in the order in which their handshakes ended.
/// <see cref="Listener.HasRoomForWaiting"/> bounds each listener's share. It is asked before a handshake ends: a peer
/// that finds no room tries again.
/// </summary>
internal sealed class AcceptQueue
{
    private readonly Queue<(TcpConnection Connection, Listener Listener)> _waiting = new();

    internal void Add(TcpConnection connection, Listener listener)
    {
        listener.WaitingAdded();
        _waiting.Enqueue((connection, listener));
    }

    internal bool TryTake([NotNullWhen(true)] out TcpConnection? connection)
    {
        if (!_waiting.TryDequeue(out (TcpConnection Connection, Listener Listener) next))
        {
            connection = null;
            return false;
        }
        connection = next.Connection;
        next.Listener.WaitingRemoved();
        return true;
    }
}

using System.Collections.Concurrent;
using System.Net.NetworkInformation;
using Microsoft.AspNetCore.Connections;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal;

// The connections of the queue: accepted, kept alive, ended; and segments of other queues' connections.
internal sealed partial class XdpQueue
{
    // Segments of moved flows that wait here; more are dropped, as a full RX ring would.
    private const int MovedLimit = 1024;

    private readonly ConcurrentQueue<(Block Segment, int Visited)> _moved = new();

    // Those that the stack has not forgotten, orphans of the application among them.
    private ConnectionList _connections;

    // A turn has thrown: the stack's state is not to be trusted.
    private bool _faulty;

    private void Accept(TcpConnection tcp)
    {
        if (tcp.Owner is not ListeningEndpoint endpoint || !endpoint.TryBeginConnection())
        {
            tcp.Abort();
            return;
        }
        XdpConnection connection = endpoint.CreateConnection(this, tcp);
        tcp.Owner = connection;
        _connections.Add(connection);
        Counters.Accepted++;
        _owner.Flows.Add(connection);
        endpoint.Accepted(connection);
    }

    // The stack has forgotten the connection.
    private void Ended(XdpConnection connection)
    {
        if (!_connections.Remove(connection))
            return;
        _owner.Flows.Remove(connection);
        Delivered(connection);
        connection.Owner.EndConnection();
    }

    // The peer has acknowledged everything and our FIN. Whether it ever sends its own is nothing that an exit has to wait for.
    private static void Delivered(XdpConnection connection)
    {
        if (connection.Delivered)
            return;
        connection.Delivered = true;
        connection.Owner.ConnectionDelivered();
    }

    private void SuspectPath(XdpConnection connection)
    {
        if (connection.PathIsSuspect)
            return;
        connection.PathIsSuspect = true;
        _owner.PathSuspected(this, connection);
    }

    /// <summary>Sends a suspect connection's segments to a neighbour from now on; null leaves them where they go. In <see cref="Run"/>.</summary>
    internal void Redirect(XdpConnection connection, PhysicalAddress? neighbour)
    {
        connection.PathIsSuspect = false;
        if (neighbour is not null && connection.SetNeighbour(neighbour))
            Counters.Redirected++;
    }

    /// <summary>
    /// A segment that this stack knows nothing of: RSS has moved its flow here, or nobody knows it. The owner gets a copy, since frames stay with their
    /// queue. A handshake that moved is in no directory yet, so without an owner the segment goes round once; only when no queue
    /// knows it, it is answered with RST.
    /// </summary>
    private void PassOn(Block segment, int start, int length, in FlowKey flow, int visited)
    {
        var target = _owner.Flows.Find(flow)?.Host as XdpQueue;
        if (target is null || target == this)
            target = visited < _owner.QueueCount ? _owner.Next(this) : null;
        if (target is null || target == this)
        {
            Counters.Refused++;
            _stack.Refuse(segment, start, length, _now);
        }
        else if (!target._closed && target._moved.Count < MovedLimit && Blocks.TryTake() is { } copy)
        {
            copy.Append(segment.Span.Slice(start, length));
            Counters.Moved++;
            target._moved.Enqueue((copy, visited + 1));
            target._worker.Wake();
        }
        else
        {
            Counters.MovedDropped++;
        }
        segment.Return();
    }

    private void ReceiveMoved()
    {
        for (int i = 0; i < ReceiveBudget && _moved.TryDequeue(out (Block Segment, int Visited) moved); i++)
        {
            (Block segment, int visited) = moved;
            int start = segment.Start, length = segment.Length;
            switch (_stack.Receive(segment, start, length, _now, out FlowKey flow))
            {
                case ReceiveResult.Done:
                    segment.Return();
                    break;
                case ReceiveResult.UnknownFlow:
                    PassOn(segment, start, length, flow, visited);
                    break;
            }
        }
    }

    private void Fail(Exception exception)
    {
        XdpLog.TurnFailed(_logger, Settings.InterfaceName, Settings.QueueId, exception);
        _faulty = true;
        Fail("an error in the transport: " + exception.Message);
    }

    // In a turn: the queue ends, its connections with it, and the engine opens a new one.
    private void Fail(string reason)
    {
        if (_closed)
            return;
        Counters.Failures++;
        Close();
        _owner.Failed(this, reason);
    }

    private void AbandonConnections()
    {
        while (_connections.First is { } connection)
        {
            try
            {
                _owner.Flows.Remove(connection);
                connection.Shutdown(new ConnectionAbortedException("The network interface's queue that carried the connection was closed."));
                connection.OnEvents(TcpEvents.Closed);
                if (!_faulty)
                    connection.Discard();
                connection.Deliver(inline: false);
                Delivered(connection);
                connection.Owner.EndConnection();
            }
            catch (Exception e)
            {
                XdpConnectionLog.Error(_logger, e, connection.ConnectionId);
            }
            _connections.Remove(connection);
        }
        // Heap blocks are the process's.
        while (_moved.TryDequeue(out (Block Segment, int) moved))
            moved.Segment.Return();
        // Connections that ended in this turn, and have not been told yet.
        foreach (XdpConnection connection in _undelivered)
            connection.Deliver(inline: false);
        _undelivered.Clear();
    }

    // Applications may still write to, read from and dispose connections that ended with the queue.
    private void ApplyAfterClose()
    {
        try
        {
            ApplyDirty();
            foreach (XdpConnection connection in _undelivered)
                connection.Deliver(inline: false);
            _undelivered.Clear();
        }
        catch (Exception e)
        {
            XdpLog.TurnFailed(_logger, Settings.InterfaceName, Settings.QueueId, e);
        }
    }
}

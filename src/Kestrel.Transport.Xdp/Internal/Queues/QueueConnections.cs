using Kestrel.Transport.Xdp.Internal.Connections;
using Microsoft.AspNetCore.Connections;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Queues;

/// <summary>
/// The connections of a queue: who is in it, whose application has asked for something, and to whom a turn has
/// something to deliver. The turn's, except what is marked "any thread".
/// </summary>
internal sealed class QueueConnections(XdpQueue queue, IQueueOwner owner, TcpStack stack, QueueRoutes routes)
{
    // Connections that learn their ways anew in one turn.
    private const int MostRerouted = 512;

    private readonly List<QueueSide> _undelivered = [];
    private DirtyList _dirty;
    private int _rerouted;

    // Those that the stack has not forgotten, also where the application has.
    private ConnectionList _all;

    /// <summary>An application has asked for something. Any thread.</summary>
    internal bool IsDirty => !_dirty.IsEmpty;

    internal bool HasUndelivered => _undelivered.Count > 0;

    /// <summary>An application asks for something; a full fence. Any thread.</summary>
    internal void Post(QueueSide side) => _dirty.Push(side);

    /// <summary>Does what applications have asked for.</summary>
    /// <returns>Connections that have written something.</returns>
    internal int ApplyDirty()
    {
        int written = 0;
        QueueSide? side = _dirty.TakeAll();
        while (side is not null)
        {
            // Once its work is taken the connection may be pushed again, by anybody.
            QueueSide? next = side.Work.NextDirty;
            side.Work.NextDirty = null;
            ConnectionWork work = side.TakeWork();
            if ((work & ConnectionWork.Output) != 0)
                written++;
            side.ApplyWork(work);
            _undelivered.Add(side);
            side = next;
        }
        return written;
    }

    /// <summary>Takes the stack's new connections, and what it has to tell of the others.</summary>
    internal void TakeReady()
    {
        while (stack.TryAccept(out TcpConnection? accepted))
            Accept(accepted);
        while (stack.TryTakeReady(out TcpConnection? ready))
        {
            TcpEvents events = ready.TakeEvents();
            // Connections that ended before they were accepted have no side here.
            if (ready.Owner is not QueueSide side)
                continue;
            side.OnEvents(events);
            _undelivered.Add(side);
            if ((events & TcpEvents.PathSuspect) != 0)
                SuspectPath(side);
            if ((events & TcpEvents.Closed) != 0)
                OnEnded(side);
            else if ((events & TcpEvents.AllAcknowledged) != 0 && ready.State == TcpState.FinWait2)
                OnAcknowledged(side);
        }
    }

    /// <summary>
    /// Gives applications what this turn has for them. The stack is not on the call stack here: application code that
    /// runs inline may do as it likes.
    /// </summary>
    /// <returns>Connections that were given something.</returns>
    internal int Deliver()
    {
        int delivered = 0;
        foreach (QueueSide side in _undelivered)
        {
            if (side.Deliver())
                delivered++;
        }
        _undelivered.Clear();
        return delivered;
    }

    /// <summary>As <see cref="Deliver"/>, with no application code run in here.</summary>
    internal void Schedule()
    {
        foreach (QueueSide side in _undelivered)
            side.Deliver(inline: false);
        _undelivered.Clear();
    }

    /// <summary>Ends the endpoints' connections with FIN, behind what was written.</summary>
    internal void CloseAll(ConnectionOwner[] endpoints)
    {
        for (QueueSide? side = _all.First; side is not null; side = side.NextInQueue)
        {
            if (endpoints.Contains(side.Owner))
                side.Shutdown(null);
        }
    }

    /// <summary>Ends with RST what <see cref="CloseAll"/> could not send the FIN of.</summary>
    internal void AbortUnsent(ConnectionOwner[] endpoints)
    {
        for (QueueSide? side = _all.First; side is not null; side = side.NextInQueue)
        {
            if (endpoints.Contains(side.Owner) && side.HasUnsent)
                side.AbortTcp();
        }
    }

    /// <summary>
    /// Connections learn their ways anew: all, or those through a neighbour. Some in this turn, more when the kernel
    /// has said what was asked for them.
    /// </summary>
    internal void Reroute(IpAddr? hop)
    {
        var sides = new List<QueueSide>();
        for (QueueSide? side = _all.First; side is not null; side = side.NextInQueue)
        {
            if (hop is null || side.Route is not HostRoute route || route.NextHop == hop)
                sides.Add(side);
        }
        // What is under way has begun before the latest change, and is about fewer.
        if (hop is null)
            _rerouted++;
        Reroute(sides, 0, _rerouted);
    }

    private void Reroute(List<QueueSide> sides, int first, int change)
    {
        if (change != _rerouted)
            return;
        int end = Math.Min(first + MostRerouted, sides.Count);
        bool missed = false;
        for (int i = first; i < end; i++)
            missed |= !routes.TryRenew(sides[i]);
        if (missed)
            owner.RenewRoutes();
        else if (end < sides.Count)
            owner.AfterAnswers(queue, _ => Reroute(sides, end, change));
    }

    /// <summary>Ends all connections: the queue is closed.</summary>
    /// <param name="stackIsSound">No turn has thrown: the stack can be asked to give back what it holds.</param>
    internal void EndAll(bool stackIsSound)
    {
        while (_all.First is { } side)
        {
            try
            {
                owner.Flows.Remove(side);
                side.Shutdown(new ConnectionAbortedException(
                    "The network interface's queue that carried the connection was closed."));
                side.OnEvents(TcpEvents.Closed);
                if (stackIsSound)
                    side.AbortTcp();
                side.Deliver(inline: false);
                OnAcknowledged(side);
                side.Owner.ConnectionEnded();
            }
            catch (Exception e) when (e is not OutOfMemoryException)
            {
                // The others are to be ended as well.
            }
            _all.Remove(side);
        }
        // Connections that ended in this turn, and have not been told yet.
        Schedule();
    }

    private void Accept(TcpConnection tcp)
    {
        if (tcp.Owner is not ListeningEndpoint endpoint || !endpoint.TryBeginConnection())
        {
            tcp.Abort();
            return;
        }
        XdpConnection connection = endpoint.CreateConnection(queue, tcp);
        tcp.Owner = connection.Queue;
        _all.Add(connection.Queue);
        queue.Counters.Accepted++;
        owner.Flows.Add(connection.Queue);
        // Its handshake may have begun before the last change.
        if (routes.Known(connection.Queue.Flow) != connection.Queue.Route)
            routes.TryRenew(connection.Queue);
        endpoint.Accepted(connection);
    }

    // The stack has forgotten the connection.
    private void OnEnded(QueueSide side)
    {
        if (!_all.Remove(side))
            return;
        owner.Flows.Remove(side);
        OnAcknowledged(side);
        side.Owner.ConnectionEnded();
    }

    // The peer has acknowledged everything and our FIN. Whether it ever sends its own is nothing that an exit has to
    // wait for.
    private static void OnAcknowledged(QueueSide side)
    {
        if (side.IsAcknowledged)
            return;
        side.IsAcknowledged = true;
        side.Owner.ConnectionAcknowledged();
    }

    private void SuspectPath(QueueSide side)
    {
        if (side.PathIsSuspect)
            return;
        side.PathIsSuspect = true;
        owner.PathSuspected(queue, side);
    }
}

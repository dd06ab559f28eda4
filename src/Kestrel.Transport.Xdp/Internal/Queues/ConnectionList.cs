using Kestrel.Transport.Xdp.Internal.Connections;

namespace Kestrel.Transport.Xdp.Internal.Queues;

/// <summary>
/// All connections of a queue, linked by their own fields. Kestrel refers to connections weakly: this keeps them alive.
/// </summary>
internal struct ConnectionList
{
    internal QueueSide? First { get; private set; }

    internal void Add(QueueSide connection)
    {
        connection.NextInQueue = First;
        First?.PreviousInQueue = connection;
        First = connection;
    }

    /// <summary>False when the connection is not in the list.</summary>
    internal bool Remove(QueueSide connection)
    {
        if (connection.PreviousInQueue is { } previous)
            previous.NextInQueue = connection.NextInQueue;
        else if (First == connection)
            First = connection.NextInQueue;
        else
            return false;
        connection.NextInQueue?.PreviousInQueue = connection.PreviousInQueue;
        connection.NextInQueue = connection.PreviousInQueue = null;
        return true;
    }
}

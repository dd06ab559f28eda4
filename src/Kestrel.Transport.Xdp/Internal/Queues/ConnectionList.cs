namespace Kestrel.Transport.Xdp.Internal;

/// <summary>All connections of a queue, linked by their own fields. Kestrel holds connections weakly; this is what keeps them. The turn's.</summary>
internal struct ConnectionList
{
    internal XdpConnection? First { get; private set; }

    internal void Add(XdpConnection connection)
    {
        connection.NextInQueue = First;
        First?.PreviousInQueue = connection;
        First = connection;
    }

    /// <summary>False when the connection is not in the list.</summary>
    internal bool Remove(XdpConnection connection)
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

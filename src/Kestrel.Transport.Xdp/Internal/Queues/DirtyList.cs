namespace Kestrel.Transport.Xdp.Internal;

/// <summary>
/// Connections whose application asked for something: an intrusive stack that any thread pushes to and the turn empties whole. A connection is in it at
/// most once, because only the step of its work word from zero pushes it; the list therefore never allocates, never fills up and needs no
/// protection against reuse (nothing is ever popped alone). Pushing is a full fence.
/// </summary>
internal struct DirtyList
{
    private XdpConnection? _head;

    internal readonly bool IsEmpty => Volatile.Read(in _head) is null;

    internal void Push(XdpConnection connection)
    {
        XdpConnection? head = Volatile.Read(ref _head);
        while (true)
        {
            connection.Work.NextDirty = head;
            XdpConnection? seen = Interlocked.CompareExchange(ref _head, connection, head);
            if (ReferenceEquals(seen, head))
                return;
            head = seen;
        }
    }

    /// <summary>All connections, linked by <see cref="XdpConnection.WorkWord.NextDirty"/>, the first one pushed first.</summary>
    internal XdpConnection? TakeAll()
    {
        if (Volatile.Read(ref _head) is null)
            return null;
        XdpConnection? newest = Interlocked.Exchange(ref _head, null);
        XdpConnection? oldest = null;
        while (newest is not null)
        {
            XdpConnection? next = newest.Work.NextDirty;
            newest.Work.NextDirty = oldest;
            oldest = newest;
            newest = next;
        }
        return oldest;
    }
}

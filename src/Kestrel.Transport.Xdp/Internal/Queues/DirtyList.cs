using Kestrel.Transport.Xdp.Internal.Connections;

namespace Kestrel.Transport.Xdp.Internal.Queues;

/// <summary>
/// Connections whose application asked for something: an intrusive stack. Any thread pushes to it, and the turn empties
/// it as a whole. A connection is pushed when its work word leaves zero, so it is in the list at most once, and the
/// list neither allocates nor fills up. As nothing is ever popped alone, no entry can be mistaken for an earlier one
/// (ABA). Pushing is a full fence.
/// </summary>
internal struct DirtyList
{
    private QueueSide? _head;

    internal readonly bool IsEmpty => Volatile.Read(in _head) is null;

    internal void Push(QueueSide connection)
    {
        QueueSide? head = Volatile.Read(ref _head);
        while (true)
        {
            connection.Work.NextDirty = head;
            QueueSide? seen = Interlocked.CompareExchange(ref _head, connection, head);
            if (ReferenceEquals(seen, head))
                return;
            head = seen;
        }
    }

    /// <summary>
    /// All connections, linked by <see cref="QueueSide.WorkWord.NextDirty"/>, the first one pushed first.
    /// </summary>
    internal QueueSide? TakeAll()
    {
        if (Volatile.Read(ref _head) is null)
            return null;
        QueueSide? newest = Interlocked.Exchange(ref _head, null);
        QueueSide? oldest = null;
        while (newest is not null)
        {
            QueueSide? next = newest.Work.NextDirty;
            newest.Work.NextDirty = oldest;
            oldest = newest;
            newest = next;
        }
        return oldest;
    }
}

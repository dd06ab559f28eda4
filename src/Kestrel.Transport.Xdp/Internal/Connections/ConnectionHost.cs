using System.Diagnostics;
using Kestrel.Transport.Xdp.Internal.Pipes;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Connections;

/// <summary>What a connection needs from the queue that carries it.</summary>
internal abstract class ConnectionHost : PipeMemory
{
    /// <summary>
    /// The connection's work word has left zero: puts it on the list of dirty connections, and wakes the queue if it
    /// sleeps. Inside a turn it only does the former. The queue then calls <see cref="QueueSide.TakeWork"/> and
    /// <see cref="QueueSide.ApplyWork(ConnectionWork)"/>. Any thread.
    /// </summary>
    public abstract void Post(QueueSide connection);

    /// <summary>Is the calling thread running this queue's turn?</summary>
    public abstract bool InTurn { get; }

    /// <summary>The present, on the clock that the queue's stack is driven by. Called inside a turn.</summary>
    public virtual Instant Now => new(Stopwatch.GetElapsedTime(0).Ticks);
}

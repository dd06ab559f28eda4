using System.Diagnostics;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal;

/// <summary>What a connection needs from the queue that carries it.</summary>
internal abstract class ConnectionHost
{
    /// <summary>The queue's UMEM. Application threads take frames to write into and return frames that they have read.</summary>
    public abstract FramePool Frames { get; }

    public abstract BlockPool Blocks { get; }

    /// <summary>
    /// The connection's work word has left zero: puts it on the list of dirty connections and wakes the queue if it sleeps; inside a
    /// turn it only does the former. The queue then calls <see cref="XdpConnection.TakeWork"/> and
    /// <see cref="XdpConnection.ApplyWork(ConnectionWork)"/>. Any thread.
    /// </summary>
    public abstract void Post(XdpConnection connection);

    /// <summary>Is the calling thread running this queue's turn?</summary>
    public abstract bool InTurn { get; }

    /// <summary>An application has returned UMEM frames to the pool: wakes the queue only if FILL is starved. Any thread.</summary>
    public abstract void FramesReturned();

    /// <summary>The present, on the clock that the queue's stack is driven by. Called inside a turn.</summary>
    public virtual Instant Now => new(Stopwatch.GetElapsedTime(0).Ticks);
}

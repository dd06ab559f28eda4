using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Pipes;

/// <summary>Where the bytes of a connection's pipes lie.</summary>
internal abstract class PipeMemory
{
    /// <summary>
    /// The queue's UMEM. Application threads take frames to write into, and return frames that they have read.
    /// </summary>
    public abstract FramePool Frames { get; }

    /// <summary>The heap memory that stands in where frames are short.</summary>
    public abstract BlockPool Blocks { get; }

    /// <summary>
    /// An application has returned frames to the pool. Wakes the queue if it waits for frames. Any thread.
    /// </summary>
    public abstract void FramesReturned();
}

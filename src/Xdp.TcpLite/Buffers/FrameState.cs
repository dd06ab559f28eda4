namespace Xdp.TcpLite;

/// <summary>
/// Who holds a UMEM frame. Receive: <c>Free → Fill → Rx → Application → Free</c>.
/// Transmit: <c>Free → Writing → SendQueue → Free</c>, the last step only when the kernel does not have it as well.
/// </summary>
public enum FrameState : byte
{
    /// <summary>On the pool's free stack.</summary>
    Free,

    /// <summary>On the FILL ring or with the driver, waiting for a packet.</summary>
    Fill,

    /// <summary>Taken from the RX ring. The stack reads it, or keeps it until the gap before it is filled.</summary>
    Rx,

    /// <summary>With the application, or on its way there.</summary>
    Application,

    /// <summary>With a writer that has not flushed it yet.</summary>
    Writing,

    /// <summary>With the stack: unsent or unacknowledged payload, or a segment on its way to the TX ring.</summary>
    SendQueue,
}

namespace Xdp.Sockets;

/// <summary>What <see cref="Xsk.Kick"/> came to.</summary>
public enum KickStatus
{
    /// <summary>
    /// In copy mode: the kernel has taken everything on the TX ring. In zero-copy mode: the driver knows of it.
    /// </summary>
    Ok,

    /// <summary>
    /// Packets are left, because the completion ring is full or the device has no room. Read completions and kick
    /// again. Nothing wakes the caller for this, so use a timer.
    /// </summary>
    Again,

    /// <summary>The interface is down. Packets stay on the ring, and the socket stays bound.</summary>
    LinkDown,

    /// <summary>The device is gone, or has moved to another namespace. Close the socket.</summary>
    DeviceGone,

    /// <summary>
    /// The kernel refuses the packet at the head of the ring and does not go past it. Wrong TX metadata is a reason;
    /// <see cref="Xsk.LastKickErrno"/> tells. Nothing goes out until its metadata is corrected in place, or the socket
    /// is closed.
    /// </summary>
    Stuck,
}

/// <summary>Why <see cref="Xsk.Wait"/> came back.</summary>
[Flags]
public enum WaitResult
{
    /// <summary>The time is over, or a Unix signal came.</summary>
    None = 0,

    /// <summary>The RX ring has packets.</summary>
    Receive = 1,

    /// <summary>The event was signalled; it stays so until <see cref="EventFd.Drain"/>.</summary>
    Wake = 2,

    /// <summary>The socket has an error pending.</summary>
    Error = 4,
}

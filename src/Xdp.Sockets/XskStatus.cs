namespace Xdp.Sockets;

/// <summary>What became of <see cref="Xsk.Kick"/>.</summary>
public enum KickStatus
{
    /// <summary>The kernel has taken everything on the TX ring (copy mode), or knows of it (zero copy).</summary>
    Ok,

    /// <summary>Packets are left: the completion ring is full, or the device has no room. Read completions, then kick again; a timer must.</summary>
    Again,

    /// <summary>The interface is down. Packets stay on the ring; the binding survives.</summary>
    LinkDown,

    /// <summary>The device is gone, or has moved to another namespace. Close the socket.</summary>
    DeviceGone,

    /// <summary>
    /// The kernel refuses the packet at the head and will not pass it, as it does with wrong TX metadata:
    /// <see cref="Xsk.LastKickErrno"/>. Nothing goes out until its metadata is put right, in place, or the socket closed.
    /// </summary>
    Stuck,
}

/// <summary>Why <see cref="Xsk.Wait"/> came back.</summary>
[Flags]
public enum WaitResult
{
    /// <summary>The time is over, or a signal came.</summary>
    None = 0,

    /// <summary>The RX ring has packets.</summary>
    Receive = 1,

    /// <summary>The event was signalled; it stays so until <see cref="EventFd.Drain"/>.</summary>
    Wake = 2,

    /// <summary>The socket has an error pending.</summary>
    Error = 4,
}

namespace Xdp.TcpLite;

/// <summary>What <see cref="TcpStack.Receive"/> did with a frame.</summary>
public enum ReceiveResult
{
    /// <summary>The stack is done with the frame; the caller returns it.</summary>
    Done,

    /// <summary>The stack keeps the frame.</summary>
    Kept,

    /// <summary>
    /// No connection of this stack has the segment's 4-tuple, and the segment opens none. Nothing was answered. The
    /// caller passes it to the stack that owns the flow, or calls <see cref="TcpStack.Refuse"/>.
    /// </summary>
    UnknownFlow,

    /// <summary>
    /// The host has to find out the way to the peer (<see cref="IRoutes"/>). The caller keeps the packet, and hands it
    /// in once more when it is known.
    /// </summary>
    RouteUnknown,

    /// <summary>
    /// It would open a connection whose segments another link carries. The caller hands it to who serves that.
    /// </summary>
    Elsewhere,
}

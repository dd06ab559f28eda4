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
}

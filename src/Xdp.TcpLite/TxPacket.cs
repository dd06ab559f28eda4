namespace Xdp.TcpLite;

/// <summary>A segment to be sent: <see cref="Length"/> bytes from <see cref="Start"/> of a frame.</summary>
/// <remarks>The frame is the kernel's until <see cref="FramePool.Completed"/>.</remarks>
public struct TxPacket
{
    public Block Frame;
    public int Start;
    public int Length;

    /// <summary>
    /// Bytes of link header at its start. 0 on a stack whose link has one: the packet begins with IP, and is the
    /// host's to send (<see cref="RouteKind.Elsewhere"/>).
    /// </summary>
    public int LinkHeaderLength;
}

namespace Xdp.TcpLite;

/// <summary>A segment to be sent: <see cref="Length"/> bytes from <see cref="Start"/> of a frame.</summary>
/// <remarks>The frame is the kernel's until <see cref="FramePool.Completed"/>.</remarks>
public struct TxPacket
{
    public Block Frame;
    public int Start;
    public int Length;
}

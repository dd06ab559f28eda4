namespace Xdp.TcpLite;

/// <summary>A segment to be sent: <see cref="Length"/> bytes from <see cref="Start"/> of a frame that is the kernel's until <see cref="FramePool.Completed"/>.</summary>
public struct TxPacket
{
    public Block Frame;
    public int Start;
    public int Length;
}

public enum ReceiveResult
{
    /// <summary>The stack is done with the frame; the caller returns it.</summary>
    Done,

    /// <summary>The stack keeps the frame.</summary>
    Kept,

    /// <summary>No connection of this stack's has the segment's 4-tuple, and it opens none. Nothing was answered: the caller passes it to the stack that owns the flow, or calls <see cref="TcpStack.Refuse"/>.</summary>
    UnknownFlow,
}

/// <summary>
/// A TCP/IP stack without threads, clock, sockets or randomness of its own: deterministic given its inputs. The caller serialises
/// all calls (any thread, one at a time). A turn is: <see cref="Receive"/> for each packet, <see cref="OnDeadline"/> when
/// <see cref="NextDeadline"/> has come, <see cref="TryAccept"/> and <see cref="TryTakeReady"/> until they say no, calls on connections, and
/// <see cref="Emit"/> until it returns less than it was given room for.
/// </summary>
public sealed class TcpStack
{
    /// <param name="options">Settings.</param>
    /// <param name="frames">The queue's UMEM.</param>
    /// <param name="blocks">Heap memory.</param>
    /// <param name="secret">32 random bytes; stacks that may see each other's flows share them.</param>
    /// <param name="now">The present.</param>
    public TcpStack(TcpStackOptions options, FramePool frames, BlockPool blocks, ReadOnlySpan<byte> secret, Instant now) => throw null!;

    /// <summary>Accepts connections to this address and port; <see cref="IpAddr"/> zero (<c>default</c>) means every address. Idempotent.</summary>
    /// <param name="local">Local address.</param>
    /// <param name="port">Local port.</param>
    /// <param name="owner">Given to each accepted connection as <see cref="TcpConnection.Owner"/>.</param>
    public void Listen(IpAddr local, ushort port, object? owner) => throw null!;

    /// <summary>Accepts no new connections there; half-open ones are dropped, established ones live on.</summary>
    public void StopListening(IpAddr local, ushort port) => throw null!;

    /// <summary>Handles one Ethernet frame: <paramref name="length"/> bytes from <paramref name="start"/> of <paramref name="frame"/>, which is in state Rx (or a heap block).</summary>
    public ReceiveResult Receive(Block frame, int start, int length, Instant now, out FlowKey flow) => throw null!;

    /// <summary>Answers the segment that <see cref="Receive"/> called <see cref="ReceiveResult.UnknownFlow"/> as RFC 9293 has it for CLOSED: RST, rate-limited.</summary>
    public void Refuse(Block frame, int start, int length, Instant now) => throw null!;

    /// <summary>When <see cref="OnDeadline"/> wants to be called next; <see cref="Instant.Never"/> when it does not.</summary>
    public Instant NextDeadline => throw null!;

    /// <summary>Runs every timer that has come due.</summary>
    public void OnDeadline(Instant now) => throw null!;

    /// <summary>The next established connection that nobody has accepted. <see cref="TcpConnection.Owner"/> is the listener's.</summary>
    public bool TryAccept(out TcpConnection connection) => throw null!;

    /// <summary>The next connection with events to take. A connection is given once, however many events it has.</summary>
    public bool TryTakeReady(out TcpConnection connection) => throw null!;

    /// <summary>
    /// Writes the next segments to be sent, data before bare ACKs, and returns how many. Less than <paramref name="packets"/> has room for means
    /// that there is nothing more to send now, or no frame to send it in. Each frame counts as in the kernel from here on.
    /// </summary>
    public int Emit(Span<TxPacket> packets, Instant now) => throw null!;

    /// <summary>Connections in any state but TIME-WAIT, half-open ones not counted.</summary>
    public int ConnectionCount => throw null!;
    public int HalfOpenCount => throw null!;
    public int TimeWaitCount => throw null!;

    /// <summary>Is there a connection (half-open and TIME-WAIT included) with this 4-tuple?</summary>
    public bool Owns(in FlowKey flow) => throw null!;
}

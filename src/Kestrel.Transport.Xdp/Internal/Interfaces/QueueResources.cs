using Kestrel.Transport.Xdp.Internal.Connections;
using Kestrel.Transport.Xdp.Internal.Queues;
using Xdp.Sockets;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>What queues share, whichever interface they belong to.</summary>
/// <param name="Frames">Of the process.</param>
/// <param name="Blocks">Of the process.</param>
/// <param name="Secret">
/// The key of sequence numbers and SYN cookies: one, since queues may see each other's flows.
/// </param>
/// <param name="Flows">Of the network namespace: two namespaces may have the same addresses.</param>
internal sealed record QueueResources(
    FrameBudget Frames, BlockPool Blocks, ReadOnlyMemory<byte> Secret, FlowDirectory<QueueSide> Flows)
{
    /// <summary>Of the network namespace.</summary>
    internal ServedInterfaces Served { get; } = new();

    /// <summary>Can the kernel give a queue packets that take several frames?</summary>
    internal Func<bool> KernelHasMultiBuffer { get; init; } = static () => Xsk.KernelHasMultiBuffer;
}

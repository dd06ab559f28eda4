using Kestrel.Transport.Xdp.Internal.Connections;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Queues;

/// <summary>What a queue needs of the set of queues that it belongs to.</summary>
internal interface IQueueOwner
{
    /// <summary>Which connection has a flow, in whichever queue.</summary>
    FlowDirectory<QueueSide> Flows { get; }

    /// <summary>How many queues the interfaces of the network namespace have.</summary>
    int QueueCount { get; }

    /// <summary>Of these the one after <paramref name="queue"/>, in a circle; null when there is only one.</summary>
    XdpQueue? Next(XdpQueue queue);

    /// <summary>
    /// The queue wants to know the way to a flow's peer. Answered by <see cref="XdpQueue.TakeAnswer"/>. Called in the
    /// queue's turn: does not block, and does not call back.
    /// </summary>
    void AskRoute(XdpQueue queue, in FlowKey flow);

    /// <summary>
    /// The connection's peer has been silent for long. Answered by <see cref="XdpQueue.Redirect"/>. Called in the
    /// queue's turn: does not block, and does not call back.
    /// </summary>
    void PathSuspected(XdpQueue queue, QueueSide connection);

    /// <summary>The queue could not ask for all of its connections: they are to learn their ways once more.</summary>
    void RenewRoutes();

    /// <summary>
    /// Has the queue do this once all it has asked is answered. In its turn: does not block, and does not call back.
    /// </summary>
    void AfterAnswers(XdpQueue queue, Action<TcpStack> action);

    /// <summary>
    /// A packet that would open a connection whose segments another interface carries. It is the owner's now. In the
    /// queue's turn: does not block, and does not call back.
    /// </summary>
    /// <param name="queue">Where it is.</param>
    /// <param name="flow">Its flow.</param>
    /// <param name="route">The way back.</param>
    /// <param name="packet">A copy in heap blocks.</param>
    /// <param name="again">Another queue has handed it over already.</param>
    void HandOver(XdpQueue queue, in FlowKey flow, HostRoute route, ref BlockQueue packet, bool again);

    /// <summary>Has the kernel send an IP packet by its own routes. False when it does not. Does not block.</summary>
    bool SendByKernel(ReadOnlySpan<byte> packet);

    /// <summary>The queue has closed itself. Called in its turn: does not block, and does not call back.</summary>
    void Failed(XdpQueue queue, string reason);
}

using Kestrel.Transport.Xdp.Internal.Connections;

namespace Kestrel.Transport.Xdp.Internal.Queues;

/// <summary>What a queue needs of the set of queues that it belongs to.</summary>
internal interface IQueueOwner
{
    /// <summary>Which connection has a flow, in whichever queue.</summary>
    FlowDirectory<QueueSide> Flows { get; }

    /// <summary>How many queues the interface has.</summary>
    int QueueCount { get; }

    /// <summary>The queue after <paramref name="queue"/>, in a circle; null when there is only one.</summary>
    XdpQueue? Next(XdpQueue queue);

    /// <summary>
    /// The connection's peer has been silent for long. Answered by <see cref="XdpQueue.Redirect"/>. Called in the
    /// queue's turn: does not block, and does not call back.
    /// </summary>
    void PathSuspected(XdpQueue queue, QueueSide connection);

    /// <summary>The queue has closed itself. Called in its turn: does not block, and does not call back.</summary>
    void Failed(XdpQueue queue, string reason);
}

using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp;

/// <summary>
/// Where a connection's packets come in. Present on connections served through AF_XDP; a connection without it came
/// through the companion socket.
/// </summary>
public interface IXdpConnectionFeature
{
    /// <summary>The network interface's name.</summary>
    string InterfaceName { get; }

    /// <summary>The NIC queue that carries the connection, from 0.</summary>
    int QueueId { get; }

    /// <summary>How the queue's socket is bound: <c>copy</c> or <c>zero-copy</c>.</summary>
    string BindMode { get; }

    /// <summary>
    /// The connection's TCP state, as its queue sees it. Asks the queue, which answers within a turn; a queue that does
    /// not get round to it in time leaves the answer of the last time. Any thread.
    /// </summary>
    TcpConnectionInfo GetTcpInfo();
}

using Kestrel.Transport.Xdp.Internal.Connections;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Queues;

/// <summary>
/// Whoever has a queue's stack listen on an address and port, as the queue knows it: it makes connections of what the
/// stack accepts, and takes them. A connection is begun, created, accepted, delivered and ended, in this order. Called
/// in a turn, which must not be blocked.
/// </summary>
internal abstract class ListeningEndpoint : ConnectionOwner
{
    /// <summary>What its connections have in place of the interface's settings. Any thread.</summary>
    internal TcpOverrides Tcp { get; init; } = TcpOverrides.None;

    /// <summary>Has the application room for one more connection? Any thread.</summary>
    internal abstract bool HasRoom();

    /// <summary>Counts a connection that is about to be made; false when the endpoint takes none any more.</summary>
    internal abstract bool TryBeginConnection();

    internal abstract XdpConnection CreateConnection(XdpQueue queue, TcpConnection tcp);

    /// <summary>The connection is the application's from here.</summary>
    internal abstract void Accepted(XdpConnection connection);
}

using Kestrel.Transport.Xdp.Internal.Queues;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>The TCP stacks of an interface's queues, all at once, for whoever says what they listen on.</summary>
internal interface IListeningStacks
{
    void Listen(IpAddr address, ushort port, ListeningEndpoint endpoint);

    void StopListening(IpAddr address, ushort port);

    /// <summary>
    /// Which of these local ends may have a connection in a stack, half-open and TIME-WAIT included? Waits for a moment
    /// only; without an answer, all of them may.
    /// </summary>
    IReadOnlySet<(IpAddr Address, ushort Port)> InUse(IReadOnlySet<(IpAddr Address, ushort Port)> ends);
}

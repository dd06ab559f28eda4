namespace Kestrel.Transport.Xdp.Internal.Connections;

/// <summary>Who counts a connection, and is told how far it has come. Called in a turn.</summary>
internal abstract class ConnectionOwner
{
    /// <summary>
    /// The peer has acknowledged everything, the FIN included. Once for each connection, no later than its end.
    /// </summary>
    internal abstract void ConnectionAcknowledged();

    /// <summary>The stack has forgotten the connection.</summary>
    internal abstract void ConnectionEnded();
}

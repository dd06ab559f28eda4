namespace Kestrel.Transport.Xdp.Internal.Connections;

/// <summary>
/// What the application side of a connection wants from its queue: the bits of the connection's work word.
/// </summary>
[Flags]
internal enum ConnectionWork
{
    None = 0,

    /// <summary>Flushed blocks wait.</summary>
    Output = 1,

    /// <summary>Much was examined, and there is room for more input perhaps.</summary>
    Window = 2,

    /// <summary>End gracefully: FIN behind the last flushed byte, input no longer wanted.</summary>
    Close = 4,

    /// <summary>End with RST; flushed bytes are dropped.</summary>
    Abort = 8,

    /// <summary>The application has completed Input: what still arrives is dropped.</summary>
    CloseReceive = 16,

    /// <summary>Publish a <see cref="global::Xdp.TcpLite.TcpConnectionInfo"/>.</summary>
    Info = 32,

    /// <summary>
    /// The stack has forgotten the connection. Stays set, never handed out: no work is posted any more.
    /// </summary>
    Detached = 1 << 30,
}

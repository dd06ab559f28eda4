namespace Xdp.TcpLite;

/// <summary>Which of the <see cref="Sender"/>'s deadlines have come.</summary>
[Flags]
internal enum SenderTimeouts
{
    None = 0,

    /// <summary>One that needs nothing but a chance to send.</summary>
    Other = 1,

    /// <summary>The retransmission time-out.</summary>
    Retransmission = 2,

    /// <summary>The same, again without an acknowledgement in between.</summary>
    Repeated = 4,

    /// <summary>The user timeout is over: the connection ends.</summary>
    GaveUp = 8,

    /// <summary>The window is shut, or too small, for too long: it is probed, or used as it is.</summary>
    Persist = 16,
}

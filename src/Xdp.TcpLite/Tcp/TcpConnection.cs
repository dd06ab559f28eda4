namespace Xdp.TcpLite;

/// <summary>
/// One TCP connection (RFC 9293). Belongs to its <see cref="TcpStack"/>, and is called only by whoever may call the
/// stack at that moment.
/// </summary>
public sealed partial class TcpConnection
{
    public FlowKey Flow { get; }
    public TcpState State { get; private set; }

    /// <summary>The host's own object for this connection. The stack does not look at it.</summary>
    public object? Owner { get; set; }

    /// <summary>Collect small segments while data is unacknowledged (false), or send them at once (true).</summary>
    public bool NoDelay { get; set; }

    // ---- receive

    /// <summary>In-order bytes that have not been taken.</summary>
    public long ReadableBytes => throw null!;

    /// <summary>
    /// Takes in-order blocks, at least one if there is any, and no more once <paramref name="maxBytes"/> are exceeded. The caller owns them and returns
    /// each. The receive window stays as it is until <see cref="ReleaseWindow"/>.
    /// </summary>
    public BlockQueue TakeReceived(long maxBytes) => throw null!;

    /// <summary>The application has examined <paramref name="bytes"/> of what was taken: they no longer count against the receive buffer.</summary>
    public void ReleaseWindow(long bytes) => throw null!;

    // ---- send

    /// <summary>Takes over the blocks of <paramref name="data"/> and will send their bytes. Allowed until <see cref="Shutdown"/>; later, or after the end, the blocks are returned unsent.</summary>
    public void Write(ref BlockQueue data) => throw null!;

    /// <summary>Written bytes that were never sent.</summary>
    public long UnsentBytes => throw null!;

    /// <summary>Written bytes that are not acknowledged, sent or not.</summary>
    public long UnacknowledgedBytes => throw null!;

    /// <summary>Payload bytes that a full segment carries now, options deducted.</summary>
    public int EffectiveMss => throw null!;

    /// <summary>Nothing more will be written: FIN follows the last byte. Idempotent.</summary>
    public void Shutdown() => throw null!;

    /// <summary>
    /// Nothing more will be read either: received bytes are dropped from here on, acknowledged, and do not turn the FIN into
    /// a RST. Written bytes are still delivered.
    /// </summary>
    public void Close() => throw null!;

    /// <summary>Ends the connection with a RST and drops what was not sent. Idempotent.</summary>
    public void Abort() => throw null!;

    /// <summary>What happened since the last call.</summary>
    public TcpEvents TakeEvents() => throw null!;

    public TcpConnectionInfo GetInfo(Instant now) => throw null!;
}

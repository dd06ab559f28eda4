namespace Xdp.TcpLite;

/// <summary>
/// What a connection keeps once its application has closed it: nobody reads it any more, and nobody waits for it. Owns
/// the limits that hold from then on, because a peer must not make it last for ever.
/// </summary>
/// <param name="connection">The connection.</param>
/// <param name="received">Bytes that it had received when it was closed.</param>
internal sealed class Orphan(FlowEntry connection, long received) : IListed<Orphan>
{
    internal readonly FlowEntry Connection = connection;

    /// <summary>What the peer sends after the application has closed.</summary>
    internal LateData Late = new(received);

    /// <summary>Retransmission time-outs and window probes since the peer last acknowledged anything new.</summary>
    private int _retries;

    /// <summary>When it no longer waits for the peer's FIN.</summary>
    private Instant _finWait2Deadline = Instant.Never;

    // ---- its place in the OrphanTable, which alone changes it

    /// <summary>Memory of what is not acknowledged.</summary>
    internal long Memory;
    internal int Rank;
    public Orphan? Older { get; set; }
    public Orphan? Newer { get; set; }

    internal Instant NextDeadline => Instant.Min(_finWait2Deadline, Late.Deadline);

    /// <summary>All that was sent is acknowledged, the FIN as well. Only the peer's FIN is missing.</summary>
    internal void OnFinAcknowledged(TcpStackOptions options, Instant now) =>
        _finWait2Deadline = now + options.FinWait2;

    /// <summary>The peer has acknowledged something new.</summary>
    internal void OnProgress(TcpStackOptions options, Instant now)
    {
        _retries = 0;
        Late.OnProgress(options, now);
    }

    /// <summary>
    /// Something is to be sent again, or the window is to be probed. False when that has been tried enough.
    /// </summary>
    internal bool MayTryAgain(TcpStackOptions options) => ++_retries <= options.OrphanRetries;
}

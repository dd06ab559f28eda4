namespace Xdp.TcpLite;

/// <summary>
/// A connection's time after its application has closed it. Owns the <see cref="Orphan"/>, of which there is none
/// before, and keeps it up to date in the stack's <see cref="OrphanTable"/>.
/// </summary>
internal struct AfterClose
{
    private Orphan? _orphan;

    internal readonly Instant NextDeadline => _orphan?.NextDeadline ?? Instant.Never;

    /// <summary>The application has closed.</summary>
    /// <param name="connection">The connection.</param>
    /// <param name="received">Bytes that it has received.</param>
    /// <param name="isDone">All that it had to send is acknowledged, the FIN as well.</param>
    /// <param name="options">Settings.</param>
    /// <param name="now">The present.</param>
    internal Orphan Begin(FlowEntry connection, long received, bool isDone, TcpStackOptions options, Instant now)
    {
        _orphan = new Orphan(connection, received);
        if (isDone)
            _orphan.OnFinAcknowledged(options, now);
        return _orphan;
    }

    /// <summary>The connection has ended.</summary>
    internal void End(OrphanTable table)
    {
        if (_orphan is { } orphan)
            table.Remove(orphan);
        _orphan = null;
    }

    /// <summary>
    /// Bytes that the peer is still invited to send. As many as it likes before the application closes.
    /// </summary>
    internal readonly long Invited(long received, TcpStackOptions options) =>
        _orphan?.Late.Left(received, options) ?? long.MaxValue;

    /// <summary>The peer has acknowledged something new.</summary>
    /// <param name="table">Of the stack.</param>
    /// <param name="memory">Bytes of memory of what is not acknowledged.</param>
    /// <param name="options">Settings.</param>
    /// <param name="now">The present.</param>
    internal readonly void OnProgress(OrphanTable table, long memory, TcpStackOptions options, Instant now)
    {
        if (_orphan is not { } orphan)
            return;
        orphan.OnProgress(options, now);
        table.Resize(orphan, memory);
    }

    /// <summary>All that was sent is acknowledged, the FIN as well.</summary>
    internal readonly void OnFinAcknowledged(OrphanTable table, TcpStackOptions options, Instant now)
    {
        if (_orphan is not { } orphan)
            return;
        orphan.OnFinAcknowledged(options, now);
        table.OnFinAcknowledged(orphan);
    }

    /// <summary>
    /// Data has come. False when the peer has been sending for too long since the application closed.
    /// </summary>
    internal readonly bool TryTakeData(TcpStackOptions options, Instant now) =>
        _orphan is not { } orphan || orphan.Late.TryTake(options, now);

    /// <summary>No more data is invited.</summary>
    internal readonly void OnUsedUp(TcpStackOptions options, Instant now) => _orphan?.Late.OnUsedUp(options, now);

    /// <summary>
    /// A timer of the sender has fired. True when that has happened so often without an answer that the connection
    /// ends.
    /// </summary>
    internal readonly bool GivesUp(SenderTimeouts fired, TcpStackOptions options)
    {
        bool isRetry = (fired & (SenderTimeouts.Retransmission | SenderTimeouts.Persist)) != 0;
        return isRetry && _orphan is { } orphan && !orphan.MayTryAgain(options);
    }

    /// <summary>Is the peer, which goes on sending, to be told that nobody reads?</summary>
    internal readonly bool IsLateDataDue(Instant now) => _orphan is { } orphan && orphan.Late.Deadline <= now;
}

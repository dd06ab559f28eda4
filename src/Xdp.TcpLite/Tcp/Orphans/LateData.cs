namespace Xdp.TcpLite;

/// <summary>
/// What a peer may still send to an application that has closed. A RST for the first byte (RFC 1122, section 4.2.2.13)
/// would destroy the response that is on its way, or in the peer's receive buffer. So data is acknowledged and dropped
/// at first. How long is bounded, because a peer that never reads would otherwise send for ever.
/// </summary>
/// <remarks>
/// After so many bytes no more are invited. That alone brings no RST: a fast sender is there before its application has
/// read the response. The peer has some time then, which starts anew whenever it acknowledges something new. In all,
/// the time ends a while after the first byte. A peer that sends nothing has no limit here, however slowly it reads.
/// The limits are those of nginx's lingering close.
/// </remarks>
/// <param name="received">Bytes that had been received when the application closed.</param>
internal struct LateData(long received)
{
    /// <summary>When the peer must have ceased; <see cref="Instant.Never"/> until it sends anything.</summary>
    private Instant _end = Instant.Never;

    /// <summary>When the connection is reset, although nothing comes. Runs once no more is invited.</summary>
    internal Instant Deadline { get; private set; } = Instant.Never;

    /// <summary>Bytes that the peer is still invited to send.</summary>
    internal readonly long Left(long bytesReceived, TcpStackOptions options) =>
        Math.Max(0, options.AfterCloseBytes - (bytesReceived - received));

    /// <summary>Data has come. False when the time for that is over.</summary>
    internal bool TryTake(TcpStackOptions options, Instant now)
    {
        if (_end == Instant.Never)
            _end = now + options.AfterCloseTime;
        return now < _end;
    }

    /// <summary>No more is invited.</summary>
    internal void OnUsedUp(TcpStackOptions options, Instant now)
    {
        if (Deadline == Instant.Never)
            Deadline = Instant.Min(_end, now + options.AfterCloseSilence);
    }

    /// <summary>The peer has acknowledged something new: it reads.</summary>
    internal void OnProgress(TcpStackOptions options, Instant now)
    {
        if (Deadline != Instant.Never)
            Deadline = Instant.Min(_end, now + options.AfterCloseSilence);
    }
}

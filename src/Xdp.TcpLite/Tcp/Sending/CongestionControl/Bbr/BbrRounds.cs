namespace Xdp.TcpLite;

/// <summary>
/// Counts round trips by what is delivered (BBR.round_count; section 5.5.1): a round is over when a segment is
/// delivered that was sent after the round began. Time in which nothing is sent does not count.
/// </summary>
internal struct BbrRounds
{
    private long _end;

    /// <summary>C.delivered: bytes delivered in the connection's life.</summary>
    internal long Delivered { get; private set; }

    /// <summary>The present ACK begins a round.</summary>
    internal bool Started { get; private set; }

    internal long Count { get; private set; }

    /// <summary>An ACK delivers something.</summary>
    /// <param name="bytes">How much.</param>
    /// <param name="sinceSent">Bytes delivered since the segment was sent that the ACK is about.</param>
    internal void OnDelivered(long bytes, long sinceSent)
    {
        Delivered += bytes;
        Started = Delivered - sinceSent >= _end;
        if (!Started)
            return;
        Count++;
        Restart();
    }

    /// <summary>A round begins now: it is over when what is sent from now on is delivered.</summary>
    internal void Restart() => _end = Delivered;
}

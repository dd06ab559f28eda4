namespace Xdp.TcpLite;

/// <summary>What loss recovery is doing: the states of Linux's <c>tcpi_ca_state</c> that exist here.</summary>
public enum TcpCaState : byte
{
    /// <summary>No loss known.</summary>
    Open,

    /// <summary>Segments have overtaken one that is missing. It may be late, or lost.</summary>
    Disorder,

    /// <summary>Repairing losses that acknowledgements have shown.</summary>
    Recovery,

    /// <summary>Repairing after a retransmission time-out, or segments that were too large for the path.</summary>
    Loss,
}

/// <summary>
/// A snapshot of a connection, with the fields of Linux's <c>tcp_info</c> that apply here. Lengths are in bytes.
/// </summary>
public readonly record struct TcpConnectionInfo
{
    public TcpState State { get; init; }
    public TcpCaState CaState { get; init; }

    /// <summary>Effective maximum segment: payload bytes a segment can carry, options deducted.</summary>
    public int SndMss { get; init; }
    public int RcvMss { get; init; }
    public long Cwnd { get; init; }
    public long Ssthresh { get; init; }

    /// <summary>Bytes a second at which congestion control would have segments leave; 0 while it cannot tell.</summary>
    public long PacingRate { get; init; }

    /// <summary>Bytes a second that the path has delivered lately; 0 while that is not known.</summary>
    public long DeliveryRate { get; init; }
    public long SndWnd { get; init; }
    public long RcvWnd { get; init; }
    public TimeSpan Srtt { get; init; }
    public TimeSpan RttVar { get; init; }
    public TimeSpan MinRtt { get; init; }
    public TimeSpan Rto { get; init; }

    /// <summary>Sent and not acknowledged.</summary>
    public long Unacked { get; init; }
    public long Sacked { get; init; }
    public long Lost { get; init; }

    /// <summary>Written and never sent.</summary>
    public long Unsent { get; init; }

    /// <summary>Segments sent again, over the connection's life.</summary>
    public long TotalRetransmits { get; init; }

    /// <summary>Retransmissions the peer reported to have been needless, over the connection's life.</summary>
    public long SpuriousRetransmits { get; init; }

    /// <summary>Back-to-back retransmission time-outs.</summary>
    public int Backoff { get; init; }
    public bool ReorderingSeen { get; init; }

    /// <summary>
    /// How long after a round trip a segment that others have overtaken counts as late, and not as lost (RACK.reo_wnd
    /// of RFC 8985, in the place of <c>tcpi_reordering</c>). Zero while nothing is in flight.
    /// </summary>
    public TimeSpan ReorderingWindow { get; init; }

    /// <summary>Receive buffer that the window is cut from; it grows with the flow.</summary>
    public long RcvSpace { get; init; }
    public long BytesSent { get; init; }
    public long BytesAcked { get; init; }
    public long BytesReceived { get; init; }
    public long SegmentsIn { get; init; }
    public long SegmentsOut { get; init; }

    /// <summary>Payload bytes known to have arrived, acknowledged or SACKed.</summary>
    public long Delivered { get; init; }

    /// <summary>How long ago payload came in order, to the millisecond; null before the first.</summary>
    public TimeSpan? LastDataReceived { get; init; }

    /// <summary>How long ago payload was sent, be it once more, to the millisecond; null before the first.</summary>
    public TimeSpan? LastDataSent { get; init; }

    /// <summary>How long ago the last acceptable segment came, to the millisecond; null before the first.</summary>
    public TimeSpan? LastAckReceived { get; init; }

    /// <summary>
    /// Time, to the millisecond, in which something was in flight or waited to be sent, over the connection's life.
    /// </summary>
    public TimeSpan BusyTime { get; init; }

    /// <summary>Part of <see cref="BusyTime"/> in which the peer's window held data back.</summary>
    public TimeSpan RwndLimited { get; init; }

    /// <summary>
    /// Part of <see cref="BusyTime"/> in which <see cref="TcpStackOptions.SendBufferMax"/> held data back.
    /// </summary>
    public TimeSpan SndbufLimited { get; init; }

    /// <summary>What the two sides of a connection know.</summary>
    internal static TcpConnectionInfo Of(in Sender sender, in Receiver receiver, TcpStackOptions options, Instant now)
    {
        SendTimes times = sender.TimesAt(now);
        LossRecovery? recovery = sender.Flight?.Recovery;
        return new()
        {
            CaState = recovery?.CaState ?? TcpCaState.Open,
            SndMss = sender.Mss,
            RcvMss = receiver.Mss,
            Cwnd = sender.Congestion.Cwnd,
            Ssthresh = sender.Congestion.Ssthresh,
            PacingRate = sender.Congestion.PacingRate(sender.Rtt.Srtt),
            DeliveryRate = recovery?.Rate.BytesPerSecond ?? 0,
            SndWnd = sender.SndWnd,
            RcvWnd = receiver.AnnouncedWindow,
            Srtt = sender.Rtt.Srtt,
            RttVar = sender.Rtt.RttVar,
            MinRtt = sender.Rtt.MinRtt,
            Rto = sender.Rto(options),
            Unacked = sender.Outstanding,
            Sacked = recovery?.Board.SackedBytes ?? 0,
            Lost = recovery?.Board.LostBytes ?? 0,
            Unsent = sender.UnsentBytes,
            TotalRetransmits = sender.Losses.Retransmits,
            SpuriousRetransmits = sender.Losses.SpuriousRetransmits,
            ReorderingSeen = sender.Losses.Reordering.Seen,
            ReorderingWindow = recovery?.ReorderingWindow(sender.Losses, sender.Rtt) ?? TimeSpan.Zero,
            RcvSpace = receiver.BufferSize,
            BytesSent = sender.BytesSent,
            BytesAcked = sender.BytesAcked,
            BytesReceived = receiver.BytesReceived,
            Delivered = Math.Min(sender.BytesSent, sender.BytesAcked + (recovery?.Board.SackedBytes ?? 0)),
            LastDataReceived = receiver.BytesReceived > 0 ? receiver.Acks.SinceData(now) : null,
            LastDataSent = sender.SinceSent(now),
            BusyTime = times.Busy,
            RwndLimited = times.PeerWindow,
            SndbufLimited = times.SendBuffer,
        };
    }
}

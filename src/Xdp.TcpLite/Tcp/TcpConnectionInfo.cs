namespace Xdp.TcpLite;

/// <summary>
/// A snapshot of a connection, with the fields of Linux's <c>tcp_info</c> that apply here. Lengths are in bytes.
/// </summary>
public readonly record struct TcpConnectionInfo
{
    public TcpState State { get; init; }

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

    /// <summary>Receive buffer that the window is cut from; it grows with the flow.</summary>
    public long RcvSpace { get; init; }
    public long BytesSent { get; init; }
    public long BytesAcked { get; init; }
    public long BytesReceived { get; init; }
    public long SegmentsIn { get; init; }
    public long SegmentsOut { get; init; }

    /// <summary>What the two sides of a connection know.</summary>
    internal static TcpConnectionInfo Of(in Sender sender, in Receiver receiver, TcpStackOptions options)
    {
        LossRecovery? recovery = sender.Flight?.Recovery;
        return new()
        {
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
            RcvSpace = receiver.BufferSize,
            BytesSent = sender.BytesSent,
            BytesAcked = sender.BytesAcked,
            BytesReceived = receiver.BytesReceived,
        };
    }
}

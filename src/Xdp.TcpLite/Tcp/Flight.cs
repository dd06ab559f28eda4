namespace Xdp.TcpLite;

internal enum Recovery : byte
{
    /// <summary>No loss known.</summary>
    Open,

    /// <summary>Repairing losses found by acknowledgements; PRR paces what is sent.</summary>
    Fast,

    /// <summary>After a retransmission time-out: slow start over what was in flight.</summary>
    Timeout,
}

/// <summary>
/// What a connection knows only while it has something to send or to have acknowledged: the bytes and the scoreboard, which are the <see cref="SendQueue"/>, loss
/// detection, recovery, and the deadlines that wait for the peer. Borrowed from <see cref="TcpStack.Flights"/> with the first byte and returned with the last acknowledgement: what outlives
/// that is the connection's own.
/// </summary>
internal sealed class Flight : SendQueue
{
    /// <summary>Flights that a stack keeps for the next who need one: as many connections may wait at the same time for what they answer next.</summary>
    internal const int MostSpare = 4096;

    /// <summary>The flight of who has none: as new, and never written to, so that it can be read without asking.</summary>
    internal static readonly Flight None = new();

    internal RackTlp Rack;

    // ---- the scoreboard's sums

    internal long SackedBytes;
    internal int SackedSegments;
    internal long LostBytes;
    internal long RetransmittedBytes;
    internal int DupAcks;

    /// <summary>No segment before this waits to be sent again: where the search for one begins.</summary>
    internal SeqNumber NoneLostBefore;

    // ---- how the congestion window is used

    /// <summary>
    /// The congestion window held sending back at some time in the present round trip, which ends when <see cref="CwndUseEnd"/> is acknowledged: a
    /// host takes in several ACKs between two chances to send, and an application may be a moment late with its next write.
    /// </summary>
    internal bool CwndLimited;
    internal SeqNumber CwndUseEnd;

    /// <summary>Most that was outstanding in that round trip.</summary>
    internal long CwndUsed;

    // ---- recovery

    internal Recovery Recovery;
    internal SeqNumber RecoveryPoint;
    internal long PrrDelivered;
    internal long PrrOut;
    internal long RecoverFlightSize;

    /// <summary>TSval of the first retransmission of the recovery: an ACK that echoes less was caused by an original (Eifel).</summary>
    internal uint FirstRetransmitTsVal;
    internal bool MayUndo;
    internal int RetransmitsToUndo;

    /// <summary>A first retransmission goes out even where the congestion window has no room.</summary>
    internal bool MustRetransmit;

    // ---- tail loss probe

    /// <summary>End of the tail loss probe that has not been answered.</summary>
    internal SeqNumber? TlpEnd;
    internal bool TlpIsRetransmission;

    /// <summary>Flight when the probe was sent.</summary>
    internal long TlpFlightSize;

    /// <summary>The tail loss probe is the last segment, once more.</summary>
    internal bool ProbeTail;

    /// <summary>The tail loss probe is the next new segment, whatever the congestion window and Nagle say.</summary>
    internal bool ProbeWithNewData;

    // ---- time

    internal Instant RetransmitDeadline = Instant.Never;
    internal Instant ProbeDeadline = Instant.Never;
    internal Instant ReorderDeadline = Instant.Never;
    internal Instant PersistDeadline = Instant.Never;

    /// <summary>When the oldest unacknowledged segment, or what has replaced it since, began to wait.</summary>
    internal Instant FirstUnackedAt;
    internal Instant RetransmitBase;

    /// <summary>Back-to-back time-outs.</summary>
    internal int Backoff;
    internal Instant PersistSince = Instant.Never;

    /// <summary>The persist timer has fired: a window that is open, though it is a crumb, is used.</summary>
    internal bool TakeAnyWindow;

    /// <summary>Our SYN, or the SYN-ACK of a simultaneous open, is to be sent.</summary>
    internal bool SynToSend;

    /// <summary>Returns every block; the flight is as new.</summary>
    internal void Clear()
    {
        ReturnAll();
        Rack.Clear();
        SackedBytes = LostBytes = RetransmittedBytes = CwndUsed = 0;
        SackedSegments = DupAcks = 0;
        NoneLostBefore = CwndUseEnd = default;
        CwndLimited = false;
        Recovery = Recovery.Open;
        RecoveryPoint = default;
        PrrDelivered = PrrOut = RecoverFlightSize = 0;
        FirstRetransmitTsVal = 0;
        MayUndo = MustRetransmit = false;
        RetransmitsToUndo = 0;
        TlpEnd = null;
        TlpIsRetransmission = ProbeTail = ProbeWithNewData = false;
        TlpFlightSize = 0;
        RetransmitDeadline = ProbeDeadline = ReorderDeadline = PersistDeadline = PersistSince = Instant.Never;
        FirstUnackedAt = RetransmitBase = default;
        Backoff = 0;
        TakeAnyWindow = SynToSend = false;
    }
}

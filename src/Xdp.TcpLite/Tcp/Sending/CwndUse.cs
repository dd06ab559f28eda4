namespace Xdp.TcpLite;

/// <summary>
/// Is the congestion window used? Only a window that is used may grow (RFC 9438, section 5.8; RFC 7661). The answer
/// holds for a whole round trip, since a host takes in several ACKs before it sends, and an application may be a moment
/// late with its next write.
/// </summary>
internal struct CwndUse
{
    /// <summary>The present round trip ends when this is acknowledged.</summary>
    private SeqNumber _roundEnd;

    /// <summary>Most that was outstanding in it.</summary>
    private long _most;

    /// <summary>The window held sending back at some time in the round trip.</summary>
    internal bool Limited { get; private set; }

    internal void Start(SeqNumber sndNxt) => this = new CwndUse { _roundEnd = sndNxt };

    /// <summary>
    /// Should the window grow? In slow start it is enough that half of it is used: the next round trip may need it all.
    /// </summary>
    internal readonly bool IsUsed(ICongestionControl congestion) =>
        Limited || (congestion.Cwnd < congestion.Ssthresh && congestion.Cwnd < 2 * _most);

    /// <summary>Sending stops, because of the congestion window or for another reason.</summary>
    internal void OnStopped(bool limited, SeqNumber sndUna, SeqNumber sndNxt)
    {
        long outstanding = sndNxt - sndUna;
        if (!limited && sndUna < _roundEnd && (Limited || outstanding <= _most))
            return;
        (Limited, _most, _roundEnd) = (limited, outstanding, sndNxt);
    }
}

namespace Xdp.TcpLite;

/// <summary>
/// Proportional rate reduction (RFC 6937): while losses are repaired, what is sent follows what is delivered, so that
/// the flight comes down to the threshold by the end of the round trip, without a pause and without a burst.
/// </summary>
internal struct RateReduction
{
    private long _recoverFlightSize;
    private long _delivered;
    private long _out;

    /// <summary>Recovery begins with this much outstanding (RecoverFS).</summary>
    internal void Begin(long flightSize) => this = new RateReduction { _recoverFlightSize = flightSize };

    /// <summary>Bytes were sent, new or again (prr_out).</summary>
    internal void OnSent(int bytes) => _out += bytes;

    /// <summary>Bytes that may be sent now (sndcnt), with the slow-start reduction bound.</summary>
    /// <param name="delivered">Bytes newly known to have been delivered (DeliveredData).</param>
    /// <param name="inFlight">Bytes in the network (pipe).</param>
    /// <param name="ssthresh">Where the window is going.</param>
    /// <param name="mss">Bytes of a full segment.</param>
    internal long OnDelivered(long delivered, long inFlight, long ssthresh, int mss)
    {
        _delivered += delivered;
        if (inFlight > ssthresh)
            return (_delivered * ssthresh + _recoverFlightSize - 1) / _recoverFlightSize - _out;
        long limit = Math.Max(_delivered - _out, delivered) + mss;
        return Math.Min(ssthresh - inFlight, limit);
    }
}

namespace Xdp.TcpLite;

/// <summary>
/// Proportional rate reduction (RFC 9937): while losses are repaired, what is sent follows what is delivered, so that
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

    /// <summary>
    /// Bytes that may be sent now (SndCnt). Below the threshold it is no more than what was delivered, and a segment
    /// more on a safe ACK: the losses are then no worse than was known.
    /// </summary>
    /// <param name="delivered">Bytes newly known to have been delivered (DeliveredData).</param>
    /// <param name="inFlight">Bytes in the network (pipe).</param>
    /// <param name="ssthresh">Where the window is going.</param>
    /// <param name="mss">Bytes of a full segment.</param>
    /// <param name="isSafe">The ACK moves SND.UNA, and nothing was found lost with it (SafeACK).</param>
    internal long OnDelivered(long delivered, long inFlight, long ssthresh, int mss, bool isSafe)
    {
        _delivered += delivered;
        if (inFlight > ssthresh)
            return (_delivered * ssthresh + _recoverFlightSize - 1) / _recoverFlightSize - _out;
        long limit = Math.Max(_delivered - _out, delivered) + (isSafe ? mss : 0);
        return Math.Min(ssthresh - inFlight, limit);
    }
}

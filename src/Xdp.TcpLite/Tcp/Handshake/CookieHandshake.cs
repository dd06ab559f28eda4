namespace Xdp.TcpLite;

/// <summary>
/// Handshakes of which nothing is kept until they are complete (RFC 4987, section 3.6), for when a listener has as many
/// half-open records as it may. Owns the time until which cookies are accepted. <see cref="SynCookies"/> makes and
/// checks them.
/// </summary>
/// <param name="environment">The stack's.</param>
/// <param name="secret">32 bytes, shared by the stacks that may see each other's flows.</param>
internal sealed class CookieHandshake(StackEnvironment environment, ReadOnlySpan<byte> secret)
{
    private readonly SynCookies _cookies = new(secret);
    private Instant _acceptedUntil = new(long.MinValue);

    /// <summary>
    /// May an ACK bring a cookie back? Only for as long as a cookie lives after the last one was sent. At all other
    /// times nobody can open a connection by guessing one.
    /// </summary>
    internal bool IsExpected(Instant now) => now <= _acceptedUntil;

    /// <summary>Answers a SYN with a SYN-ACK whose sequence number is a cookie.</summary>
    /// <param name="syn">The peer's.</param>
    /// <param name="route">The way to the peer.</param>
    /// <param name="now">The present.</param>
    internal void Answer(in Packet syn, Route route, Instant now)
    {
        NegotiatedOptions options =
            SynOptions.Negotiate(environment.Options, syn, environment.Isn.TimestampOffset(syn.Flow));
        if (!options.Timestamps)
        {
            // These options come back in the timestamp. Without one they would be forgotten.
            options.WindowScaling = false;
            options.Sack = false;
            options.Ecn = false;
        }
        SegmentFields fields = SynOptions.Fields(
            environment.Options, environment.Frames.PayloadCapacity, syn.Flow, options, route, answers: true, now);
        fields.Seq = _cookies.Make(syn, now, fields.TsVal, out uint tsVal);
        if (options.Timestamps)
            fields.TsVal = tsVal;
        fields.Ack = syn.Seq + 1;
        environment.Reply(route.Value, syn.Flow, fields);
        environment.Counters.SynCookiesSent++;
        environment.Drop(DropReason.BacklogFull);
        _acceptedUntil = now + SynCookies.Lifetime;
    }

    /// <summary>Does a segment that belongs to no connection, with ACK and no SYN, bring back a cookie?</summary>
    internal bool TryCheck(in Packet ack, Instant now, out SynCookieOptions cookie)
    {
        cookie = default;
        return IsExpected(now) && _cookies.TryCheck(ack, now, out cookie);
    }

    /// <summary>Completes the handshake.</summary>
    /// <param name="listener">Who accepts the connection.</param>
    /// <param name="ack">A segment that brings back a cookie.</param>
    /// <param name="cookie">What it says.</param>
    /// <param name="route">The way to the peer.</param>
    /// <returns>
    /// The record that would have been kept, for the caller to make the connection from. Null when the accept queue has
    /// no room: the ACK counts as lost, and the peer's next segment brings the cookie again.
    /// </returns>
    internal HalfOpen? Complete(Listener listener, in Packet ack, in SynCookieOptions cookie, Route route)
    {
        if (listener.HasRoomForWaiting)
            return Restore(listener, ack, route, cookie);
        environment.Drop(DropReason.AcceptQueueFull);
        return null;
    }

    private HalfOpen Restore(Listener listener, in Packet ack, Route route, in SynCookieOptions cookie) =>
        new(ack.Flow, listener)
        {
            Route = route,
            Iss = ack.Ack - 1,
            Irs = ack.Seq - 1,
            // Nobody knows when the SYN-ACK was sent. This says that its ACK gives no RTT sample.
            Retransmits = 1,
            Options = Agreed(ack, cookie),
        };

    /// <summary>
    /// The cookie keeps what the peer's SYN offered. Of that, the SYN-ACK has taken what the settings allow.
    /// </summary>
    private NegotiatedOptions Agreed(in Packet ack, in SynCookieOptions cookie)
    {
        TcpStackOptions settings = environment.Options;
        bool timestamps = cookie.HasTimestamps && settings.Timestamps;
        bool scaled = timestamps && cookie.HasWindowScale && settings.WindowScaling;
        return new NegotiatedOptions
        {
            PeerMss = cookie.Mss,
            WindowScaling = scaled,
            SndWndShift = scaled ? cookie.WindowScale : (byte)0,
            RcvWndShift = scaled ? SynOptions.WindowShift(settings) : (byte)0,
            Sack = timestamps && cookie.SackPermitted && settings.Sack,
            Timestamps = timestamps,
            Ecn = timestamps && cookie.Ecn && settings.Ecn,
            TsOffset = environment.Isn.TimestampOffset(ack.Flow),
            TsRecent = ack.TsVal,
        };
    }
}

namespace Xdp.TcpLite;

/// <summary>
/// A connection that we open, until it is established: what our SYN offers, and when it is sent again (RFC 9293,
/// section 3.10.7.3).
/// </summary>
internal sealed class ActiveOpen
{
    /// <summary>SYNs that are sent again before giving up (Linux's tcp_syn_retries).</summary>
    private const int MaxRetries = 6;

    private readonly Instant _startedAt;

    internal ActiveOpen(in NegotiatedOptions offer, TimeSpan rto, Instant now)
    {
        Options = offer;
        _startedAt = now;
        Deadline = now + rto;
    }

    /// <summary>What we offer; once the peer's SYN has come, what both agree on.</summary>
    internal NegotiatedOptions Options { get; private set; }

    /// <summary>Our SYN, or the SYN-ACK of a simultaneous open, is to be sent.</summary>
    internal bool SynIsDue { get; private set; } = true;

    internal Instant Deadline { get; private set; }

    /// <summary>SYNs sent again.</summary>
    internal int Retries { get; private set; }

    /// <summary>
    /// When our SYN was sent. Null once it was sent again: nobody can tell then which SYN is answered (Karn).
    /// </summary>
    internal Instant? SentOnceAt => Retries == 0 ? _startedAt : null;

    internal void OnSent() => SynIsDue = false;

    /// <summary>The peer's SYN has come.</summary>
    /// <param name="agreed">What follows from both.</param>
    /// <param name="answer">
    /// It does not acknowledge our SYN: both sides open at the same time, and ours goes out again with an ACK.
    /// </param>
    internal void OnPeerSyn(in NegotiatedOptions agreed, bool answer) => (Options, SynIsDue) = (agreed, answer);

    /// <summary>No answer has come. False when it was the last try.</summary>
    internal bool OnTimeout(TimeSpan nextRto, Instant now)
    {
        if (Retries == MaxRetries)
            return false;
        Retries++;
        SynIsDue = true;
        Deadline = now + nextRto;
        return true;
    }
}

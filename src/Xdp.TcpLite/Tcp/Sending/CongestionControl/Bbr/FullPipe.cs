namespace Xdp.TcpLite;

/// <summary>
/// Is the path full (BBR.full_bw; section 5.3.1.2)? Yes, when three round trips of faster sending have not brought a
/// quarter more. Round trips in which the application was short of data do not count.
/// </summary>
internal struct FullPipe
{
    private const double Growth = 1.25;
    private const int Rounds = 3;

    private long _baseline;
    private int _count;

    /// <summary>It is full, as far as the present search can tell (BBR.full_bw_now).</summary>
    internal bool IsFull { get; private set; }

    /// <summary>The search begins anew.</summary>
    /// <param name="baseline">Bytes a second to start from; 0 for any.</param>
    internal void Restart(long baseline = 0) => this = new FullPipe { _baseline = baseline };

    /// <summary>An ACK that begins a round trip.</summary>
    internal void OnRound(in RateSample rate)
    {
        if (IsFull || rate.IsAppLimited || rate.BytesPerSecond == 0)
            return;
        if (rate.BytesPerSecond >= _baseline * Growth)
            Restart(rate.BytesPerSecond);
        else
            IsFull = ++_count >= Rounds;
    }
}

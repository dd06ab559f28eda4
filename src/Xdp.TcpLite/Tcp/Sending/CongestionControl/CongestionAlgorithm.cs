namespace Xdp.TcpLite;

/// <summary>The congestion control of a connection.</summary>
public enum CongestionAlgorithm
{
    /// <summary>CUBIC (RFC 9438), as most of the Internet's senders.</summary>
    Cubic,

    /// <summary>NewReno (RFC 5681, RFC 6582).</summary>
    NewReno,

    /// <summary>
    /// BBRv3 (draft-ietf-ccwg-bbr): as fast as the path delivers, and little in queues. Losses that are no congestion
    /// cost it little.
    /// </summary>
    Bbr,
}

internal static class CongestionControls
{
    /// <param name="algorithm">Which.</param>
    /// <param name="seed">Differs from connection to connection.</param>
    internal static ICongestionControl Create(CongestionAlgorithm algorithm, uint seed) => algorithm switch
    {
        CongestionAlgorithm.Cubic => new Cubic(),
        CongestionAlgorithm.NewReno => new NewReno(),
        CongestionAlgorithm.Bbr => new Bbr(seed),
        _ => throw new ArgumentOutOfRangeException(
            nameof(algorithm), algorithm, "There is no such congestion control."),
    };
}

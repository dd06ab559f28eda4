namespace Xdp.TcpLite;

/// <summary>The congestion control of a connection.</summary>
public enum CongestionAlgorithm
{
    /// <summary>CUBIC (RFC 9438), as most of the Internet's senders.</summary>
    Cubic,

    /// <summary>NewReno (RFC 5681, RFC 6582).</summary>
    NewReno,
}

internal static class CongestionControls
{
    internal static ICongestionControl Create(CongestionAlgorithm algorithm) => algorithm switch
    {
        CongestionAlgorithm.Cubic => new Cubic(),
        CongestionAlgorithm.NewReno => new NewReno(),
        _ => throw new ArgumentOutOfRangeException(
            nameof(algorithm), algorithm, "There is no such congestion control."),
    };
}

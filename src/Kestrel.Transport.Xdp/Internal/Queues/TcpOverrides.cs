using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Queues;

/// <summary>
/// What the connections of one endpoint have in place of the interface's settings. Null leaves the interface's.
/// </summary>
internal sealed record TcpOverrides
{
    /// <summary>The interface's settings hold.</summary>
    internal static TcpOverrides None { get; } = new();

    internal KeepAliveOverride? KeepAlive { get; init; }

    internal TimeSpan? UserTimeout { get; init; }

    internal CongestionAlgorithm? CongestionControl { get; init; }

    /// <summary>The endpoint's settings. Those of the stack themselves where there is nothing to change.</summary>
    internal TcpStackOptions Over(TcpStackOptions stack)
    {
        if (KeepAlive is null && UserTimeout is null && CongestionControl is null)
            return stack;
        TcpStackOptions options = stack with
        {
            UserTimeout = UserTimeout ?? stack.UserTimeout,
            CongestionControl = CongestionControl ?? stack.CongestionControl,
        };
        return KeepAlive is not { } keepAlive ? options : options with
        {
            KeepAlive = keepAlive.Time,
            KeepAliveInterval = keepAlive.Interval,
            KeepAliveCount = keepAlive.Count,
        };
    }
}

/// <param name="Time">Idle time before the first probe.</param>
/// <param name="Interval">Between probes that are not answered.</param>
/// <param name="Count">Unanswered probes after which the peer is taken for dead.</param>
internal sealed record KeepAliveOverride(TimeSpan Time, TimeSpan Interval, int Count);

namespace Xdp.TcpLite;

/// <summary>What one ACK tells congestion control. Bytes, and bytes a second.</summary>
internal readonly ref struct AckSample
{
    /// <summary>Bytes newly known to have arrived, by the cumulative ACK or by SACK. At least one.</summary>
    internal required long AckedBytes { get; init; }

    /// <summary>Round trip that this ACK has measured; zero when it has measured none.</summary>
    internal required TimeSpan Rtt { get; init; }

    /// <summary>Smoothed round trip; zero when unknown.</summary>
    internal required TimeSpan Srtt { get; init; }

    /// <summary>Least round trip of late; zero when unknown.</summary>
    internal required TimeSpan MinRtt { get; init; }

    /// <summary>What the path has delivered; zero when unknown.</summary>
    internal required long DeliveryRate { get; init; }

    /// <summary>
    /// The application had too little to send while the rate was measured, so the path may carry more.
    /// </summary>
    internal required bool RateIsAppLimited { get; init; }

    /// <summary>Bytes in the network after the ACK.</summary>
    internal required long InFlight { get; init; }

    /// <summary>The window, not the application or the peer, held sending back: only then it grows.</summary>
    internal required bool CwndLimited { get; init; }

    /// <summary>
    /// False while <see cref="ICongestionControl.SetCwnd"/> brings the window down, or reordering is suspected.
    /// </summary>
    internal required bool MayGrow { get; init; }

    /// <summary>What is in flight was spread over the round trip.</summary>
    internal bool IsPaced { get; init; }

    internal required Instant Now { get; init; }
}

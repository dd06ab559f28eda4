namespace Xdp.TcpLite;

/// <summary>What one ACK tells congestion control. Bytes, and bytes a second.</summary>
internal ref struct AckSample
{
    /// <summary>Bytes newly known to have arrived, by the cumulative ACK or by SACK. At least one.</summary>
    internal required long AckedBytes { get; init; }

    /// <summary>Round trip that this ACK has measured; zero when it has measured none.</summary>
    internal required TimeSpan Rtt { get; init; }

    /// <summary>Smoothed round trip; zero when unknown.</summary>
    internal required TimeSpan Srtt { get; init; }

    /// <summary>Least round trip of late; zero when unknown.</summary>
    internal required TimeSpan MinRtt { get; init; }

    /// <summary>What was delivered and lost since the last of the segments was sent that this ACK delivers.</summary>
    internal ref readonly RateSample Rate;

    /// <summary>Bytes in the network after the ACK.</summary>
    internal required long InFlight { get; init; }

    /// <summary>The window, not the application or the peer, held sending back: only then it grows.</summary>
    internal required bool CwndLimited { get; init; }

    /// <summary>The window was full at some time in the last round trip.</summary>
    internal required bool IsCwndFull { get; init; }

    /// <summary>Losses are being repaired that acknowledgements have shown.</summary>
    internal required bool InFastRecovery { get; init; }

    /// <summary>The peer tells what it has beyond a gap, so that several losses are seen in one round trip.</summary>
    internal required bool HasSack { get; init; }

    /// <summary>
    /// False while <see cref="ICongestionControl.SetCwnd"/> brings the window down, or reordering is suspected.
    /// </summary>
    internal required bool MayGrow { get; init; }

    /// <summary>What is in flight was spread over the round trip.</summary>
    internal bool IsPaced { get; init; }

    internal required Instant Now { get; init; }
}

/// <summary>What congestion control is told of a segment that is taken for lost.</summary>
internal readonly ref struct LossSample
{
    /// <summary>Where the segment begins.</summary>
    internal required SeqNumber Seq { get; init; }

    /// <summary>Its sequence space.</summary>
    internal required int Bytes { get; init; }

    /// <summary>Bytes in the network when it was sent, itself included.</summary>
    internal required long InFlightAtSend { get; init; }

    /// <summary>Bytes taken for lost since it was sent, itself included.</summary>
    internal required long Lost { get; init; }

    /// <summary>The application had too little to send when it was sent.</summary>
    internal required bool IsAppLimited { get; init; }

    internal required Instant Now { get; init; }

    /// <param name="segment">The lost segment.</param>
    /// <param name="everLost">Bytes taken for lost since the flight began, the segment included; wraps.</param>
    /// <param name="now">The present.</param>
    internal static LossSample Of(in SentSegment segment, uint everLost, Instant now) => new()
    {
        Seq = segment.Seq,
        Bytes = segment.SequenceLength,
        InFlightAtSend = segment.Delivery.InFlight,
        Lost = everLost - segment.Delivery.Lost,
        IsAppLimited = segment.Has(SentFlags.AppLimited),
        Now = now,
    };
}

namespace Xdp.TcpLite;

/// <summary>What has become of a segment that was larger than the others.</summary>
/// <param name="Length">Its payload bytes.</param>
/// <param name="Passed">It got through; or else it was lost.</param>
internal readonly record struct MtuProbeResult(int Length, bool Passed);

/// <summary>
/// A segment that is larger than a full one, in flight among those that are not (RFC 4821, section 7). If it alone is
/// lost, the path does not take its size, and that is no sign of congestion.
/// </summary>
internal struct MtuProbe
{
    /// <summary>
    /// Payload bytes of the segment that should be tried next: more than a full one, or 0. It is sent as soon as there
    /// are data for it and for those behind it.
    /// </summary>
    internal int Wanted;

    private int _length;
    private bool _isDone;
    private bool _passed;

    /// <summary>It is in flight.</summary>
    internal readonly bool IsRunning => _length > 0 && !_isDone;

    /// <summary>Where it starts.</summary>
    internal SeqNumber Seq { get; private set; }

    internal void Begin(ref SentSegment segment)
    {
        segment.Flags |= SentFlags.MtuProbe;
        this = new MtuProbe { Seq = segment.Seq, _length = segment.Length };
    }

    /// <summary>A segment was delivered. Once sent again, the probe tells nothing: it was split.</summary>
    internal void OnDelivered(in SentSegment segment)
    {
        if (segment.Has(SentFlags.MtuProbe) && !segment.Has(SentFlags.EverRetransmitted))
            End(passed: true);
    }

    /// <summary>
    /// A segment is sent again. If it is the probe, nothing will be known of its size. Otherwise its number would be
    /// kept, and be that of another segment 4 GiB later.
    /// </summary>
    internal void OnRetransmitted(in SentSegment segment)
    {
        if (IsRunning && segment.Has(SentFlags.MtuProbe))
            Forget();
    }

    /// <summary>It was lost among others, or nobody knows.</summary>
    internal void Forget() => this = default;

    /// <summary>It alone was lost.</summary>
    internal void Fail() => End(passed: false);

    private void End(bool passed)
    {
        if (IsRunning)
            (_isDone, _passed) = (true, passed);
    }

    /// <summary>True once for each probe: it is known what has become of it.</summary>
    internal bool TryTakeResult(out MtuProbeResult result)
    {
        result = new MtuProbeResult(_length, _passed);
        if (!_isDone)
            return false;
        this = default;
        return true;
    }
}

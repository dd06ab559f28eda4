namespace Xdp.TcpLite;

/// <summary>What a <see cref="TimerWheel"/> holds: links of the list it is in.</summary>
public abstract class TimerEntry
{
    // A plain number leaves no gap among the fields, of which each connection has some.
    private long _wheelDeadlineTicks = Instant.Never.Ticks;

    private protected TimerEntry()
    {
    }

    /// <summary>When the entry falls due; <see cref="Instant.Never"/> when it is in no wheel.</summary>
    public Instant WheelDeadline
    {
        get => new(_wheelDeadlineTicks);
        internal set => _wheelDeadlineTicks = value.Ticks;
    }

    internal bool IsScheduled => Next is not null;

    internal TimerEntry? Previous { get; set; }
    internal TimerEntry? Next { get; set; }

    /// <summary>The lower half of the tick at which the wheel will look at the entry: its deadline's or an earlier one.</summary>
    internal uint LookTick { get; set; }
}

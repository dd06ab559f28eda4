namespace Xdp.TcpLite;

/// <summary>What a <see cref="TimerWheel"/> can hold: the base of everything that has a deadline.</summary>
public abstract class TimerEntry
{
    // A plain number, as a struct would leave a gap among the fields of each connection.
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

    // Links of the list that the entry is in.
    internal TimerEntry? Previous { get; set; }
    internal TimerEntry? Next { get; set; }

    /// <summary>
    /// The tick at which the wheel will look at the entry, cut to 32 bits: that of its deadline, or an earlier one.
    /// </summary>
    internal uint LookTick { get; set; }
}

namespace Xdp.TcpLite;

/// <summary>
/// What a connection needs only while it has something to send or to have acknowledged: the bytes, what is known of the
/// segments, and the deadlines that wait for the peer. It is borrowed from <see cref="StackEnvironment.Flights"/> with
/// the first byte and returned with the last acknowledgement. What must outlive it is in the <see cref="Sender"/>.
/// </summary>
internal sealed class Flight
{
    /// <summary>
    /// Spare flights that a stack keeps. So many connections can wait for acknowledgements at once, again and again,
    /// without an allocation.
    /// </summary>
    internal const int MostSpare = 4096;

    internal readonly SendQueue Queue;
    internal readonly LossRecovery Recovery;
    internal CwndUse CwndUse;
    internal SendClock Clock;
    internal RetransmissionTimer Retransmission = new();
    internal PersistTimer Persist = new();
    internal Pacer Pacer = new();

    public Flight()
    {
        Queue = new SendQueue();
        Recovery = new LossRecovery(Queue);
    }

    internal Instant NextDeadline => Instant.Min(
        Instant.Min(Retransmission.Deadline, Persist.Deadline),
        Instant.Min(Pacer.Deadline, Instant.Min(Recovery.Probe.Deadline, Recovery.ReorderDeadline)));

    /// <summary>What will be in flight starts here, in segments of <paramref name="mss"/> bytes.</summary>
    internal void Start(SeqNumber sndNxt, int mss)
    {
        Recovery.Start(sndNxt);
        CwndUse.Start(sndNxt);
        Pacer.Start(mss);
    }

    /// <summary>Returns every block; the flight is as new.</summary>
    internal void Clear()
    {
        Queue.ReturnAll();
        Recovery.Clear();
        CwndUse = default;
        Clock = default;
        Retransmission.Clear();
        Persist.Clear();
        Pacer.Clear();
    }
}

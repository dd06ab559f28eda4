namespace Xdp.TcpLite;

/// <summary>What a flow with BBR is doing (section 5.1), in the order in which a long one comes through.</summary>
internal enum BbrState : byte
{
    /// <summary>Twice as fast each round trip, until the path is full.</summary>
    Startup,

    /// <summary>The queue that came from it drains.</summary>
    Drain,

    /// <summary>ProbeBW_DOWN: a little slower than the path, so that the queue drains and others find room.</summary>
    Down,

    /// <summary>ProbeBW_CRUISE: as fast as the path.</summary>
    Cruise,

    /// <summary>ProbeBW_REFILL: a round trip in which the path is filled, before more is tried.</summary>
    Refill,

    /// <summary>ProbeBW_UP: faster, to find out whether the path carries more.</summary>
    Up,

    /// <summary>Little in flight for a moment, so that the round trip without a queue can be seen.</summary>
    ProbeRtt,
}

/// <summary>What acknowledgements tell of the last search for bandwidth (BBR.ack_phase).</summary>
internal enum BbrFeedback : byte
{
    /// <summary>Nothing: ACKS_INIT.</summary>
    None,

    /// <summary>They are for what was sent before the search: ACKS_REFILLING.</summary>
    Refilling,

    /// <summary>The search has begun, and they are still for what was sent before: ACKS_PROBE_STARTING.</summary>
    Starting,

    /// <summary>They are for what was sent in the search: ACKS_PROBE_FEEDBACK.</summary>
    Probing,

    /// <summary>The search is over, and they are still for what was sent in it: ACKS_PROBE_STOPPING.</summary>
    Stopping,
}

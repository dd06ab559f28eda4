namespace Xdp.TcpLite;

/// <summary>What <see cref="LossRecovery"/> is told of its sender with each call.</summary>
internal ref struct SendState
{
    internal ref readonly Timestamps Timestamps;
    internal ICongestionControl Congestion;
    internal TcpStackCounters Counters;
    internal Instant Now;
    internal SeqNumber SndUna;
    internal SeqNumber SndNxt;

    /// <summary>Payload bytes of a full segment.</summary>
    internal int Mss;
    internal bool HasSack;

    internal readonly long Outstanding => SndNxt - SndUna;

    /// <summary>
    /// Fills in the variable that will be used. A result would be copied, and the processor has to wait when it copies
    /// what was just written in smaller pieces.
    /// </summary>
    internal static void Of(
        in Sender sender, ref readonly Timestamps timestamps, TcpStackCounters counters, Instant now,
        out SendState state)
    {
        state.Timestamps = ref timestamps;
        state.Congestion = sender.Congestion;
        state.Counters = counters;
        state.Now = now;
        state.SndUna = sender.SndUna;
        state.SndNxt = sender.SndNxt;
        state.Mss = sender.Mss;
        state.HasSack = sender.HasSack;
    }
}

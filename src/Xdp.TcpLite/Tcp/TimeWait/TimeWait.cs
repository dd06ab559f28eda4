namespace Xdp.TcpLite;

/// <summary>
/// A connection in TIME-WAIT: what is needed to answer a retransmitted FIN, and to judge a new SYN. Once it is in the
/// <see cref="TimeWaitTable"/>, the table alone changes it.
/// </summary>
internal sealed class TimeWait(in FlowKey flow) : FlowEntry(flow), IListed<TimeWait>
{
    internal required Route Route;
    internal SeqNumber SndNxt;
    internal SeqNumber RcvNxt;
    internal ushort Window;
    internal bool Timestamps;
    internal uint TsOffset;
    internal uint TsRecent;

    internal AnswerLimit Answers;

    public TimeWait? Older { get; set; }
    public TimeWait? Newer { get; set; }

    /// <summary>
    /// A sequence number ahead of everything that this connection sent: its successor starts no lower (RFC 6191,
    /// section 2).
    /// </summary>
    internal SeqNumber LowestSuccessorIss => SndNxt + ushort.MaxValue;

    /// <summary>
    /// Is this a SYN that can only be newer than the connection (RFC 6191, section 2)? Then it may open another one in
    /// its place. A last timestamp of 0 counts as none, as in Linux: some hosts send it in their SYN.
    /// </summary>
    internal bool MayBeReusedBy(in Packet packet)
    {
        if (packet.IsRst || !packet.IsSyn || packet.IsAck)
            return false;
        if (!Timestamps || !packet.HasTimestamps)
            return packet.Seq > RcvNxt;
        int newer = (int)(packet.TsVal - TsRecent);
        return newer > 0 || ((newer == 0 || TsRecent == 0) && packet.Seq > RcvNxt);
    }
}

namespace Xdp.TcpLite;

/// <summary>The one decision what to send next.</summary>
internal struct SendDecision
{
    /// <summary>Index of a segment to be sent again; -1 when it is none.</summary>
    internal int Retransmission;

    /// <summary>Payload bytes of a new segment.</summary>
    internal int Length;

    /// <summary>The new segment carries the FIN.</summary>
    internal bool Fin;

    internal readonly bool IsRetransmission => Retransmission >= 0;

    internal readonly bool IsNew => Length > 0 || Fin;
}

namespace Xdp.TcpLite;

/// <summary>The one decision what to send next.</summary>
internal readonly record struct SendDecision
{
    /// <summary>Index of a segment to be sent again; -1 when it is none.</summary>
    internal int Retransmission { get; init; }

    /// <summary>Payload bytes of a new segment.</summary>
    internal int Length { get; init; }

    /// <summary>The new segment carries the FIN.</summary>
    internal bool Fin { get; init; }

    internal bool IsRetransmission => Retransmission >= 0;

    internal bool IsNew => Length > 0 || Fin;
}

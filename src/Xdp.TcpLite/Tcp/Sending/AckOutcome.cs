namespace Xdp.TcpLite;

/// <summary>What an ACK has done to the <see cref="Sender"/>.</summary>
internal struct AckOutcome
{
    internal Delivery Delivery;

    /// <summary>Bytes outstanding before it.</summary>
    internal long PriorFlight;

    /// <summary>It moved SND.UNA.</summary>
    internal bool Advanced;

    /// <summary>It moved SND.WND.</summary>
    internal bool WindowChanged;

    /// <summary>It opened SND.WND, which was shut.</summary>
    internal bool WindowOpened;

    /// <summary>All that was written is acknowledged, the FIN too if there was one.</summary>
    internal bool AllAcknowledged;
}

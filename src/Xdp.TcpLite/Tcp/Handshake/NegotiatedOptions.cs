namespace Xdp.TcpLite;

/// <summary>What both sides agreed on in their SYNs.</summary>
internal struct NegotiatedOptions
{
    /// <summary>The largest payload the peer takes, in bytes, options not deducted (RFC 6691).</summary>
    public ushort PeerMss;
    public bool WindowScaling;
    public byte SndWndShift;
    public byte RcvWndShift;
    public bool Sack;
    public bool Timestamps;
    public bool Ecn;

    /// <summary>Added to <see cref="TsClock"/> to make this flow's TSval (RFC 7323, section 5.4).</summary>
    public uint TsOffset;

    /// <summary>TS.Recent.</summary>
    public uint TsRecent;
}

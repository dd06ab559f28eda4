using System.Runtime.InteropServices;

namespace Xdp.Sockets;

/// <summary>An entry of the RX and TX rings: <c>struct xdp_desc</c>.</summary>
[StructLayout(LayoutKind.Sequential, Size = 16)]
public struct XdpDescriptor
{
    /// <summary>The packet continues in the next descriptor (multi-buffer).</summary>
    public const uint Continued = 1;

    /// <summary>On TX: the bytes before <see cref="Address"/> hold <see cref="TxMetadata"/>.</summary>
    public const uint HasTxMetadata = 2;

    /// <summary>
    /// Bytes from the start of the UMEM to the packet's first byte. A received packet starts
    /// <see cref="Umem.RxHeadroom"/> bytes into its frame.
    /// </summary>
    public ulong Address;

    /// <summary>Length in bytes.</summary>
    public uint Length;

    public uint Options;
}

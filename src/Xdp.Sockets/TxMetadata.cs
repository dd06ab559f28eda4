using System.Buffers.Binary;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets;

/// <summary>
/// <c>struct xsk_tx_metadata</c>: what the device shall do for one packet. It lies in the <see cref="Size"/> bytes before the
/// packet, and counts when the descriptor says <see cref="XdpDescriptor.HasTxMetadata"/>.
/// </summary>
public static class TxMetadata
{
    /// <summary>Bytes: flags, then the request.</summary>
    public const int Size = 16;

    /// <summary>Asks for a checksum. The checksum field of the packet must hold the pseudo-header's sum, not complemented.</summary>
    /// <param name="metadata">The <see cref="Size"/> bytes before the packet.</param>
    /// <param name="start">Where the summed bytes begin: bytes from the packet's first byte to the transport header.</param>
    /// <param name="offset">Bytes from <paramref name="start"/> to the checksum field: 16 for TCP, 6 for UDP.</param>
    public static void RequestChecksum(Span<byte> metadata, ushort start, ushort offset)
    {
        // Host byte order: little-endian on every platform this supports.
        BinaryPrimitives.WriteUInt64LittleEndian(metadata, IfXdp.XDP_TXMD_FLAGS_CHECKSUM);
        BinaryPrimitives.WriteUInt64LittleEndian(metadata[8..], start | ((ulong)offset << 16));
    }
}

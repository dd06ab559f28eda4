using System.Buffers.Binary;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets;

/// <summary>
/// <c>struct xsk_tx_metadata</c>: what the device is to do for one packet. It lies in the <see cref="Size"/> bytes
/// before the packet. It counts only when the descriptor has <see cref="XdpDescriptor.HasTxMetadata"/>.
/// </summary>
public static class TxMetadata
{
    /// <summary>Size in bytes: 8 of flags, 8 of the request.</summary>
    public const int Size = 16;

    /// <summary>
    /// Asks for a checksum. The packet's checksum field must hold the sum of the pseudo-header, not complemented.
    /// </summary>
    /// <param name="metadata">The <see cref="Size"/> bytes before the packet.</param>
    /// <param name="start">Bytes from the packet's start to the transport header, where the sum begins.</param>
    /// <param name="offset">Bytes from <paramref name="start"/> to the checksum field: 16 for TCP, 6 for UDP.</param>
    public static void RequestChecksum(Span<byte> metadata, ushort start, ushort offset)
    {
        // Host byte order: little-endian on every platform this supports.
        BinaryPrimitives.WriteUInt64LittleEndian(metadata, IfXdp.XDP_TXMD_FLAGS_CHECKSUM);
        BinaryPrimitives.WriteUInt64LittleEndian(metadata[8..], start | ((ulong)offset << 16));
    }
}

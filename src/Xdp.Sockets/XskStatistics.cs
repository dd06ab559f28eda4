using System.Runtime.InteropServices;

namespace Xdp.Sockets;

/// <summary>
/// The kernel's counters for one socket since it was bound: <c>struct xdp_statistics</c>. The last three want kernel
/// 5.9.
/// </summary>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct XskStatistics
{
    /// <summary>
    /// Received packets that were dropped for other reasons than a full RX ring, such as one that does not fit a frame.
    /// </summary>
    public ulong RxDropped { get; init; }

    /// <summary>
    /// Invalid descriptors on the RX ring. Only the kernel writes that ring, so this is 0 in practice. Addresses on
    /// FILL that the kernel refuses are skipped, and counted nowhere (6.18).
    /// </summary>
    public ulong RxInvalidDescriptors { get; init; }

    /// <summary>
    /// TX entries that the kernel refused and dropped. Whether they are completed depends on its version.
    /// </summary>
    public ulong TxInvalidDescriptors { get; init; }

    /// <summary>Received packets dropped because the application did not empty the RX ring in time.</summary>
    public ulong RxRingFull { get; init; }

    /// <summary>How often the kernel wanted a frame and FILL was empty.</summary>
    public ulong RxFillRingEmpty { get; init; }

    /// <summary>How often the kernel looked at an empty TX ring. It does so at the end of each batch.</summary>
    public ulong TxRingEmpty { get; init; }
}

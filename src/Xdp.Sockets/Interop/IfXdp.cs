using System.Runtime.InteropServices;

namespace Xdp.Sockets.Interop;

/// <summary>Constants and structures of linux/if_xdp.h, in the kernel's spelling.</summary>
internal static class IfXdp
{
    internal const int AF_XDP = 44, SOL_XDP = 283;

    // Options of SOL_XDP.
    internal const int XDP_MMAP_OFFSETS = 1, XDP_RX_RING = 2, XDP_TX_RING = 3, XDP_UMEM_REG = 4, XDP_UMEM_FILL_RING = 5,
        XDP_UMEM_COMPLETION_RING = 6, XDP_STATISTICS = 7, XDP_OPTIONS = 8, XDP_MAX_TX_SKB_BUDGET = 9;

    // Page offsets that select a ring in mmap.
    internal const long XDP_PGOFF_RX_RING = 0, XDP_PGOFF_TX_RING = 0x8000_0000,
        XDP_UMEM_PGOFF_FILL_RING = 0x1_0000_0000, XDP_UMEM_PGOFF_COMPLETION_RING = 0x1_8000_0000;

    // sockaddr_xdp.sxdp_flags.
    internal const ushort XDP_COPY = 2, XDP_ZEROCOPY = 4, XDP_USE_NEED_WAKEUP = 8, XDP_USE_SG = 16;

    // xdp_umem_reg.flags.
    internal const uint XDP_UMEM_TX_SW_CSUM = 2, XDP_UMEM_TX_METADATA_LEN = 4;

    internal const uint XDP_OPTIONS_ZEROCOPY = 1;

    internal const uint XDP_RING_NEED_WAKEUP = 1;

    // xsk_tx_metadata.flags.
    internal const ulong XDP_TXMD_FLAGS_CHECKSUM = 2;

    // The kernel's smallest transmit budget (TX_BATCH_SIZE); less is EACCES.
    internal const uint TX_BATCH_SIZE = 32;

    [StructLayout(LayoutKind.Sequential)]
    internal struct sockaddr_xdp
    {
        internal ushort sxdp_family;
        internal ushort sxdp_flags;
        internal uint sxdp_ifindex;
        internal uint sxdp_queue_id;
        internal uint sxdp_shared_umem_fd;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct xdp_umem_reg
    {
        internal ulong addr;
        internal ulong len;
        internal uint chunk_size;
        internal uint headroom;
        internal uint flags;
        internal uint tx_metadata_len;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct xdp_ring_offset
    {
        internal ulong producer;
        internal ulong consumer;
        internal ulong desc;
        internal ulong flags;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct xdp_mmap_offsets
    {
        internal xdp_ring_offset rx;
        internal xdp_ring_offset tx;
        internal xdp_ring_offset fr;
        internal xdp_ring_offset cr;
    }
}

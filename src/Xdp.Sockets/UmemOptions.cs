namespace Xdp.Sockets;

/// <summary>Where the memory of a UMEM comes from.</summary>
public enum UmemBacking
{
    /// <summary>
    /// A pinned managed array, registered with the kernel as it is. Its memory lives as long as anything refers to it.
    /// </summary>
    PinnedArray,

    /// <summary>A mapping of a memfd. It can have huge pages, and be passed to another process.</summary>
    Memfd,
}

public sealed class UmemOptions
{
    /// <summary>
    /// The number of frames, for receiving and sending together. The memory is pinned: 16384 frames of 2048 bytes are
    /// 32 MiB.
    /// </summary>
    public int FrameCount { get; init; } = 16384;

    /// <summary>
    /// 2048 or 4096 bytes. The kernel keeps <see cref="Umem.RxHeadroom"/> bytes of a received frame to itself, so a
    /// frame of 2048 bytes holds an Ethernet packet of 1792 bytes.
    /// </summary>
    public int FrameSize { get; init; } = 2048;

    /// <summary>
    /// Reserves <see cref="TxMetadata.Size"/> bytes before every transmitted packet for <see cref="TxMetadata"/>. Every
    /// address on TX, with metadata or without, must then lie at least that far into its frame. Wants a kernel for
    /// which <see cref="Umem.KernelHasTxMetadata"/> is true.
    /// </summary>
    public bool TxMetadata { get; init; }

    /// <summary>
    /// In copy mode, the kernel computes the checksums that are asked for, in place of the device. For tests against
    /// peers that check them. Wants <see cref="TxMetadata"/>.
    /// </summary>
    public bool SoftwareTxChecksum { get; init; }

    public UmemBacking Backing { get; init; } = UmemBacking.PinnedArray;

    /// <summary>
    /// With a memfd only: use huge pages of the default size, which must have been set aside (vm.nr_hugepages).
    /// </summary>
    public bool HugePages { get; init; }
}

namespace Xdp.Sockets;

/// <summary>How packets pass between the driver and the UMEM.</summary>
public enum BindMode
{
    /// <summary>Zero-copy where the driver has it, else copy.</summary>
    Auto,

    /// <summary>The driver receives into the UMEM and sends from it. Binding fails where the driver cannot.</summary>
    ZeroCopy,

    /// <summary>The kernel copies between its buffers and the UMEM. Works with every driver.</summary>
    Copy,
}

/// <summary>What one AF_XDP socket is to be. Ring sizes are numbers of entries, and powers of two.</summary>
public sealed class XskOptions
{
    public required int InterfaceIndex { get; init; }

    public required int QueueId { get; init; }

    /// <summary>
    /// How many packets can wait while the application is busy: 8192 are enough for a pause of 15 ms at 0.5 Mpps.
    /// </summary>
    public int RxRingSize { get; init; } = 8192;

    /// <summary>Must be at least <see cref="RxRingSize"/> if that many packets are to be able to wait.</summary>
    public int FillRingSize { get; init; } = 8192;

    public int TxRingSize { get; init; } = 2048;

    /// <summary>
    /// At least <see cref="TxRingSize"/>. 0, the default, means twice that. The kernel reserves an entry here before it
    /// takes a packet, so this bounds the packets in flight. Twice the TX ring lets one full ring follow another whose
    /// completions have not been read.
    /// </summary>
    public int CompletionRingSize { get; init; }

    public BindMode BindMode { get; init; } = BindMode.Auto;

    /// <summary>
    /// The kernel says when it wants a system call (5.4 and later). If off, every kick is a system call.
    /// </summary>
    public bool NeedWakeup { get; init; } = true;

    /// <summary>
    /// A received packet may take several frames: all its descriptors but the last have
    /// <see cref="XdpDescriptor.Continued"/>. If off, the kernel drops packets that do not fit a frame. The XDP program
    /// must be in a section <c>xdp.frags</c>. Wants a kernel for which <see cref="Xsk.KernelHasMultiBuffer"/> is true.
    /// With <see cref="BindMode.Auto"/>, a driver that has zero-copy for packets of one frame only is bound in copy
    /// mode; with <see cref="BindMode.ZeroCopy"/> binding fails there.
    /// </summary>
    public bool MultiBuffer { get; init; }

    /// <summary>
    /// In copy mode, how many packets one system call may send: 32 up to the size of the TX ring. 0, the default, means
    /// the size of the ring. Kernels before 6.17 know only 32; <see cref="Xsk.Kick"/> then makes several calls.
    /// </summary>
    public int MaxTxBudget { get; init; }

    /// <summary>
    /// How long <see cref="Xsk.Bind"/> tries again while the queue is busy. The kernel frees a queue some milliseconds
    /// after its socket was closed.
    /// </summary>
    public TimeSpan BindTimeout { get; init; } = TimeSpan.FromSeconds(2);

    internal int EffectiveCompletionRingSize => CompletionRingSize == 0 ? checked(2 * TxRingSize) : CompletionRingSize;

    internal void Validate()
    {
        if (InterfaceIndex < 1)
            throw new ArgumentException($"InterfaceIndex is {InterfaceIndex}: indices begin at 1.");
        ArgumentOutOfRangeException.ThrowIfNegative(QueueId);
        RingSize(RxRingSize, nameof(RxRingSize));
        RingSize(FillRingSize, nameof(FillRingSize));
        RingSize(TxRingSize, nameof(TxRingSize));
        RingSize(EffectiveCompletionRingSize, nameof(CompletionRingSize));
        if (EffectiveCompletionRingSize < TxRingSize)
        {
            throw new ArgumentException($"CompletionRingSize is {CompletionRingSize}, below TxRingSize ({TxRingSize}): "
                + "transmission would stop before the TX ring is empty.");
        }
        if (MaxTxBudget != 0 && (MaxTxBudget < Interop.IfXdp.TX_BATCH_SIZE || MaxTxBudget > TxRingSize))
            throw new ArgumentException($"MaxTxBudget is {MaxTxBudget}: 0, or 32 up to TxRingSize ({TxRingSize}).");
    }

    private static void RingSize(int size, string name)
    {
        // 2^24 entries of 16 bytes are 256 MiB of kernel memory. More is taken for a mistake.
        if (size < 1 || size > 1 << 24 || !int.IsPow2(size))
            throw new ArgumentException($"{name} is {size}: rings have a power of two of entries, 2^24 at most.");
    }
}

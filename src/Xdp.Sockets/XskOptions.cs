namespace Xdp.Sockets;

/// <summary>How packets pass between the driver and the UMEM.</summary>
public enum BindMode
{
    /// <summary>Zero-copy where the driver has it, else copy.</summary>
    Auto,

    /// <summary>The driver receives into the UMEM and sends from it. Binding fails where the driver cannot.</summary>
    ZeroCopy,

    /// <summary>The kernel copies. Works on every driver.</summary>
    Copy,
}

/// <summary>One AF_XDP socket. Ring sizes are entries and powers of two.</summary>
public sealed class XskOptions
{
    public required int InterfaceIndex { get; init; }

    public required int QueueId { get; init; }

    /// <summary>Packets that can wait while the application is away: 8192 rides out a pause of 15 ms at 0.5 Mpps.</summary>
    public int RxRingSize { get; init; } = 8192;

    /// <summary>At least <see cref="RxRingSize"/> if that many packets shall be able to wait.</summary>
    public int FillRingSize { get; init; } = 8192;

    public int TxRingSize { get; init; } = 2048;

    /// <summary>
    /// At least <see cref="TxRingSize"/>; 0, the default, is twice that. The kernel reserves an entry here for each packet
    /// before it takes it, so this bounds packets in flight: twice lets a full TX ring follow one whose completions have not
    /// been read.
    /// </summary>
    public int CompletionRingSize { get; init; }

    public BindMode BindMode { get; init; } = BindMode.Auto;

    /// <summary>The kernel says when it wants a system call (5.4 and later). Off, every kick is one.</summary>
    public bool NeedWakeup { get; init; } = true;

    /// <summary>
    /// Copy mode: packets one system call sends, 32 up to the TX ring's size; 0, the default, is the ring's size. Kernels before
    /// 6.17 know only 32, and <see cref="Xsk.Kick"/> makes several calls.
    /// </summary>
    public int MaxTxBudget { get; init; }

    /// <summary>
    /// How long <see cref="Xsk.Bind"/> tries again while the queue is busy: the kernel frees a queue some milliseconds after its
    /// socket was closed.
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
        // 2^24 entries of 16 bytes are 256 MiB of kernel memory: beyond it is a mistake.
        if (size < 1 || size > 1 << 24 || !int.IsPow2(size))
            throw new ArgumentException($"{name} is {size}: rings have a power of two of entries, 2^24 at most.");
    }
}

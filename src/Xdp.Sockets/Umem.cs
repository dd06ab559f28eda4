using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets;

/// <summary>
/// The memory that packets are received into and sent from: frames of equal size, one after the other. An address that
/// the kernel is given, or gives, counts bytes from the start of this memory.
/// <para>
/// Owns the memory and nothing else. Which frame belongs to whom is the business of the queue that uses it. Threads may
/// share it. The memory goes when nothing refers to it any more: this object, a <see cref="Memory{T}"/> from it, or an
/// open <see cref="Xsk"/>. So nobody can be left with an unmapped page. <see cref="Dispose"/> closes the memfd, if
/// there is one.
/// </para>
/// </summary>
public sealed unsafe class Umem : IDisposable
{
    /// <summary>
    /// Bytes at the start of a frame that the kernel keeps for XDP programs (XDP_PACKET_HEADROOM). Addresses on RX
    /// point behind them.
    /// </summary>
    public const int RxHeadroom = 256;

    private static readonly Lazy<bool> TxMetadataProbe = new(ProbeTxMetadata);

    private readonly byte* _base;
    private readonly int _frameShift;
    private readonly MemfdMemory? _memfd;

    private Umem(UmemOptions options)
    {
        FrameCount = options.FrameCount;
        FrameSize = options.FrameSize;
        _frameShift = int.Log2(options.FrameSize);
        HasTxMetadata = options.TxMetadata;
        SoftwareTxChecksum = options.SoftwareTxChecksum;
        int size = options.FrameCount * options.FrameSize;
        if (options.Backing == UmemBacking.Memfd)
        {
            _memfd = MemfdMemory.Create(size, options.HugePages);
            _base = _memfd.Address;
            Memory = _memfd.Memory;
        }
        else
        {
            // Whole pages of zeroes. The kernel pins whole pages, so these hold nothing else; and no old heap contents
            // can be sent.
            int page = Environment.SystemPageSize;
            Array = GC.AllocateArray<byte>(((size + page - 1) & -page) + page, pinned: true);
            nint start = (nint)Unsafe.AsPointer(ref MemoryMarshal.GetArrayDataReference(Array));
            ArrayOffset = (int)(-start & (page - 1));
            _base = (byte*)start + ArrayOffset;
            Memory = new Memory<byte>(Array, ArrayOffset, size);
        }
    }

    /// <summary>
    /// Whether the kernel takes TX metadata, as 6.11 and later do. Found out once, with a socket and a page.
    /// </summary>
    public static bool KernelHasTxMetadata => TxMetadataProbe.Value;

    public int FrameCount { get; }

    /// <summary>Bytes of a frame.</summary>
    public int FrameSize { get; }

    /// <summary>Bytes in all.</summary>
    public int Size => FrameCount * FrameSize;

    /// <summary>Longest packet that fits a receive frame, in bytes.</summary>
    public int MaxReceiveLength => FrameSize - RxHeadroom;

    /// <summary>Whether there is room for <see cref="TxMetadata"/> before each transmitted packet.</summary>
    public bool HasTxMetadata { get; }

    public bool SoftwareTxChecksum { get; }

    /// <summary>All frames. Address 0 is the first byte.</summary>
    public Memory<byte> Memory { get; }

    /// <summary>The pinned array with <see cref="UmemBacking.PinnedArray"/>; null with a memfd.</summary>
    public byte[]? Array { get; }

    /// <summary>Index of address 0 in <see cref="Array"/>.</summary>
    public int ArrayOffset { get; }

    /// <summary>The memfd, to share the memory with another process; null with an array.</summary>
    public SafeFileHandle? MemoryFile => _memfd?.File;

    internal byte* Base => _base;

    /// <summary>The object that must stay reachable while the kernel uses the memory.</summary>
    internal object Root => (object?)Array ?? _memfd!;

    /// <exception cref="ArgumentException">A count or size that cannot work.</exception>
    /// <exception cref="XdpException">The memfd could not be made.</exception>
    public static Umem Create(UmemOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (options.FrameSize is not (2048 or 4096))
            throw new ArgumentException(
                $"FrameSize is {options.FrameSize}: the kernel takes 2048, or 4096.", nameof(options));
        int most = (System.Array.MaxLength - 2 * Environment.SystemPageSize) / options.FrameSize;
        if (options.FrameCount < 1 || options.FrameCount > most)
            throw new ArgumentException(
                $"FrameCount is {options.FrameCount}: 1 to {most} frames of {options.FrameSize} bytes.",
                nameof(options));
        if (options.HugePages && options.Backing != UmemBacking.Memfd)
            throw new ArgumentException("HugePages wants the Memfd backing.", nameof(options));
        if (options.SoftwareTxChecksum && !options.TxMetadata)
            throw new ArgumentException("SoftwareTxChecksum wants TxMetadata.", nameof(options));
        return new Umem(options);
    }

    /// <summary>Address of a frame's first byte.</summary>
    public ulong AddressOf(int frame)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)frame, (uint)FrameCount, nameof(frame));
        return (ulong)frame * (uint)FrameSize;
    }

    /// <summary>The frame that an address lies in. The address is not checked: see <see cref="Contains"/>.</summary>
    public int FrameOf(ulong address) => (int)(address >> _frameShift);

    /// <summary>
    /// Whether the bytes lie within one frame of this memory. True of everything that a sane kernel hands out.
    /// </summary>
    public bool Contains(ulong address, uint length) =>
        address < (ulong)(uint)Size && ((uint)address & (uint)(FrameSize - 1)) + (ulong)length <= (uint)FrameSize;

    /// <exception cref="ArgumentOutOfRangeException">The bytes do not lie in this memory.</exception>
    public Span<byte> GetSpan(ulong address, int length)
    {
        if (address > (uint)Size || (uint)length > (ulong)(uint)Size - address)
            ThrowHelper.OutsideUmem(address, (uint)length, Size);
        return MemoryMarshal.CreateSpan(ref *(_base + address), length);
    }

    /// <exception cref="ArgumentOutOfRangeException">The bytes do not lie in this memory.</exception>
    public Memory<byte> GetMemory(ulong address, int length)
    {
        if (address > (uint)Size || (uint)length > (ulong)(uint)Size - address)
            ThrowHelper.OutsideUmem(address, (uint)length, Size);
        return Memory.Slice((int)address, length);
    }

    public void Dispose() => _memfd?.File.Dispose();

    private static bool ProbeTxMetadata()
    {
        if (!OperatingSystem.IsLinux())
            return false;
        int fd = XskNative.socket(IfXdp.AF_XDP, XskNative.SOCK_RAW | XskNative.SOCK_CLOEXEC, 0);
        if (fd < 0)
            return false;
        Umem page = Create(new UmemOptions { FrameCount = 1, TxMetadata = true });
        using XskHandle handle = new(fd, page.Root);
        return XskSetup.RegisterUmem(handle, page) == 0;
    }
}

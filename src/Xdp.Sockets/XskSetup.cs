using System.Diagnostics;
using System.Globalization;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets;

/// <summary>
/// The system calls that set a socket up, in the order in which <see cref="Xsk"/> makes them; and what their errors
/// mean to whoever runs the program.
/// </summary>
internal static unsafe class XskSetup
{
    private static readonly object NoUmem = new();

    private static readonly TimeSpan BindRetryDelay = TimeSpan.FromMilliseconds(2);

    internal static XskHandle Socket(Umem umem)
    {
        if (!OperatingSystem.IsLinux())
            throw new PlatformNotSupportedException("AF_XDP is a part of Linux.");
        int fd = XskNative.socket(IfXdp.AF_XDP, XskNative.SOCK_RAW | XskNative.SOCK_CLOEXEC, 0);
        return fd >= 0 ? new XskHandle(fd, umem.Root) : throw SocketError(XskNative.Errno, ProcessFacts.Read());
    }

    internal static XdpException SocketError(int errno, ProcessFacts facts) =>
        new("socket(AF_XDP, SOCK_RAW)", errno, ProcessFacts.Sentence(facts.WhyNoSocket(errno)));

    /// <returns>0 or the errno.</returns>
    internal static int RegisterUmem(XskHandle handle, Umem umem)
    {
        IfXdp.xdp_umem_reg registration = new()
        {
            addr = (ulong)umem.Base,
            len = (ulong)umem.Size,
            chunk_size = (uint)umem.FrameSize,
        };
        // Kernels before 5.4 know 24 bytes and no flags. So 32 are sent only where they are needed.
        uint length = 24;
        if (umem.HasTxMetadata)
        {
            registration.flags = IfXdp.XDP_UMEM_TX_METADATA_LEN
                | (umem.SoftwareTxChecksum ? IfXdp.XDP_UMEM_TX_SW_CSUM : 0);
            registration.tx_metadata_len = TxMetadata.Size;
            length = (uint)sizeof(IfXdp.xdp_umem_reg);
        }
        return XskNative.setsockopt(handle, IfXdp.SOL_XDP, IfXdp.XDP_UMEM_REG, &registration, length) == 0
            ? 0
            : XskNative.Errno;
    }

    internal static XdpException UmemError(Umem umem, int errno) =>
        UmemError(umem.FrameCount, umem.FrameSize, umem.HasTxMetadata, errno);

    internal static XdpException UmemError(int frames, int frameSize, bool txMetadata, int errno)
    {
        long size = (long)frames * frameSize;
        string call = string.Create(CultureInfo.InvariantCulture,
            $"setsockopt(XDP_UMEM_REG, {frames} frames of {frameSize} bytes{(txMetadata ? ", TX metadata" : "")})");
        return new XdpException(call, errno, errno switch
        {
            ErrnoNames.ENOBUFS =>
                $"The UMEM is pinned and counts against RLIMIT_MEMLOCK, per user over all sockets: "
                + $"raise it above {size / 1024} KiB "
                + "(ulimit -l, LimitMEMLOCK=, --ulimit memlock=-1), grant CAP_IPC_LOCK, or use fewer frames.",
            ErrnoNames.ENOMEM => $"The system cannot pin {size / 1024} KiB; use fewer frames.",
            ErrnoNames.EBUSY => "The socket has a UMEM already.",
            ErrnoNames.EINVAL when txMetadata => "TX metadata wants kernel 6.11 or later: turn TxMetadata off.",
            ErrnoNames.EINVAL => "The frame size must be a power of two from 2048 to the page size.",
            ErrnoNames.EOPNOTSUPP =>
                "Huge pages that are smaller than the system's, or file-backed memory, cannot be pinned.",
            _ => null,
        });
    }

    internal static void RingSize(XskHandle handle, int option, string name, uint entries)
    {
        if (XskNative.setsockopt(handle, IfXdp.SOL_XDP, option, &entries, sizeof(uint)) == 0)
            return;
        int errno = XskNative.Errno;
        throw new XdpException($"setsockopt({name}, {entries} entries)", errno, errno switch
        {
            ErrnoNames.EINVAL => "Ring sizes are powers of two.",
            ErrnoNames.ENOMEM => "The kernel has no memory for a ring of this size; use a smaller one.",
            _ => null,
        });
    }

    internal static IfXdp.xdp_mmap_offsets RingOffsets(XskHandle handle)
    {
        IfXdp.xdp_mmap_offsets offsets;
        uint length = (uint)sizeof(IfXdp.xdp_mmap_offsets);
        if (XskNative.getsockopt(handle, IfXdp.SOL_XDP, IfXdp.XDP_MMAP_OFFSETS, &offsets, &length) < 0)
            throw new XdpException("getsockopt(XDP_MMAP_OFFSETS)", XskNative.Errno);
        if (length != sizeof(IfXdp.xdp_mmap_offsets))
        {
            throw new XdpException($"getsockopt(XDP_MMAP_OFFSETS) answered {length} bytes and", ErrnoNames.EINVAL,
                "The kernel is older than 5.4, which is the oldest supported.");
        }
        return offsets;
    }

    internal static RingMemory MapRing(
        XskHandle handle, string name, long page, in IfXdp.xdp_ring_offset offset, uint entries, int entrySize)
    {
        nuint length = (nuint)(offset.desc + (ulong)entries * (uint)entrySize);
        void* address = XskNative.mmap(null, length, XskNative.PROT_READ | XskNative.PROT_WRITE,
            XskNative.MAP_SHARED | XskNative.MAP_POPULATE, handle, page);
        if ((nint)address == -1)
            throw new XdpException($"mmap({name}, {length} bytes)", XskNative.Errno);
        handle.Adopt(new MappingHandle(address, length));
        byte* start = (byte*)address;
        return new RingMemory(
            (nint)(start + offset.producer),
            (nint)(start + offset.consumer),
            (nint)(start + offset.flags),
            (nint)(start + offset.desc),
            entries,
            handle);
    }

    /// <summary>
    /// Raises the socket's send buffer, which bounds how much copy mode has under way, in bytes of skbs. The default of
    /// 208 KiB is a hundred packets or so. Without CAP_NET_ADMIN it goes no higher than net.core.wmem_max.
    /// </summary>
    internal static void RaiseSendBuffer(XskHandle handle, long bytes)
    {
        int value = (int)Math.Min(bytes, int.MaxValue / 2);
        if (XskNative.setsockopt(handle, XskNative.SOL_SOCKET, XskNative.SO_SNDBUFFORCE, &value, sizeof(int)) < 0)
            _ = XskNative.setsockopt(handle, XskNative.SOL_SOCKET, XskNative.SO_SNDBUF, &value, sizeof(int));
    }

    /// <returns>Packets one system call sends in copy mode.</returns>
    internal static int SetTxBudget(XskHandle handle, int budget)
    {
        // Kernels before 6.17 answer ENOPROTOOPT.
        if (budget >= IfXdp.TX_BATCH_SIZE
            && XskNative.setsockopt(handle, IfXdp.SOL_XDP, IfXdp.XDP_MAX_TX_SKB_BUDGET, &budget, sizeof(int)) == 0)
            return budget;
        return (int)IfXdp.TX_BATCH_SIZE;
    }

    internal static void Bind(XskHandle handle, XskOptions options)
    {
        IfXdp.sockaddr_xdp address = new()
        {
            sxdp_family = IfXdp.AF_XDP,
            sxdp_flags = (ushort)((options.NeedWakeup ? IfXdp.XDP_USE_NEED_WAKEUP : 0)
                | (options.MultiBuffer ? IfXdp.XDP_USE_SG : 0)
                | options.BindMode switch
                {
                    BindMode.Copy => IfXdp.XDP_COPY,
                    BindMode.ZeroCopy => IfXdp.XDP_ZEROCOPY,
                    _ => 0,
                }),
            sxdp_ifindex = (uint)options.InterfaceIndex,
            sxdp_queue_id = (uint)options.QueueId,
        };
        long start = Stopwatch.GetTimestamp();
        for (; ; )
        {
            if (XskNative.bind(handle, &address, (uint)sizeof(IfXdp.sockaddr_xdp)) == 0)
                return;
            int errno = XskNative.Errno;
            if (errno is not (ErrnoNames.EBUSY or ErrnoNames.EINTR)
                || Stopwatch.GetElapsedTime(start) >= options.BindTimeout)
                throw BindError(options, errno);
            Thread.Sleep(BindRetryDelay);
        }
    }

    /// <summary>
    /// Asks for it on a device that cannot be. The kernel looks at flags first: one that does not know XDP_USE_SG
    /// answers EINVAL, any other that there is no such device.
    /// </summary>
    internal static bool ProbeMultiBuffer()
    {
        if (!OperatingSystem.IsLinux())
            return false;
        int fd = XskNative.socket(IfXdp.AF_XDP, XskNative.SOCK_RAW | XskNative.SOCK_CLOEXEC, 0);
        if (fd < 0)
            return false;
        using XskHandle handle = new(fd, memory: NoUmem);
        IfXdp.sockaddr_xdp address = new()
        {
            sxdp_family = IfXdp.AF_XDP,
            sxdp_flags = IfXdp.XDP_USE_SG,
            sxdp_ifindex = 0,
        };
        return XskNative.bind(handle, &address, (uint)sizeof(IfXdp.sockaddr_xdp)) != 0
            && XskNative.Errno == ErrnoNames.ENODEV;
    }

    internal static XdpException BindError(XskOptions options, int errno)
    {
        string mode = options.BindMode switch
        {
            BindMode.Copy => "copy",
            BindMode.ZeroCopy => "zero-copy",
            _ => "auto",
        };
        string call = $"bind(ifindex {options.InterfaceIndex}, queue {options.QueueId}, {mode})";
        return new XdpException(call, errno, errno switch
        {
            ErrnoNames.EBUSY => string.Create(
                CultureInfo.InvariantCulture,
                $"Another AF_XDP socket has the queue, still after {options.BindTimeout.TotalSeconds:0.###} s "
                + $"(ss --xdp shows whose)."),
            ErrnoNames.EINVAL when options.MultiBuffer && !Xsk.KernelHasMultiBuffer =>
                "Packets of several frames want kernel 6.6 or later: turn MultiBuffer off.",
            ErrnoNames.EINVAL =>
                $"The interface has no queue {options.QueueId} (ethtool -l shows how many), "
                + "or its MTU does not fit the frame size.",
            ErrnoNames.EOPNOTSUPP when options is { BindMode: BindMode.ZeroCopy, MultiBuffer: true } =>
                "The driver has no zero copy, or none for packets of several frames: use Auto or Copy, or a smaller "
                + "MTU.",
            ErrnoNames.EOPNOTSUPP => options.BindMode == BindMode.ZeroCopy
                ? "The driver has no zero copy, or not with the XDP program attached as it is: use Auto or Copy."
                : "The driver or the kernel does not support this mode.",
            ErrnoNames.ENODEV => "This network namespace has no such interface.",
            ErrnoNames.ENETDOWN => "The interface is down: bring it up first (ip link set … up).",
            ErrnoNames.EPERM or ErrnoNames.EACCES => "A security policy forbids it.",
            ErrnoNames.ENOMEM => "The driver has no memory for the queue.",
            ErrnoNames.ENOSPC => "The driver wants a spare transmit queue for XDP: reduce its channels (ethtool -L).",
            _ => null,
        });
    }
}

using System.Runtime.InteropServices;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets;

/// <summary>
/// An AF_XDP socket on one queue of one interface: four rings over a <see cref="Umem"/>.
/// <para>
/// Call order: <see cref="Create"/> → put frames on <see cref="Fill"/> → <see cref="Bind"/> → put it into the XSKMAP →
/// rings, <see cref="Kick"/>, <see cref="Wait"/> → take it out of the XSKMAP → <see cref="Dispose"/>.
/// FILL comes before bind because drivers take their first frames there.
/// </para>
/// <para>
/// Rings, <see cref="Kick"/> and <see cref="Dispose"/> are for one thread at a time, with a happens-before edge from
/// one such thread to the next. <see cref="Wait"/> touches no ring of ours: it may overlap with them, but not with
/// <see cref="Dispose"/>. <see cref="GetStatistics"/> is for any thread.
/// </para>
/// <para>
/// <see cref="Create"/> wants CAP_NET_RAW, and room under RLIMIT_MEMLOCK or CAP_IPC_LOCK. Set-up uses socket,
/// setsockopt, getsockopt, mmap and bind; the rest uses sendto, recvfrom and ppoll.
/// </para>
/// </summary>
public sealed unsafe class Xsk : IDisposable
{
    // How many passes may report success without showing progress. Each may have skipped one invalid descriptor, which
    // the kernel publishes late. With a lower number it gives up on a burst of bad descriptors; with a higher one it
    // spins on a queue that was taken away.
    private const int MaxIdlePasses = 64;

    private static readonly Lazy<bool> s_multiBuffer = new(XskSetup.ProbeMultiBuffer);

    private readonly XskHandle _handle;
    private readonly XskOptions _options;
    private readonly int _fd;
    private int _lastKickErrno;
    private bool _disposed;

    private Xsk(Umem umem, XskOptions options, XskHandle handle)
    {
        Umem = umem;
        _options = options;
        _handle = handle;
        _fd = handle.Descriptor;

        int errno = XskSetup.RegisterUmem(handle, umem);
        if (errno != 0)
            throw XskSetup.UmemError(umem, errno);

        uint fill = (uint)options.FillRingSize, completion = (uint)options.EffectiveCompletionRingSize;
        uint rx = (uint)options.RxRingSize, tx = (uint)options.TxRingSize;
        XskSetup.RingSize(handle, IfXdp.XDP_UMEM_FILL_RING, "XDP_UMEM_FILL_RING", fill);
        XskSetup.RingSize(handle, IfXdp.XDP_UMEM_COMPLETION_RING, "XDP_UMEM_COMPLETION_RING", completion);
        XskSetup.RingSize(handle, IfXdp.XDP_RX_RING, "XDP_RX_RING", rx);
        XskSetup.RingSize(handle, IfXdp.XDP_TX_RING, "XDP_TX_RING", tx);

        IfXdp.xdp_mmap_offsets offsets = XskSetup.RingOffsets(handle);
        Fill = new FillRing(
            XskSetup.MapRing(handle, "FILL", IfXdp.XDP_UMEM_PGOFF_FILL_RING, offsets.fr, fill, sizeof(ulong)));
        Completion = new CompletionRing(
            XskSetup.MapRing(
                handle, "COMPLETION", IfXdp.XDP_UMEM_PGOFF_COMPLETION_RING, offsets.cr, completion, sizeof(ulong)));
        Rx = new RxRing(XskSetup.MapRing(handle, "RX", IfXdp.XDP_PGOFF_RX_RING, offsets.rx, rx, sizeof(XdpDescriptor)));
        Tx = new TxRing(XskSetup.MapRing(handle, "TX", IfXdp.XDP_PGOFF_TX_RING, offsets.tx, tx, sizeof(XdpDescriptor)));

        TxBudget = XskSetup.SetTxBudget(handle, options.MaxTxBudget == 0 ? options.TxRingSize : options.MaxTxBudget);
        // An skb holds one frame, and needs memory of its own besides.
        XskSetup.RaiseSendBuffer(handle, (long)completion * (umem.FrameSize + 1024));
    }

    /// <summary>
    /// Whether the kernel has <see cref="XskOptions.MultiBuffer"/>, as 6.6 and later do. Found out once, with a socket;
    /// false where none can be made.
    /// </summary>
    public static bool KernelHasMultiBuffer => s_multiBuffer.Value;

    public Umem Umem { get; }

    public FillRing Fill { get; }

    public CompletionRing Completion { get; }

    public RxRing Rx { get; }

    public TxRing Tx { get; }

    public int InterfaceIndex => _options.InterfaceIndex;

    public int QueueId => _options.QueueId;

    public bool IsBound { get; private set; }

    /// <summary>What <see cref="BindMode.Auto"/> has led to. Known once the socket is bound.</summary>
    public bool IsZeroCopy => _handle.ZeroCopy;

    /// <summary>In copy mode, how many packets the kernel sends in one system call.</summary>
    public int TxBudget { get; }

    /// <summary>The socket, for the XSKMAP.</summary>
    public SafeHandle Handle => _handle;

    /// <summary>Number of <see cref="Handle"/>, valid until <see cref="Dispose"/>.</summary>
    public int FileDescriptor
    {
        get
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            return _fd;
        }
    }

    /// <summary>errno of the last system call <see cref="Kick"/> made, 0 for success.</summary>
    public int LastKickErrno => _lastKickErrno;

    /// <summary>
    /// A socket with rings that is not bound yet. Put frames on <see cref="Fill"/>, then <see cref="Bind"/>.
    /// </summary>
    /// <exception cref="ArgumentException">Options that cannot work.</exception>
    /// <exception cref="XdpException">A call failed: which, why, and what to do.</exception>
    /// <exception cref="PlatformNotSupportedException">Not Linux.</exception>
    public static Xsk Create(Umem umem, XskOptions options)
    {
        ArgumentNullException.ThrowIfNull(umem);
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        XskHandle handle = XskSetup.Socket(umem);
        try
        {
            return new Xsk(umem, options, handle);
        }
        catch
        {
            handle.Dispose();
            throw;
        }
    }

    /// <summary><see cref="Create"/>, <see cref="Fill"/> and <see cref="Bind"/> in one call.</summary>
    /// <param name="umem">The memory. It serves one socket at a time.</param>
    /// <param name="options">Interface, queue, sizes.</param>
    /// <param name="fill">Frames to receive into, at most FillRingSize. None for a socket that only sends.</param>
    /// <exception cref="ArgumentException">Options that cannot work.</exception>
    /// <exception cref="XdpException">A call failed: which, why, and what to do.</exception>
    public static Xsk Open(Umem umem, XskOptions options, ReadOnlySpan<ulong> fill)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (fill.Length > options.FillRingSize)
            throw new ArgumentException(
                $"{fill.Length} frames do not fit a FILL ring of {options.FillRingSize}.", nameof(fill));
        Xsk xsk = Create(umem, options);
        try
        {
            xsk.Fill.Add(fill);
            xsk.Bind();
            return xsk;
        }
        catch
        {
            xsk.Dispose();
            throw;
        }
    }

    /// <summary>
    /// Binds to the queue. While the queue is busy it tries again, for <see cref="XskOptions.BindTimeout"/>. After an
    /// exception it may be called again, unless the socket <see cref="IsBound"/>.
    /// </summary>
    /// <exception cref="XdpException">
    /// bind failed: why, and what to do. Or the kernel does not tell how the socket was bound.
    /// </exception>
    public void Bind()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (IsBound)
            throw new InvalidOperationException("The socket is bound.");
        XskSetup.Bind(_handle, _options);
        uint flags = 0, length = sizeof(uint);
        // While that is unknown, the driver may have the frames.
        _handle.ZeroCopy = true;
        IsBound = true;
        if (XskNative.getsockopt(_handle, IfXdp.SOL_XDP, IfXdp.XDP_OPTIONS, &flags, &length) < 0)
            throw new XdpException("getsockopt(XDP_OPTIONS)", XskNative.Errno);
        _handle.ZeroCopy = (flags & IfXdp.XDP_OPTIONS_ZEROCOPY) != 0;
    }

    /// <summary>
    /// Makes the kernel send what is on <see cref="Tx"/>. In copy mode this call sends the packets itself, on this
    /// thread, until all are sent or there is no room for more. In zero-copy mode it only tells the driver. It makes no
    /// system call when the ring is empty, or when the kernel does not ask for one. In copy mode <see cref="Wait"/>
    /// sends as well, so there is no need to kick right before it.
    /// </summary>
    public KickStatus Kick()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        TxRing tx = Tx;
        if (tx.Pending == 0)
            return KickStatus.Ok;
        // The producer index must be visible before the flag is read: the kernel sets the flag and then looks at the
        // index again.
        Interlocked.MemoryBarrier();
        if (_options.NeedWakeup && !tx.NeedsWakeup)
            return KickStatus.Ok;
        return IsZeroCopy ? Ring() : SendAll(tx);
    }

    /// <summary>
    /// Tells the driver that FILL has frames again, where it asks to be told (<see cref="ProducerRing.NeedsWakeup"/> of
    /// <see cref="Fill"/>). Only drivers in zero-copy mode ever ask.
    /// </summary>
    public void KickFill()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        Interlocked.MemoryBarrier();
        if (Fill.NeedsWakeup)
            _ = XskNative.recvfrom(_fd, null, 0, XskNative.MSG_DONTWAIT, null, null);
    }

    /// <summary>
    /// Sleeps until packets arrive, <paramref name="wake"/> is signalled or the time is over. It does not notice that
    /// the link goes down or the device is removed. The kernel may end a wait late, by up to the thread's timer slack
    /// (<see cref="CurrentThread.TrySetTimerSlack"/>).
    /// </summary>
    /// <param name="wake">Left signalled: <see cref="EventFd.Drain"/> it.</param>
    /// <param name="timeout">
    /// In steps of 100 ns. Zero only looks; a negative one (<see cref="Timeout.InfiniteTimeSpan"/>) waits for ever.
    /// </param>
    public WaitResult Wait(EventFd wake, TimeSpan timeout)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        XskNative.pollfd* fds = stackalloc XskNative.pollfd[2];
        fds[0] = new XskNative.pollfd { fd = _fd, events = XskNative.POLLIN };
        fds[1] = new XskNative.pollfd { fd = wake.Descriptor, events = XskNative.POLLIN };
        XskNative.timespec time = default;
        if (timeout > TimeSpan.Zero)
        {
            (long seconds, long ticks) = Math.DivRem(timeout.Ticks, TimeSpan.TicksPerSecond);
            time.tv_sec = seconds;
            time.tv_nsec = ticks * TimeSpan.NanosecondsPerTick;
        }
        int ready = XskNative.ppoll(fds, 2, timeout < TimeSpan.Zero ? null : &time, null);
        GC.KeepAlive(this);
        GC.KeepAlive(wake);
        if (ready <= 0)
            return WaitResult.None;
        WaitResult result = WaitResult.None;
        if ((fds[0].revents & XskNative.POLLIN) != 0)
            result |= WaitResult.Receive;
        if ((fds[0].revents & (XskNative.POLLERR | XskNative.POLLHUP | XskNative.POLLNVAL)) != 0)
            result |= WaitResult.Error;
        if (fds[1].revents != 0)
            result |= WaitResult.Wake;
        return result;
    }

    /// <exception cref="XdpException">The socket does not answer.</exception>
    public XskStatistics GetStatistics()
    {
        XskStatistics statistics = default;
        uint length = (uint)sizeof(XskStatistics);
        if (XskNative.getsockopt(_handle, IfXdp.SOL_XDP, IfXdp.XDP_STATISTICS, &statistics, &length) < 0)
            throw new XdpException("getsockopt(XDP_STATISTICS)", XskNative.Errno);
        return statistics;
    }

    /// <summary>
    /// Closes the socket. The kernel frees the queue some milliseconds later. From now on the rings have neither room
    /// nor entries. Packets that the kernel had not sent yet are not sent.
    /// </summary>
    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        Fill.Detach();
        Completion.Detach();
        Rx.Detach();
        Tx.Detach();
        _handle.Dispose();
    }

    /// <summary>
    /// Sends in copy mode. The return code alone says little: after success packets may be left behind an invalid one,
    /// EAGAIN may mean that the budget is used up, and EBUSY that the device dropped a packet. What counts is whether
    /// the kernel's index moves.
    /// </summary>
    private KickStatus SendAll(TxRing tx)
    {
        uint consumed = tx.KernelConsumer;
        int idlePasses = 0;
        for (; ; )
        {
            int errno = Send();
            if (errno == ErrnoNames.ENETDOWN)
                return KickStatus.LinkDown;
            if (errno == ErrnoNames.ENXIO)
                return KickStatus.DeviceGone;
            if (tx.Pending == 0)
                return KickStatus.Ok;

            uint now = tx.KernelConsumer;
            if (now != consumed)
            {
                consumed = now;
                idlePasses = 0;
                continue;
            }
            switch (errno)
            {
                case 0 or ErrnoNames.EBUSY or ErrnoNames.EINTR:
                    if (++idlePasses >= MaxIdlePasses)
                        return KickStatus.Again;
                    break;
                case ErrnoNames.EAGAIN or ErrnoNames.ENOBUFS or ErrnoNames.ENOMEM:
                    return KickStatus.Again;
                default:
                    return KickStatus.Stuck;
            }
        }
    }

    private KickStatus Ring() => Send() switch
    {
        0 => KickStatus.Ok,
        ErrnoNames.ENETDOWN => KickStatus.LinkDown,
        ErrnoNames.ENXIO => KickStatus.DeviceGone,
        _ => KickStatus.Again,
    };

    private int Send()
    {
        int errno = XskNative.sendto(_fd, null, 0, XskNative.MSG_DONTWAIT, null, 0) < 0 ? XskNative.Errno : 0;
        _lastKickErrno = errno;
        GC.KeepAlive(this);
        return errno;
    }
}

using Microsoft.Win32.SafeHandles;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets;

/// <summary>
/// An eventfd, non-blocking. Any thread may signal it, and one thread sleeps on it in <see cref="Xsk.Wait"/>.
/// </summary>
public sealed unsafe class EventFd : IDisposable
{
    /// <exception cref="XdpException">No descriptor is free (EMFILE).</exception>
    public EventFd()
    {
        int fd = XskNative.eventfd(0, XskNative.EFD_NONBLOCK | XskNative.EFD_CLOEXEC);
        if (fd < 0)
            throw new XdpException(
                "eventfd(0, EFD_NONBLOCK)", XskNative.Errno, "Raise the limit on open files (ulimit -n).");
        Handle = XskNative.Own(fd);
        Descriptor = fd;
    }

    public SafeFileHandle Handle { get; }

    internal int Descriptor { get; }

    /// <summary>
    /// Wakes the sleeping thread, or keeps it from falling asleep. Any thread may call it. After <see cref="Dispose"/>
    /// it does nothing.
    /// </summary>
    public void Signal()
    {
        ulong one = 1;
        try
        {
            // EAGAIN means that there are 2^64 - 2 signals already.
            _ = XskNative.write(Handle, &one, sizeof(ulong));
        }
        catch (ObjectDisposedException)
        {
            // The sleeper is gone.
        }
    }

    /// <summary>Takes all signals, so that the next wait sleeps.</summary>
    /// <returns>How many there were; 0 when there was none.</returns>
    public ulong Drain()
    {
        ulong count = 0;
        return XskNative.read(Handle, &count, sizeof(ulong)) == sizeof(ulong) ? count : 0;
    }

    /// <summary>Sleeps until there is a signal or the time is over. Nothing else ends it, not even packets.</summary>
    /// <param name="timeout">
    /// In steps of 100 ns. Zero only looks; a negative one (<see cref="Timeout.InfiniteTimeSpan"/>) waits for ever.
    /// </param>
    /// <returns>True when it is signalled; it stays so until <see cref="Drain"/>.</returns>
    public bool Wait(TimeSpan timeout)
    {
        XskNative.pollfd poll = new() { fd = Descriptor, events = XskNative.POLLIN };
        XskNative.timespec time = default;
        if (timeout > TimeSpan.Zero)
        {
            (long seconds, long ticks) = Math.DivRem(timeout.Ticks, TimeSpan.TicksPerSecond);
            time.tv_sec = seconds;
            time.tv_nsec = ticks * TimeSpan.NanosecondsPerTick;
        }
        int ready = XskNative.ppoll(&poll, 1, timeout < TimeSpan.Zero ? null : &time, null);
        GC.KeepAlive(this);
        return ready > 0;
    }

    public void Dispose() => Handle.Dispose();
}

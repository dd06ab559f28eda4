using Microsoft.Win32.SafeHandles;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets;

/// <summary>An eventfd: any thread signals it, one thread sleeps on it in <see cref="Xsk.Wait"/>. Non-blocking.</summary>
public sealed unsafe class EventFd : IDisposable
{
    /// <exception cref="XdpException">No descriptor is free (EMFILE).</exception>
    public EventFd()
    {
        int fd = XskNative.eventfd(0, XskNative.EFD_NONBLOCK | XskNative.EFD_CLOEXEC);
        if (fd < 0)
            throw new XdpException("eventfd(0, EFD_NONBLOCK)", XskNative.Errno, "Raise the limit on open files (ulimit -n).");
        Handle = XskNative.Own(fd);
        Descriptor = fd;
    }

    public SafeFileHandle Handle { get; }

    internal int Descriptor { get; }

    /// <summary>Wakes the sleeper, or keeps it from falling asleep. From any thread; after <see cref="Dispose"/> it does nothing.</summary>
    public void Signal()
    {
        ulong one = 1;
        try
        {
            // EAGAIN means that it is signalled 2^64 - 2 times over.
            _ = XskNative.write(Handle, &one, sizeof(ulong));
        }
        catch (ObjectDisposedException)
        {
            // The sleeper is gone.
        }
    }

    /// <summary>Takes all signals back.</summary>
    /// <returns>How many there were; 0 when there was none.</returns>
    public ulong Drain()
    {
        ulong count = 0;
        return XskNative.read(Handle, &count, sizeof(ulong)) == sizeof(ulong) ? count : 0;
    }

    public void Dispose() => Handle.Dispose();
}

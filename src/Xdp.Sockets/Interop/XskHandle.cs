using Microsoft.Win32.SafeHandles;

namespace Xdp.Sockets.Interop;

/// <summary>
/// Owns an AF_XDP socket, its ring mappings and, for as long as the kernel may touch it, the memory of the UMEM.
/// The mappings go first: each of them holds the socket open. The memory goes last: the kernel takes a zero-copy pool out of
/// the driver in deferred work after close(), until then the NIC may still write into it, and a garbage collector that had
/// handed the memory out again would see its heap overwritten.
/// </summary>
internal sealed class XskHandle : SafeHandleMinusOneIsInvalid
{
    // The deferred work waits for RTNL, milliseconds as a rule; seconds when a driver resets its queues.
    private static readonly TimeSpan CopyGrace = TimeSpan.FromSeconds(1), ZeroCopyGrace = TimeSpan.FromSeconds(10);

    private readonly object _memory;
    private readonly MappingHandle?[] _rings = new MappingHandle?[4];
    private int _ringCount;

    internal XskHandle(int fd, object memory)
        : base(ownsHandle: true)
    {
        _memory = memory;
        SetHandle(fd);
    }

    internal bool ZeroCopy { get; set; }

    internal int Descriptor => (int)handle;

    internal void Adopt(MappingHandle ring) => _rings[_ringCount++] = ring;

    protected override bool ReleaseHandle()
    {
        foreach (MappingHandle? ring in _rings)
            ring?.Dispose();
        bool closed = XskNative.close((int)handle) == 0;
        Task.Delay(ZeroCopy ? ZeroCopyGrace : CopyGrace)
            .ContinueWith(static (_, memory) => GC.KeepAlive(memory), _memory, TaskScheduler.Default);
        return closed;
    }
}

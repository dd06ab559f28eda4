using Microsoft.Win32.SafeHandles;

namespace Xdp.Sockets.Interop;

/// <summary>
/// Owns an AF_XDP socket and its ring mappings. Owns the memory of the UMEM too, for as long as the kernel may touch
/// it. The mappings go first, because each of them holds the socket open. The memory goes last. The kernel takes a
/// zero-copy pool out of the driver in deferred work after close(), and the NIC may still write into the memory until
/// then. Were the memory handed out again earlier, the NIC would overwrite the managed heap.
/// </summary>
internal sealed class XskHandle : SafeHandleMinusOneIsInvalid
{
    // The deferred work waits for the RTNL lock. That takes milliseconds as a rule, and seconds when a driver resets
    // its queues.
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

using Microsoft.Win32.SafeHandles;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets.Bpf;

/// <summary>
/// The descriptor of a map, program or link. The kernel drops the object when its last descriptor is closed.
/// </summary>
public sealed class BpfHandle : SafeHandleMinusOneIsInvalid
{
    internal BpfHandle(int fd)
        : base(ownsHandle: true) => SetHandle(fd);

    /// <summary>The number to put into a system call; valid as long as the caller keeps the handle open.</summary>
    internal uint Fd
    {
        get
        {
            ObjectDisposedException.ThrowIf(IsClosed, this);
            return (uint)handle;
        }
    }

    protected override bool ReleaseHandle() => BpfNative.Close((int)handle) == 0;
}

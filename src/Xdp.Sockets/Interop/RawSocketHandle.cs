using Microsoft.Win32.SafeHandles;

namespace Xdp.Sockets.Interop;

/// <summary>A raw socket that does not block; invalid when the kernel has refused it.</summary>
internal sealed class RawSocketHandle : SafeHandleMinusOneIsInvalid
{
    internal RawSocketHandle(int family, int protocol)
        : base(ownsHandle: true) => SetHandle(NetlinkNative.Socket(
            family, NetlinkNative.SOCK_RAW | NetlinkNative.SOCK_CLOEXEC | NetlinkNative.SOCK_NONBLOCK, protocol));

    protected override bool ReleaseHandle() => NetlinkNative.Close((int)handle) == 0;
}

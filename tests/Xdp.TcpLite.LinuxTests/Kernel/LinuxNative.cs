using System.ComponentModel;
using System.Runtime.InteropServices;

namespace Xdp.TcpLite.LinuxTests.Kernel;

/// <summary>libc as the player of a kernel uses it. Names are the kernel's.</summary>
internal static class LinuxNative
{
    internal const int CLONE_NEWNET = 0x40000000;
    internal const int O_RDWR = 2, O_NONBLOCK = 0x800, O_CLOEXEC = 0x80000;
    internal const int AF_INET = 2, AF_INET6 = 10;
    internal const int SOCK_STREAM = 1, SOCK_DGRAM = 2, SOCK_NONBLOCK = 0x800, SOCK_CLOEXEC = 0x80000;
    internal const int SOL_SOCKET = 1, SO_REUSEADDR = 2, SO_ERROR = 4, SO_RCVBUF = 8, SO_KEEPALIVE = 9, SO_LINGER = 13;
    internal const int IPPROTO_TCP = 6, TCP_NODELAY = 1, TCP_CORK = 3, TCP_KEEPIDLE = 4, TCP_KEEPINTVL = 5,
        TCP_KEEPCNT = 6, TCP_INFO = 11, TCP_QUICKACK = 12, TCP_CONGESTION = 13, TCP_USER_TIMEOUT = 18;
    internal const int MSG_DONTWAIT = 0x40, MSG_NOSIGNAL = 0x4000;
    internal const int SHUT_WR = 1;
    internal const int EAGAIN = 11, EINPROGRESS = 115;
    internal const short POLLIN = 1;
    internal const uint TUNSETIFF = 0x400454ca, SIOCSIFFLAGS = 0x8914, SIOCSIFADDR = 0x8916, SIOCSIFNETMASK = 0x891c,
        SIOCSIFMTU = 0x8922, SIOCGIFINDEX = 0x8933, SIOCOUTQ = 0x5411, FIONREAD = 0x541b;
    internal const int IFA_F_TENTATIVE = 0x40;
    internal const short IFF_UP = 1, IFF_TUN = 1, IFF_NO_PI = 0x1000;

    [DllImport("libc", SetLastError = true)]
    internal static extern int unshare(int flags);

    [DllImport("libc", SetLastError = true)]
    internal static extern int open([MarshalAs(UnmanagedType.LPUTF8Str)] string path, int flags);

    [DllImport("libc", SetLastError = true)]
    internal static extern int close(int fd);

    [DllImport("libc", SetLastError = true)]
    internal static extern int ioctl(int fd, nuint request, byte[] argument);

    [DllImport("libc", SetLastError = true)]
    internal static extern nint read(int fd, byte[] buffer, nint length);

    [DllImport("libc", SetLastError = true)]
    internal static extern nint write(int fd, byte[] buffer, nint length);

    [DllImport("libc", SetLastError = true)]
    internal static extern int ppoll(byte[] fds, nuint count, long[] timeout, nint mask);

    [DllImport("libc", SetLastError = true)]
    internal static extern int socket(int domain, int type, int protocol);

    [DllImport("libc", SetLastError = true)]
    internal static extern int bind(int fd, byte[] address, int length);

    [DllImport("libc", SetLastError = true)]
    internal static extern int listen(int fd, int backlog);

    [DllImport("libc", SetLastError = true)]
    internal static extern int accept4(int fd, byte[] address, ref int length, int flags);

    [DllImport("libc", SetLastError = true)]
    internal static extern int connect(int fd, byte[] address, int length);

    [DllImport("libc", SetLastError = true)]
    internal static extern nint send(int fd, byte[] buffer, nint length, int flags);

    [DllImport("libc", SetLastError = true)]
    internal static extern nint recv(int fd, byte[] buffer, nint length, int flags);

    [DllImport("libc", SetLastError = true)]
    internal static extern int shutdown(int fd, int how);

    [DllImport("libc", SetLastError = true)]
    internal static extern int setsockopt(int fd, int level, int name, byte[] value, int length);

    [DllImport("libc", SetLastError = true)]
    internal static extern int getsockopt(int fd, int level, int name, byte[] value, ref int length);

    internal static int Check(nint result, string call)
    {
        if (result >= 0)
            return (int)result;
        int error = Marshal.GetLastPInvokeError();
        throw new Win32Exception(error, $"{call}: {Marshal.GetPInvokeErrorMessage(error)}");
    }

    internal static int IntOf(int fd, nuint request, string call)
    {
        byte[] value = new byte[4];
        Check(ioctl(fd, request, value), call);
        return BitConverter.ToInt32(value);
    }
}

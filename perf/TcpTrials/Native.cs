using System.Runtime.InteropServices;

namespace TcpTrials;

/// <summary>The system calls that .NET has no API for. All return -1 and set errno on failure.</summary>
internal static class Native
{
    internal const int O_RDWR = 2;
    internal const nuint TUNSETIFF = 0x400454ca;
    internal const short IFF_TUN = 1;
    internal const short IFF_NO_PI = 0x1000;
    internal const int AF_PACKET = 17;
    internal const int SOCK_RAW = 3;

    [DllImport("libc", SetLastError = true, CharSet = CharSet.Ansi)]
    internal static extern int open(string path, int flags);

    [DllImport("libc", SetLastError = true)]
    internal static extern int ioctl(int fd, nuint request, byte[] argument);

    [DllImport("libc", SetLastError = true)]
    internal static extern nint read(int fd, ref byte buffer, nint count);

    [DllImport("libc", SetLastError = true)]
    internal static extern nint write(int fd, ref byte buffer, nint count);

    [DllImport("libc", SetLastError = true)]
    internal static extern int socket(int domain, int type, int protocol);

    [DllImport("libc", SetLastError = true)]
    internal static extern int bind(int fd, byte[] address, int length);

    /// <summary><paramref name="messages"/> points to <c>struct mmsghdr</c>s.</summary>
    [DllImport("libc", SetLastError = true)]
    internal static extern int sendmmsg(int fd, nint messages, uint count, int flags);

    [DllImport("libc", SetLastError = true)]
    internal static extern int prctl(int option, nuint argument, nuint unused2, nuint unused3, nuint unused4);

    /// <summary>Has the calling thread wake within 1 µs of the time it sleeps for. The default is 50 µs.</summary>
    internal static void PreciseSleep() => _ = prctl(29 /* PR_SET_TIMERSLACK */, 1000, 0, 0, 0);

    [DllImport("libc", SetLastError = true)]
    internal static extern int nanosleep(ref TimeSpec time, nint remaining);

    [StructLayout(LayoutKind.Sequential)]
    internal struct TimeSpec
    {
        public long Seconds;
        public long Nanoseconds;
    }
}

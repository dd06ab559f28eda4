using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

// Structures are spelled as in the C headers.
#pragma warning disable CS8981

namespace Xdp.Sockets.Interop;

/// <summary>
/// The libc calls for sockets, memory and waiting. Calls on the data path take descriptors as <c>int</c>, because their
/// owner is alive while they run. Structures and constants are the same on x64 and arm64, with glibc and with musl.
/// </summary>
internal static unsafe partial class XskNative
{
    internal const int SOCK_RAW = 3, SOCK_CLOEXEC = 0x80000;
    internal const int SOL_SOCKET = 1, SO_SNDBUF = 7, SO_SNDBUFFORCE = 32;
    internal const int MSG_DONTWAIT = 0x40;
    internal const int PROT_READ = 1, PROT_WRITE = 2;
    internal const int MAP_SHARED = 1, MAP_POPULATE = 0x8000;
    internal const uint MFD_CLOEXEC = 1, MFD_HUGETLB = 4;
    internal const int EFD_NONBLOCK = 0x800, EFD_CLOEXEC = 0x80000;
    internal const short POLLIN = 1, POLLERR = 8, POLLHUP = 0x10, POLLNVAL = 0x20;
    internal const int O_RDONLY = 0, O_CLOEXEC = 0x80000;
    internal const int CLONE_NEWNET = 0x4000_0000;
    internal const int PR_SET_TIMERSLACK = 29;

    [StructLayout(LayoutKind.Sequential)]
    internal struct pollfd
    {
        internal int fd;
        internal short events;
        internal short revents;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct timespec
    {
        internal long tv_sec;
        internal long tv_nsec;
    }

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int socket(int domain, int type, int protocol);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int bind(SafeHandle fd, IfXdp.sockaddr_xdp* address, uint length);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int setsockopt(SafeHandle fd, int level, int name, void* value, uint length);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int getsockopt(SafeHandle fd, int level, int name, void* value, uint* length);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint sendto(
        int fd, void* buffer, nuint length, int flags, void* address, uint addressLength);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint recvfrom(
        int fd, void* buffer, nuint length, int flags, void* address, uint* addressLength);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int ppoll(pollfd* fds, nuint count, timespec* timeout, void* signalMask);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial void* mmap(
        void* address, nuint length, int protection, int flags, SafeHandle fd, long offset);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int munmap(void* address, nuint length);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int close(int fd);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int memfd_create(string name, uint flags);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int ftruncate(SafeHandle fd, long length);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int eventfd(uint initial, int flags);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint read(SafeHandle fd, void* buffer, nuint length);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint write(SafeHandle fd, void* buffer, nuint length);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int open(string path, int flags);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int setns(SafeHandle fd, int kind);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int sched_setaffinity(int thread, nuint length, void* mask);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int prctl(int option, nuint a, nuint b, nuint c, nuint d);

    internal static int Errno => Marshal.GetLastPInvokeError();

    internal static SafeFileHandle Own(int fd) => new(fd, ownsHandle: true);
}

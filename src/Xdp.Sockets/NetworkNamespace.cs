using System.Globalization;
using Microsoft.Win32.SafeHandles;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets;

/// <summary>
/// Network namespaces. A thread is in one namespace at a time, and a socket stays in the one in which it was created.
/// An interface index means something only together with its namespace.
/// </summary>
public static class NetworkNamespace
{
    private const string OfThread = "/proc/thread-self/ns/net";

    /// <summary>
    /// The number of the initial namespace from kernel 6.18 on: PROC_NET_INIT_INO of include/linux/proc_ns.h.
    /// </summary>
    private const ulong InitialInode = 0xEFFFFFF9;

    /// <summary>
    /// The first number that a kernel gives to namespaces without a fixed one. On older kernels the initial network
    /// namespace has one of these.
    /// </summary>
    private const ulong FirstDynamicInode = 0xF0000000;

    /// <summary>
    /// The number (inode) of the calling thread's namespace. Threads in the same namespace have the same number. 0
    /// where /proc does not tell.
    /// </summary>
    public static ulong CurrentId => IdOf(OfThread);

    /// <summary>The number of the namespace that the process's first thread is in.</summary>
    public static ulong ProcessId => IdOf("/proc/self/ns/net");

    /// <summary>
    /// Whether the calling thread is in the host's own namespace, rather than in a container's. That is the namespace
    /// of process 1, where process 1 is the host's. True also where it cannot be found out, because callers then take
    /// the cautious defaults.
    /// </summary>
    public static bool IsInitial => CurrentId switch
    {
        0 => true,
        InitialInode => true,
        // The first namespaces get these numbers in an order that depends on the kernel's configuration.
        ulong id when id >= FirstDynamicInode && id < FirstDynamicInode + 256 =>
            IdOf("/proc/1/ns/net") is ulong first && (first == 0 || first == id),
        _ => false,
    };

    /// <summary>
    /// Moves the calling thread into a namespace, until the result is disposed on the same thread. Use it on a thread
    /// of your own: there must be no <c>await</c> in between, and no thread of the pool. Wants CAP_SYS_ADMIN.
    /// </summary>
    /// <param name="path">Such as <c>/run/netns/blue</c> or <c>/proc/123/ns/net</c>.</param>
    /// <exception cref="XdpException">The namespace does not exist or may not be entered.</exception>
    public static Scope Enter(string path)
    {
        SafeFileHandle previous = Open(OfThread);
        try
        {
            using SafeFileHandle target = Open(path);
            Set(target, path);
            return new Scope(previous);
        }
        catch
        {
            previous.Dispose();
            throw;
        }
    }

    /// <summary>The namespace's number; 0 where /proc does not tell.</summary>
    private static ulong IdOf(string path)
    {
        try
        {
            // The link reads "net:[4026531840]".
            string? link = new FileInfo(path).LinkTarget;
            int open = link?.IndexOf('[', StringComparison.Ordinal) ?? -1;
            if (open < 0)
                return 0;
            return ulong.TryParse(link.AsSpan(open + 1).TrimEnd(']'), NumberStyles.None, null, out ulong id) ? id : 0;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return 0;
        }
    }

    private static SafeFileHandle Open(string path)
    {
        int fd = XskNative.open(path, XskNative.O_RDONLY | XskNative.O_CLOEXEC);
        return fd >= 0 ? XskNative.Own(fd) : throw new XdpException($"open({path})", XskNative.Errno);
    }

    private static void Set(SafeFileHandle target, string path)
    {
        if (XskNative.setns(target, XskNative.CLONE_NEWNET) == 0)
            return;
        int errno = XskNative.Errno;
        throw new XdpException($"setns({path}, CLONE_NEWNET)", errno, errno switch
        {
            ErrnoNames.EPERM => "Entering a namespace wants CAP_SYS_ADMIN, here and in the namespace's owner.",
            ErrnoNames.EINVAL => "The file is not a network namespace.",
            _ => null,
        });
    }

    /// <summary>Brings the thread back.</summary>
    public sealed class Scope : IDisposable
    {
        private readonly int _thread = Environment.CurrentManagedThreadId;
        private SafeFileHandle? _previous;

        internal Scope(SafeFileHandle previous) => _previous = previous;

        /// <exception cref="InvalidOperationException">Another thread than the one that entered.</exception>
        public void Dispose()
        {
            if (Environment.CurrentManagedThreadId != _thread)
                throw new InvalidOperationException("A network namespace is left on the thread that entered it.");
            if (_previous is not { } previous)
                return;
            _previous = null;
            using (previous)
                Set(previous, "previous namespace");
        }
    }
}

using System.Globalization;
using Microsoft.Win32.SafeHandles;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets;

/// <summary>
/// Network namespaces. A thread is in one; a socket stays in the one it was created in. An interface index means something
/// only together with its namespace.
/// </summary>
public static class NetworkNamespace
{
    private const string OfThread = "/proc/thread-self/ns/net";

    /// <summary>PROC_NET_INIT_INO of include/linux/proc_ns.h, on kernels that number the initial namespace so (6.18 on).</summary>
    private const ulong InitialInode = 0xEFFFFFF9;

    /// <summary>The first number a kernel hands out to namespaces that have no fixed one: the initial network namespace's before that.</summary>
    private const ulong FirstDynamicInode = 0xF0000000;

    /// <summary>Number (inode) of the calling thread's namespace, equal for threads in the same one; 0 where /proc does not tell.</summary>
    public static ulong CurrentId => IdOf(OfThread);

    /// <summary>Number of the namespace the process's first thread is in.</summary>
    public static ulong ProcessId => IdOf("/proc/self/ns/net");

    /// <summary>
    /// Whether the calling thread is in the host's own namespace rather than a container's: the one of process 1, and process 1 is the
    /// host's. Where it cannot be known, true: the caller's defaults are then the cautious ones.
    /// </summary>
    public static bool IsInitial => CurrentId switch
    {
        0 => true,
        InitialInode => true,
        // Early namespaces take the first numbers in an order that depends on the kernel's configuration.
        ulong id when id >= FirstDynamicInode && id < FirstDynamicInode + 256 => IdOf("/proc/1/ns/net") is ulong first && (first == 0 || first == id),
        _ => false,
    };

    /// <summary>
    /// Moves the calling thread until the result is disposed, on the same thread. Wants CAP_SYS_ADMIN. For a thread of one's
    /// own: no <c>await</c> in between, and no thread of the pool.
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
            return open >= 0 && ulong.TryParse(link.AsSpan(open + 1).TrimEnd(']'), NumberStyles.None, null, out ulong id) ? id : 0;
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

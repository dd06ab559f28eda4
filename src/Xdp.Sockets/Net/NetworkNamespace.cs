using System.Globalization;

namespace Xdp.Sockets.Net;

/// <summary>Facts about the network namespace of the calling thread.</summary>
public static class NetworkNamespace
{
    /// <summary>PROC_NET_INIT_INO of include/linux/proc_ns.h, on kernels that number the initial namespace so (6.18 on).</summary>
    private const ulong InitialInode = 0xEFFFFFF9;

    /// <summary>The first inode number a kernel hands out to namespaces that have no fixed one: the initial network namespace's before that.</summary>
    private const ulong FirstDynamicInode = 0xF0000000;

    /// <summary>The namespace's inode number, unique on this host as long as it lives; 0 where /proc does not tell.</summary>
    public static ulong CurrentId => Id("/proc/thread-self/ns/net");

    /// <summary>
    /// Whether this is the host's own namespace rather than a container's: the one of process 1, and process 1 is the host's. Where
    /// it cannot be known, true: the caller's defaults are then the cautious ones.
    /// </summary>
    public static bool IsInitial => CurrentId switch
    {
        0 => true,
        InitialInode => true,
        // Early namespaces take the first numbers in an order that depends on the kernel's configuration.
        ulong id when id >= FirstDynamicInode && id < FirstDynamicInode + 256 => Id("/proc/1/ns/net") is ulong first && (first == 0 || first == id),
        _ => false,
    };

    /// <summary>The link reads "net:[4026531840]".</summary>
    private static ulong Id(string path)
    {
        try
        {
            string? target = new FileInfo(path).LinkTarget;
            int open = target?.IndexOf('[', StringComparison.Ordinal) ?? -1;
            return open >= 0 && ulong.TryParse(target.AsSpan(open + 1).TrimEnd(']'), NumberStyles.None, null, out ulong id) ? id : 0;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return 0;
        }
    }
}

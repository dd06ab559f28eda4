using Xdp.Sockets.Bpf;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets;

/// <summary>
/// What AF_XDP and BPF ask of a process, and whether the calling thread has it. Found out at each call, by /proc and by
/// trying; nothing is left behind.
/// </summary>
public static class XdpPrivileges
{
    /// <summary>
    /// How many bytes of frames the kernel lets this user pin, over all its processes; null when it does not count
    /// them.
    /// </summary>
    public static long? MemoryLockLimit => ProcessFacts.Read().MemoryLockLimit;

    /// <summary>
    /// All that is missing to load and attach a program and to open a socket, one sentence each without its full stop.
    /// Empty when nothing is known to be.
    /// </summary>
    public static IReadOnlyList<string> FindMissing()
    {
        if (!OperatingSystem.IsLinux())
            return ["AF_XDP is a part of Linux"];
        return ProcessFacts.Read().Missing(TrySocket(), TryMap());
    }

    // 0 or the errno.
    private static int TrySocket()
    {
        int fd = XskNative.socket(IfXdp.AF_XDP, XskNative.SOCK_RAW | XskNative.SOCK_CLOEXEC, 0);
        if (fd < 0)
            return XskNative.Errno;
        _ = XskNative.close(fd);
        return 0;
    }

    // 0 or the errno.
    private static int TryMap()
    {
        try
        {
            BpfMap.Create(new BpfMapDefinition("probe", BpfMapType.XskMap, 4, 4, 1, 0)).Dispose();
            return 0;
        }
        catch (XdpException e)
        {
            return e.Errno;
        }
    }
}

using System.Runtime.InteropServices;

namespace Xdp.Sockets.Tests.Support;

/// <summary>libc as the tests use it: packet sockets, bpf(2), limits and capabilities.</summary>
internal static class TestNative
{
    internal const int AF_PACKET = 17, SOCK_RAW = 3, SOCK_CLOEXEC = 0x80000, SOL_SOCKET = 1, SO_SNDBUF = 7,
        SO_RCVTIMEO = 20, SO_RCVBUFFORCE = 33;
    internal const int RLIMIT_MEMLOCK = 8;
    internal const int CAP_NET_ADMIN = 12, CAP_NET_RAW = 13, CAP_IPC_LOCK = 14, CAP_BPF = 39;

    [DllImport("libc", SetLastError = true)]
    internal static extern int socket(int domain, int type, int protocol);

    [DllImport("libc", SetLastError = true)]
    internal static extern int bind(int fd, byte[] address, int length);

    [DllImport("libc", SetLastError = true)]
    internal static extern int setsockopt(int fd, int level, int name, byte[] value, int length);

    [DllImport("libc", SetLastError = true)]
    internal static extern int getsockopt(int fd, int level, int name, byte[] value, ref int length);

    [DllImport("libc", SetLastError = true)]
    internal static extern nint recv(int fd, byte[] buffer, nint length, int flags);

    [DllImport("libc", SetLastError = true)]
    internal static extern nint send(int fd, byte[] buffer, nint length, int flags);

    [DllImport("libc", SetLastError = true)]
    internal static extern int close(int fd);

    [DllImport("libc", SetLastError = true)]
    internal static extern uint if_nametoindex([MarshalAs(UnmanagedType.LPUTF8Str)] string name);

    [DllImport("libc", SetLastError = true)]
    internal static extern nint syscall(nint number, nint a, nint b, nint c);

    [DllImport("libc", SetLastError = true)]
    internal static extern int getrlimit(int resource, ulong[] limit);

    [DllImport("libc", SetLastError = true)]
    internal static extern int setrlimit(int resource, ulong[] limit);

    [DllImport("libc", SetLastError = true)]
    internal static extern int capget(uint[] header, uint[] data);

    [DllImport("libc", SetLastError = true)]
    internal static extern int capset(uint[] header, uint[] data);

    internal static T Check<T>(T result, string call)
        where T : System.Numerics.INumber<T> =>
        T.IsNegative(result) ? throw new XdpException(call, Marshal.GetLastPInvokeError()) : result;

    /// <summary>Takes one capability off the calling thread's effective set, for the thread's life.</summary>
    internal static void DropCapability(int capability) =>
        ChangeCapabilities(effective => effective & ~(1ul << capability));

    /// <summary>Takes all others off the calling thread's effective set, for the thread's life.</summary>
    internal static void KeepCapabilities(params int[] capabilities) =>
        ChangeCapabilities(_ => capabilities.Aggregate(0ul, (set, capability) => set | 1ul << capability));

    // struct __user_cap_data_struct, twice: effective, permitted, inheritable, 32 capabilities each.
    private static void ChangeCapabilities(Func<ulong, ulong> change)
    {
        uint[] header = [0x20080522, 0]; // _LINUX_CAPABILITY_VERSION_3
        uint[] data = new uint[6];
        Check(capget(header, data), "capget");
        ulong effective = change(data[0] | (ulong)data[3] << 32);
        (data[0], data[3]) = ((uint)effective, (uint)(effective >> 32));
        Check(capset(header, data), "capset");
    }
}

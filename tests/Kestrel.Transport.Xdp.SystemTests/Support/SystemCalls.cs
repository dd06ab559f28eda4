using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Shared;

namespace Kestrel.Transport.Xdp.SystemTests.Support;

internal static partial class SystemCalls
{
    internal const int SIGKILL = 9;
    internal const int SIGTERM = 15;
    internal const int SIGCONT = 18;
    internal const int SIGSTOP = 19;

    internal const int EPERM = 1, EAFNOSUPPORT = 97;

    private const int PR_SET_SECCOMP = 22;
    private const int PR_SET_NO_NEW_PRIVS = 38;
    private const nint SECCOMP_MODE_FILTER = 2;

    internal static void Kill(int process, int signal)
    {
        if (NativeKill(process, signal) != 0)
            throw new InvalidOperationException($"kill({process}, {signal}): errno {Marshal.GetLastPInvokeError()}");
    }

    /// <summary>
    /// Runs on a thread for which <c>socket(AF_XDP, …)</c> fails with <paramref name="errno"/>, by a seccomp filter.
    /// Processes started there inherit it. RestrictAddressFamilies= of systemd answers EAFNOSUPPORT, the profiles of
    /// containers EPERM.
    /// </summary>
    internal static T WithoutAfXdp<T>(int errno, Func<T> action) => OwnThread.Run(() =>
    {
        InstallFilter(errno);
        return action();
    });

    /// <summary>
    /// Puts an AF_XDP socket that is not bound into a program's map of sockets. What is redirected there vanishes,
    /// until the result is disposed.
    /// </summary>
    /// <param name="map">The map's number.</param>
    /// <param name="queues">Of the device: numbered from 0.</param>
    internal static IDisposable MakeRedirectsVanish(uint map, int queues)
    {
        const int AF_XDP = 44, SOCK_RAW = 3;
        var socket = new SafeFileHandle(Checked("socket", NativeSocket(AF_XDP, SOCK_RAW, 0)), ownsHandle: true);
        using var handle = new SafeFileHandle(
            Checked("bpf", Bpf(BPF_MAP_GET_FD_BY_ID, new BpfGetFd(map), Marshal.SizeOf<BpfGetFd>())), ownsHandle: true);
        GCHandle pinned = GCHandle.Alloc(new uint[2], GCHandleType.Pinned);
        try
        {
            uint[] entry = (uint[])pinned.Target!;
            entry[1] = (uint)socket.DangerousGetHandle();
            for (; entry[0] < queues; entry[0]++)
            {
                nint key = pinned.AddrOfPinnedObject();
                var element = new BpfElement(
                    (uint)handle.DangerousGetHandle(), (ulong)key, (ulong)key + sizeof(uint));
                Checked("bpf", Bpf(BPF_MAP_UPDATE_ELEM, element, Marshal.SizeOf<BpfElement>()));
            }
        }
        finally
        {
            pinned.Free();
        }
        return socket;
    }

    private const nint BPF_MAP_UPDATE_ELEM = 2, BPF_MAP_GET_FD_BY_ID = 14;

    private static nint BpfNumber => RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? 280 : 321;

    private static nint Bpf(nint command, in BpfGetFd attributes, nint size) =>
        BpfById(BpfNumber, command, attributes, size);

    private static nint Bpf(nint command, in BpfElement attributes, nint size) =>
        BpfOnElement(BpfNumber, command, attributes, size);

    private static nint Checked(string call, nint result) => result >= 0
        ? result
        : throw new InvalidOperationException($"{call}: errno {Marshal.GetLastPInvokeError()}");

    // The parts of union bpf_attr that the two commands read.
    [StructLayout(LayoutKind.Sequential)]
    private readonly struct BpfGetFd(uint id, uint nextId = 0, uint openFlags = 0)
    {
        private readonly uint _id = id, _nextId = nextId, _openFlags = openFlags;
    }

    [StructLayout(LayoutKind.Sequential)]
    private readonly struct BpfElement(uint map, ulong key, ulong value, ulong flags = 0)
    {
        private readonly ulong _map = map; // 32 bits, and as many of padding
        private readonly ulong _key = key, _value = value, _flags = flags;
    }

    private static void InstallFilter(int errno)
    {
        const int AF_XDP = 44, ArgumentsAt = 16;
        const uint SECCOMP_RET_ALLOW = 0x7fff0000, SECCOMP_RET_ERRNO = 0x00050000;
        uint socket = RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? 198u : 41u;
        SockFilter[] filter =
        [
            SockFilter.Load(0),
            SockFilter.IfEqual(socket, 0, 3),
            SockFilter.Load(ArgumentsAt),
            SockFilter.IfEqual(AF_XDP, 0, 1),
            SockFilter.Return(SECCOMP_RET_ERRNO | (uint)errno),
            SockFilter.Return(SECCOMP_RET_ALLOW),
        ];
        InstallFilter(filter, static program =>
            Prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0) == 0
                ? 0
                : throw new InvalidOperationException($"prctl: errno {Marshal.GetLastPInvokeError()}"));
    }

    /// <summary>Has the call made that gives the thread a filter, with a pointer to struct sock_fprog.</summary>
    internal static T InstallFilter<T>(SockFilter[] filter, Func<nint, T> install)
    {
        GCHandle pinned = GCHandle.Alloc(filter, GCHandleType.Pinned);
        GCHandle program = GCHandle.Alloc(
            new SockFprog((ushort)filter.Length, pinned.AddrOfPinnedObject()), GCHandleType.Pinned);
        try
        {
            if (Prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
                throw new InvalidOperationException($"prctl: errno {Marshal.GetLastPInvokeError()}");
            return install(program.AddrOfPinnedObject());
        }
        finally
        {
            program.Free();
            pinned.Free();
        }
    }

    /// <summary>struct sock_filter, over struct seccomp_data { int nr; u32 arch; u64 ip; u64 args[6]; }.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal readonly struct SockFilter
    {
        private readonly ushort _code;
        private readonly byte _ifTrue, _ifFalse;
        private readonly uint _k;

        private SockFilter(ushort code, uint k, byte ifTrue = 0, byte ifFalse = 0) =>
            (_code, _ifTrue, _ifFalse, _k) = (code, ifTrue, ifFalse, k);

        /// <summary>Loads four bytes at an offset of the data.</summary>
        internal static SockFilter Load(int offset) => new(0x20, (uint)offset);

        /// <summary>Skips so many instructions.</summary>
        internal static SockFilter IfEqual(uint value, byte skipIfSo, byte skipIfNot) =>
            new(0x15, value, skipIfSo, skipIfNot);

        internal static SockFilter Return(uint action) => new(0x06, action);
    }

    [StructLayout(LayoutKind.Sequential)]
    private readonly struct SockFprog(ushort length, nint filter)
    {
        private readonly ushort _length = length;
        private readonly nint _filter = filter;
    }

    [LibraryImport("libc", EntryPoint = "socket", SetLastError = true)]
    private static partial int NativeSocket(int family, int type, int protocol);

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial nint BpfById(nint number, nint command, in BpfGetFd attributes, nint size);

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial nint BpfOnElement(nint number, nint command, in BpfElement attributes, nint size);

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static partial int NativeKill(int process, int signal);

    [LibraryImport("libc", EntryPoint = "prctl", SetLastError = true)]
    private static partial int Prctl(int option, nint argument2, nint argument3, nint argument4, nint argument5);
}

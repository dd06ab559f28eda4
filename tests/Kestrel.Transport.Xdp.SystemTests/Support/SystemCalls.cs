using System.Runtime.InteropServices;
using Shared;

namespace Kestrel.Transport.Xdp.SystemTests.Support;

internal static partial class SystemCalls
{
    internal const int SIGKILL = 9;
    internal const int SIGTERM = 15;

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

    // struct sock_filter over struct seccomp_data { int nr; u32 arch; u64 ip; u64 args[6]; }.
    private static void InstallFilter(int errno)
    {
        const int AF_XDP = 44, ArgumentsAt = 16;
        const uint SECCOMP_RET_ALLOW = 0x7fff0000, SECCOMP_RET_ERRNO = 0x00050000;
        const ushort LoadWord = 0x20, JumpEqual = 0x15, Return = 0x06;
        uint socket = RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? 198u : 41u;
        SockFilter[] filter =
        [
            new(LoadWord, 0, 0, 0),
            new(JumpEqual, 0, 3, socket),
            new(LoadWord, 0, 0, ArgumentsAt),
            new(JumpEqual, 0, 1, AF_XDP),
            new(Return, 0, 0, SECCOMP_RET_ERRNO | (uint)errno),
            new(Return, 0, 0, SECCOMP_RET_ALLOW),
        ];
        GCHandle pinned = GCHandle.Alloc(filter, GCHandleType.Pinned);
        try
        {
            var program = new SockFprog((ushort)filter.Length, pinned.AddrOfPinnedObject());
            if (Prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                || PrctlFilter(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0) != 0)
                throw new InvalidOperationException($"prctl: errno {Marshal.GetLastPInvokeError()}");
        }
        finally
        {
            pinned.Free();
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    private readonly struct SockFilter(ushort code, byte ifTrue, byte ifFalse, uint k)
    {
        private readonly ushort _code = code;
        private readonly byte _ifTrue = ifTrue, _ifFalse = ifFalse;
        private readonly uint _k = k;
    }

    [StructLayout(LayoutKind.Sequential)]
    private readonly struct SockFprog(ushort length, nint filter)
    {
        private readonly ushort _length = length;
        private readonly nint _filter = filter;
    }

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static partial int NativeKill(int process, int signal);

    [LibraryImport("libc", EntryPoint = "prctl", SetLastError = true)]
    private static partial int Prctl(int option, nint argument2, nint argument3, nint argument4, nint argument5);

    [LibraryImport("libc", EntryPoint = "prctl", SetLastError = true)]
    private static partial int PrctlFilter(
        int option, nint argument2, in SockFprog argument3, nint argument4, nint argument5);
}

using System.Runtime.InteropServices;
using Shared;
using static Kestrel.Transport.Xdp.SystemTests.Support.SystemCalls;

namespace Kestrel.Transport.Xdp.SystemTests.Support;

/// <summary>
/// The system calls of the transport in a process that is started through this. Those that a test names fail. A seccomp
/// filter of the process hands them to a thread here, which says what the kernel does with them
/// (SECCOMP_RET_USER_NOTIF). No other call of the process is touched.
/// </summary>
internal sealed unsafe partial class SystemCallFaults
{
    // The transport runs in a process of this name. What starts it makes calls as well.
    private const string Program = "/dotnet";

    private readonly Lock _lock = new();
    private string? _failing, _then;
    private int _errno, _next, _hits;
    private bool _once;

    /// <summary>
    /// The calls, and what each is made to fail with. Names of an option or a command stand for it alone: with
    /// <c>XDP_RX_RING</c> it is that setsockopt() which fails.
    /// </summary>
    internal static IReadOnlyDictionary<string, int> All { get; } = new Dictionary<string, int>
    {
        ["socket(AF_XDP)"] = EMFILE,
        ["socket(AF_NETLINK)"] = EMFILE,
        ["socket(AF_PACKET)"] = EMFILE,
        ["eventfd"] = EMFILE,
        ["XDP_UMEM_REG"] = ENOMEM,
        ["XDP_UMEM_FILL_RING"] = ENOMEM,
        ["XDP_UMEM_COMPLETION_RING"] = ENOMEM,
        ["XDP_RX_RING"] = ENOMEM,
        ["XDP_TX_RING"] = ENOMEM,
        ["XDP_MMAP_OFFSETS"] = EINVAL,
        ["XDP_OPTIONS"] = EINVAL,
        ["XDP_STATISTICS"] = EINVAL,
        ["XDP_MAX_TX_SKB_BUDGET"] = EINVAL,
        ["mmap(ring)"] = ENOMEM,
        ["bind(AF_XDP)"] = ENOSPC,
        ["bind(AF_NETLINK)"] = ENOMEM,
        ["bind(AF_PACKET)"] = ENODEV,
        ["PACKET_VNET_HDR"] = EINVAL,
        ["send(netlink)"] = ENOBUFS,
        ["recv(netlink)"] = ENOBUFS,
        ["SIOCETHTOOL"] = ENODEV,
        ["BPF_MAP_CREATE"] = ENOMEM,
        ["BPF_PROG_LOAD"] = EINVAL,
        ["BPF_LINK_CREATE"] = ENOSPC,
        ["BPF_LINK_DETACH"] = EINVAL,
        ["BPF_MAP_UPDATE_ELEM"] = E2BIG,
        ["BPF_MAP_LOOKUP_ELEM"] = ENOMEM,
        ["BPF_MAP_DELETE_ELEM"] = ENOMEM,
        ["BPF_MAP_GET_NEXT_KEY"] = ENOMEM,
        ["BPF_OBJ_GET_INFO_BY_FD"] = EINVAL,
        ["PR_SET_TIMERSLACK"] = EINVAL,
        ["sendto(AF_XDP)"] = EINVAL,
        ["ppoll"] = ENOMEM,
        ["poll"] = ENOMEM,
    };

    /// <summary>How often calls have been made to fail.</summary>
    internal int Hits => Volatile.Read(ref _hits);

    /// <summary>Has one call fail, or all from that one on.</summary>
    /// <param name="name">One of <see cref="All"/>.</param>
    /// <param name="next">Which of those that come: 1 for the first.</param>
    /// <param name="once">The ones after it are let through.</param>
    /// <param name="errno">What it fails with; null for what it usually does.</param>
    /// <param name="then">With <paramref name="once"/>, the call that fails after it, once.</param>
    internal void Fail(string name, int next = 1, bool once = true, int? errno = null, string? then = null)
    {
        lock (_lock)
        {
            _failing = name;
            _errno = errno ?? All[name];
            _next = next;
            _once = once;
            _then = then;
            _hits = 0;
        }
    }

    /// <summary>All calls fail from now on, each with its own errno.</summary>
    internal void FailAll() => Fail("", once: false, errno: 0);

    /// <summary>Starts a process whose calls are handed to this. Once.</summary>
    internal T Start<T>(Func<T> start)
    {
        var listener = new TaskCompletionSource<int>();
        // Not from the thread with the filter: it would inherit it.
        new Thread(() => Answer(listener.Task.Result)) { IsBackground = true, Name = "system calls" }.Start();
        return OwnThread.Run(() =>
        {
            listener.SetResult(Install());
            return start();
        });
    }

    // 0 lets the call through.
    private int ErrnoFor(string name)
    {
        lock (_lock)
        {
            if (_failing is null || (_failing.Length > 0 && _failing != name) || --_next > 0)
                return 0;
            int errno = _failing.Length > 0 ? _errno : All[name];
            if (_once)
                (_failing, _next, _then) = (_then, 1, null);
            if (_failing?.Length > 0)
                _errno = All[_failing];
            return errno;
        }
    }

    /// <param name="name">A call that was to fail.</param>
    /// <param name="errno">What with.</param>
    /// <param name="failed">False when a signal has ended it before: it is made again, and is to fail then.</param>
    private void Count(string name, int errno, bool failed)
    {
        lock (_lock)
        {
            if (failed)
                _hits++;
            else if (_once)
                (_failing, _errno, _next, _then) = (name, errno, 1, _failing);
        }
    }

    private void Answer(int listener)
    {
        while (true)
        {
            var poll = new PollFd { Fd = listener, Events = POLLIN };
            if (Poll(&poll, 1, -1) < 0)
                continue;
            // Nobody has the filter any more.
            if ((poll.Revents & POLLIN) == 0)
                break;
            Notification call = default;
            if (Ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) < 0)
                continue;
            string? name = NameOf(call);
            int errno = name is not null && IsProgram(call.Pid) ? ErrnoFor(name) : 0;
            var response = new Response
            {
                Id = call.Id,
                Error = -errno,
                Flags = errno == 0 ? SECCOMP_USER_NOTIF_FLAG_CONTINUE : 0,
            };
            bool isAnswered = Ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response) >= 0;
            if (errno != 0)
                Count(name!, errno, failed: isAnswered);
        }
        _ = Close(listener);
    }

    private static bool IsProgram(uint thread)
    {
        try
        {
            return new FileInfo($"/proc/{thread}/exe").LinkTarget?.EndsWith(Program, StringComparison.Ordinal) == true;
        }
        catch (IOException)
        {
            return false;
        }
    }

    // Null for calls that are not the transport's.
    private static string? NameOf(in Notification call)
    {
        ulong a0 = call.A0, a1 = call.A1, a2 = call.A2, a3 = call.A3, a4 = call.A4;
        if (call.Number == Numbers.Socket)
        {
            return a0 switch
            {
                44 => "socket(AF_XDP)",
                16 => "socket(AF_NETLINK)",
                17 => "socket(AF_PACKET)",
                _ => null,
            };
        }
        if (call.Number == Numbers.EventFd)
            return "eventfd";
        // SOL_XDP. SO_SNDBUF is nothing that may not fail.
        if (call.Number == Numbers.SetSockOpt || call.Number == Numbers.GetSockOpt)
            return a1 switch { 283 => OptionName((int)a2), 263 when a2 == 15 => "PACKET_VNET_HDR", _ => null };
        if (call.Number == Numbers.Mmap)
            return "mmap(ring)";
        // The sizes of sockaddr_xdp, which is that of sockaddr_in as well, of sockaddr_nl and of sockaddr_ll. HelloWeb
        // binds to IPv6.
        if (call.Number == Numbers.Bind)
            return a2 switch { 16 => "bind(AF_XDP)", 12 => "bind(AF_NETLINK)", 20 => "bind(AF_PACKET)", _ => null };
        // Without a buffer it is a kick. Sockets of .NET say MSG_NOSIGNAL.
        if (call.Number == Numbers.SendTo)
            return a1 == 0 ? "sendto(AF_XDP)" : a3 == 0 && a4 == 0 ? "send(netlink)" : null;
        // The size of the buffer.
        if (call.Number == Numbers.RecvFrom)
            return a2 == 32 * 1024 ? "recv(netlink)" : null;
        if (call.Number == Numbers.Ioctl)
            return "SIOCETHTOOL";
        if (call.Number == Numbers.Prctl)
            return a0 == 29 ? "PR_SET_TIMERSLACK" : null;
        // The runtime waits for one descriptor with poll().
        if (call.Number == Numbers.Ppoll)
            return "ppoll";
        if (call.Number == Numbers.Poll)
            return a1 >= 2 ? "poll" : null;
        return CommandName((int)a0);
    }

    private static string? OptionName(int option) => option switch
    {
        1 => "XDP_MMAP_OFFSETS",
        2 => "XDP_RX_RING",
        3 => "XDP_TX_RING",
        4 => "XDP_UMEM_REG",
        5 => "XDP_UMEM_FILL_RING",
        6 => "XDP_UMEM_COMPLETION_RING",
        7 => "XDP_STATISTICS",
        8 => "XDP_OPTIONS",
        9 => "XDP_MAX_TX_SKB_BUDGET",
        _ => null,
    };

    private static string? CommandName(int command) => command switch
    {
        0 => "BPF_MAP_CREATE",
        1 => "BPF_MAP_LOOKUP_ELEM",
        2 => "BPF_MAP_UPDATE_ELEM",
        3 => "BPF_MAP_DELETE_ELEM",
        4 => "BPF_MAP_GET_NEXT_KEY",
        5 => "BPF_PROG_LOAD",
        15 => "BPF_OBJ_GET_INFO_BY_FD",
        28 => "BPF_LINK_CREATE",
        34 => "BPF_LINK_DETACH",
        _ => null,
    };

    /// <summary>Gives the calling thread the filter. Returns the descriptor that its calls are read from.</summary>
    private static int Install()
    {
        const uint RingFlags = 0x8001, EthtoolRequest = 0x8946; // MAP_SHARED | MAP_POPULATE; SIOCETHTOOL
        const uint SECCOMP_RET_ALLOW = 0x7fff0000, SECCOMP_RET_USER_NOTIF = 0x7fc00000;
        const int RequestAt = 16 + 8, FlagsAt = 16 + 24;
        const uint SECCOMP_SET_MODE_FILTER = 1;
        const nuint SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3;

        int[] whole =
        [
            Numbers.Socket, Numbers.EventFd, Numbers.SetSockOpt, Numbers.GetSockOpt, Numbers.Bind, Numbers.SendTo,
            Numbers.RecvFrom, Numbers.Prctl, Numbers.Ppoll, Numbers.Poll, Numbers.Bpf,
        ];
        var program = new List<SockFilter> { SockFilter.Load(0) };
        foreach (int number in whole)
            program.AddRange([SockFilter.IfEqual((uint)number, 0, 1), SockFilter.Return(SECCOMP_RET_USER_NOTIF)]);
        foreach ((int number, int at, uint value) in (ReadOnlySpan<(int, int, uint)>)[
            (Numbers.Mmap, FlagsAt, RingFlags), (Numbers.Ioctl, RequestAt, EthtoolRequest)])
        {
            program.AddRange(
            [
                SockFilter.IfEqual((uint)number, 0, 4), SockFilter.Load(at), SockFilter.IfEqual(value, 0, 1),
                SockFilter.Return(SECCOMP_RET_USER_NOTIF), SockFilter.Return(SECCOMP_RET_ALLOW),
            ]);
        }
        program.Add(SockFilter.Return(SECCOMP_RET_ALLOW));
        return InstallFilter([.. program], static filter =>
        {
            nint listener =
                Syscall(Numbers.Seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, filter);
            return listener >= 0
                ? (int)listener
                : throw new InvalidOperationException($"seccomp: errno {Marshal.GetLastPInvokeError()}");
        });
    }

    private const int E2BIG = 7, ENOMEM = 12, ENODEV = 19, EINVAL = 22, EMFILE = 24, ENOSPC = 28, ENOBUFS = 105;
    private const short POLLIN = 1;
    private const nuint SECCOMP_IOCTL_NOTIF_RECV = 0xc0502100, SECCOMP_IOCTL_NOTIF_SEND = 0xc0182101;
    private const uint SECCOMP_USER_NOTIF_FLAG_CONTINUE = 1;

    /// <summary>Of the machine type.</summary>
    private static class Numbers
    {
        private static readonly bool s_arm = RuntimeInformation.ProcessArchitecture == Architecture.Arm64;

        internal static readonly int
            Socket = s_arm ? 198 : 41, Bind = s_arm ? 200 : 49, SendTo = s_arm ? 206 : 44, RecvFrom = s_arm ? 207 : 45,
            SetSockOpt = s_arm ? 208 : 54, GetSockOpt = s_arm ? 209 : 55, Mmap = s_arm ? 222 : 9,
            Ioctl = s_arm ? 29 : 16, Poll = s_arm ? -1 : 7, Ppoll = s_arm ? 73 : 271, EventFd = s_arm ? 19 : 290,
            Prctl = s_arm ? 167 : 157, Bpf = s_arm ? 280 : 321, Seccomp = s_arm ? 277 : 317;
    }

    /// <summary>struct seccomp_notif.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct Notification
    {
        internal ulong Id;
        internal uint Pid, Flags;
        internal int Number;
        internal uint Architecture;
        internal ulong InstructionPointer, A0, A1, A2, A3, A4, A5;
    }

    /// <summary>struct seccomp_notif_resp.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct Response
    {
        internal ulong Id;
        internal long Value;
        internal int Error;
        internal uint Flags;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct PollFd
    {
        internal int Fd;
        internal short Events, Revents;
    }

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial nint Syscall(nint number, nuint operation, nuint flags, nint program);

    [LibraryImport("libc", EntryPoint = "ioctl", SetLastError = true)]
    private static partial int Ioctl(int fd, nuint request, void* argument);

    [LibraryImport("libc", EntryPoint = "poll", SetLastError = true)]
    private static partial int Poll(PollFd* fds, nuint count, int timeout);

    [LibraryImport("libc", EntryPoint = "close")]
    private static partial int Close(int fd);
}

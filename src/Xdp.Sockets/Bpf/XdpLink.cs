using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Xdp.Sockets.Interop;
using Xdp.Sockets.Net;

namespace Xdp.Sockets.Bpf;

/// <summary>The XDP program of a device.</summary>
/// <param name="Mode">Native or Generic. An offloaded program counts as Native.</param>
/// <param name="ProgramId">The kernel's number for the program.</param>
/// <param name="ProgramName">Null when this process may not look at the program.</param>
public readonly record struct XdpAttachment(AttachMode Mode, uint ProgramId, string? ProgramName);

/// <summary>
/// A program attached to a device by a bpf_link. No other program can be attached beside it. The program can be
/// exchanged atomically. The attachment ends when this is disposed or the process dies, however it dies.
/// </summary>
public sealed class XdpLink : IDisposable
{
    /// <summary>
    /// How long to try while another program holds the device. The link of a killed process lives on for 27 to 44 ms;
    /// two seconds also cover a busy machine.
    /// </summary>
    public static readonly TimeSpan BusyRetry = TimeSpan.FromSeconds(2);

    private static readonly TimeSpan s_busyPause = TimeSpan.FromMilliseconds(10);

    private readonly BpfHandle _handle;
    private BpfProgram _program;

    private XdpLink(BpfHandle handle, BpfProgram program, int ifindex, AttachMode mode)
    {
        _handle = handle;
        _program = program;
        Ifindex = ifindex;
        Mode = mode;
    }

    public int Ifindex { get; }

    /// <summary>Native or Generic.</summary>
    public AttachMode Mode { get; }

    public BpfHandle Handle => _handle;

    /// <summary>
    /// Does the device still run the program? Not once somebody has detached the link (<c>bpftool link detach</c>) or
    /// put another program in place, nor when the device is gone. The kernel tells of neither. A device that moves to
    /// another network namespace takes the program along.
    /// </summary>
    public unsafe bool IsAttached
    {
        get
        {
            if (_handle.IsClosed)
                return false;
            BpfNative.LinkInfo info = default;
            var attributes = new BpfNative.GetInfo
            {
                Fd = _handle.Fd,
                InfoLength = (uint)sizeof(BpfNative.LinkInfo),
                Info = &info,
            };
            // What the kernel does not tell has not changed. It may have kept the program's number to itself as well.
            return BpfNative.Bpf(BpfNative.BPF_OBJ_GET_INFO_BY_FD, ref attributes) < 0
                || (info.XdpIfindex != 0 && (_program.Id == 0 || info.ProgId == _program.Id));
        }
    }

    /// <summary>Attaches. Blocks while another program holds the device, up to <paramref name="busyRetry"/>.</summary>
    /// <exception cref="XdpException">
    /// With EBUSY or EEXIST, the message names the program that holds the device. With EOPNOTSUPP, ERANGE, ENOSPC and
    /// others, it says what the driver misses.
    /// </exception>
    public static XdpLink Attach(
        BpfProgram program, int ifindex, AttachMode mode = AttachMode.Auto, TimeSpan? busyRetry = null)
    {
        ArgumentNullException.ThrowIfNull(program);
        bool generic = mode == AttachMode.Generic;
        TimeSpan patience = busyRetry ?? BusyRetry;
        long start = Stopwatch.GetTimestamp();
        while (true)
        {
            var attributes = new BpfNative.LinkCreate
            {
                ProgFd = program.Handle.Fd,
                TargetIfindex = (uint)ifindex,
                AttachType = BpfNative.BPF_XDP,
                Flags = generic ? BpfNative.XDP_FLAGS_SKB_MODE : BpfNative.XDP_FLAGS_DRV_MODE,
            };
            int fd = BpfNative.Bpf(BpfNative.BPF_LINK_CREATE, ref attributes);
            GC.KeepAlive(program);
            if (fd >= 0)
            {
                AttachMode attached = generic ? AttachMode.Generic : AttachMode.Native;
                return new XdpLink(new BpfHandle(fd), program, ifindex, attached);
            }

            bool busy = fd is -ErrnoNames.EBUSY or -ErrnoNames.EEXIST;
            if (!busy || Stopwatch.GetElapsedTime(start) >= patience)
                throw Refused(program, ifindex, generic, -fd);
            Thread.Sleep(s_busyPause);
        }
    }

    /// <summary>
    /// What is attached to a device, whoever attached it. Null when nothing is, or when there is no such device.
    /// </summary>
    public static XdpAttachment? Query(int ifindex)
    {
        XdpAttachment? found = null;
        using NetlinkSocket socket = NetlinkSocket.Open();
        var header = new NetlinkNative.IfInfoMsg { Index = ifindex };
        _ = socket.Request(NetlinkRequest.Create(NetlinkNative.RTM_GETLINK, dump: false, header), (_, body) =>
        {
            var attributes = new NetlinkAttributes(body[Unsafe.SizeOf<NetlinkNative.IfInfoMsg>()..]);
            while (attributes.MoveNext())
            {
                if (attributes.Type == NetlinkNative.IFLA_XDP)
                    found = ParseAttachment(attributes.Value);
            }
        });
        return found;
    }

    /// <summary>Puts another program in place, atomically: no packet passes without meeting one of the two.</summary>
    public void Update(BpfProgram program)
    {
        ArgumentNullException.ThrowIfNull(program);
        var attributes = new BpfNative.LinkUpdate { LinkFd = _handle.Fd, NewProgFd = program.Handle.Fd };
        int result = BpfNative.Bpf(BpfNative.BPF_LINK_UPDATE, ref attributes);
        GC.KeepAlive(program);
        if (result < 0)
            throw new XdpException(
                $"bpf(BPF_LINK_UPDATE, ifindex {Ifindex}, \"{_program.Name}\" to \"{program.Name}\")", -result);
        _program = program;
    }

    /// <summary>Detaches before it returns, even where a forked child still holds a copy of the descriptor.</summary>
    public void Dispose()
    {
        if (_handle.IsClosed)
            return;
        var attributes = new BpfNative.LinkDetach { LinkFd = _handle.Fd };
        _ = BpfNative.Bpf(BpfNative.BPF_LINK_DETACH, ref attributes);
        _handle.Dispose();
    }

    /// <param name="body">The attributes inside IFLA_XDP.</param>
    internal static XdpAttachment? ParseAttachment(ReadOnlySpan<byte> body)
    {
        var xdp = new NetlinkAttributes(body);
        byte attached = 0;
        uint program = 0;
        while (xdp.MoveNext())
        {
            if (xdp.Type == NetlinkNative.IFLA_XDP_ATTACHED)
                attached = xdp.Value[0];
            else if (xdp.Type == NetlinkNative.IFLA_XDP_PROG_ID)
                program = (uint)xdp.Int32;
        }
        const byte AttachedGeneric = 2; // XDP_ATTACHED_SKB
        if (attached == 0)
            return null;
        AttachMode mode = attached == AttachedGeneric ? AttachMode.Generic : AttachMode.Native;
        return new XdpAttachment(mode, program, BpfProgram.NameOf(program));
    }

    /// <summary>
    /// Why the driver refuses. The kernel gives no reason for a refused link, but it gives the driver's own words for a
    /// refused attachment by netlink. So this asks for such an attachment, which fails for the same reason. Should it
    /// succeed, it is taken off again.
    /// </summary>
    private static string? AskWhy(BpfProgram program, int ifindex, bool generic)
    {
        const uint UpdateIfNoExist = 1, Replace = 1 << 4; // XDP_FLAGS_*
        const ushort ExpectedFd = 8; // IFLA_XDP_EXPECTED_FD
        uint mode = generic ? BpfNative.XDP_FLAGS_SKB_MODE : BpfNative.XDP_FLAGS_DRV_MODE;
        using NetlinkSocket socket = NetlinkSocket.Open();
        int result = Set((int)program.Handle.Fd, mode | UpdateIfNoExist, expected: null);
        string? complaint = socket.Complaint;
        if (result == 0)
            _ = Set(-1, mode | Replace, expected: (int)program.Handle.Fd);
        GC.KeepAlive(program);
        return complaint;

        int Set(int fd, uint flags, int? expected)
        {
            var header = new NetlinkNative.IfInfoMsg { Index = ifindex };
            int[] words =
                [Attribute(NetlinkNative.IFLA_XDP_FD), fd, Attribute(NetlinkNative.IFLA_XDP_FLAGS), (int)flags];
            if (expected is { } old)
                words = [.. words, Attribute(ExpectedFd), old];
            return socket.Request(
                NetlinkRequest.Create(NetlinkNative.RTM_SETLINK, dump: false, header, NetlinkNative.NLM_F_ACK)
                    .Add(NetlinkNative.IFLA_XDP | NetlinkNative.NLA_F_NESTED, MemoryMarshal.AsBytes<int>(words)),
                static (_, _) => { });
        }

        // The header of a 4-byte attribute: its length with the header, and its type.
        static int Attribute(ushort type) => 8 | type << 16;
    }

    private static XdpException Refused(BpfProgram program, int ifindex, bool generic, int errno)
    {
        string? hint = errno switch
        {
            ErrnoNames.EINVAL or ErrnoNames.ENODEV when NetworkInterfaceInfo.Get(ifindex) is null =>
                "There is no such device in this network namespace",
            ErrnoNames.EBUSY or ErrnoNames.EEXIST => Query(ifindex) is { } holder
                ? $"The device is held by XDP program {holder.ProgramId} \"{holder.ProgramName}\" ({holder.Mode}); "
                    + "see bpftool net"
                : "The device is held by another XDP program",
            _ when AskWhy(program, ifindex, generic) is { } words => words,
            ErrnoNames.EOPNOTSUPP when !generic =>
                "The driver has no native XDP, or not in the device's present configuration; "
                + "generic mode must be asked for",
            ErrnoNames.ERANGE => "The MTU, or that of a veth's peer, is too big for native XDP",
            ErrnoNames.ENOSPC => "A veth must have at least as many RX queues as its peer has TX queues",
            ErrnoNames.EINVAL =>
                "The driver refuses the device's present configuration: MTU, channels or LRO; "
                + "the kernel log may say which",
            _ => BpfObject.PrivilegeHint(errno),
        };
        string mode = generic ? "generic" : "native";
        return new XdpException($"bpf(BPF_LINK_CREATE, \"{program.Name}\", ifindex {ifindex}, {mode})", errno, hint);
    }
}

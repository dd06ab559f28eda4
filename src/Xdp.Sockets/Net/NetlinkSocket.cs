using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets.Net;

/// <summary>
/// A netlink socket in the calling thread's network namespace, for rtnetlink unless another family is asked for. It
/// serves one request at a time, or receives the messages of the groups that it joined. Not thread-safe.
/// </summary>
internal sealed unsafe class NetlinkSocket : SafeHandleMinusOneIsInvalid
{
    /// <summary>The kernel answers a dump in pieces of up to 32 KiB, if the buffer is that large.</summary>
    private const int BufferSize = 32 * 1024;

    private readonly byte[] _buffer = GC.AllocateUninitializedArray<byte>(BufferSize);
    private uint _sequence;

    private NetlinkSocket(int fd)
        : base(ownsHandle: true) => SetHandle(fd);

    internal int Fd => (int)handle;

    /// <summary>
    /// Why the last request was refused, in the words of the kernel or a driver. Null when they gave none.
    /// </summary>
    internal string? Complaint { get; private set; }

    /// <param name="groups">To listen to: bit n - 1 for group n, as in RTMGRP_LINK; 0 for requests.</param>
    /// <param name="protocol">The netlink family.</param>
    internal static NetlinkSocket Open(uint groups = 0, int protocol = NetlinkNative.NETLINK_ROUTE)
    {
        int fd = NetlinkNative.Socket(
            NetlinkNative.AF_NETLINK, NetlinkNative.SOCK_RAW | NetlinkNative.SOCK_CLOEXEC, protocol);
        if (fd < 0)
            throw new XdpException($"socket(AF_NETLINK, SOCK_RAW, {protocol})", Marshal.GetLastPInvokeError());
        var socket = new NetlinkSocket(fd);
        var address = new NetlinkNative.SockAddrNl { Family = NetlinkNative.AF_NETLINK, Groups = groups };
        if (NetlinkNative.Bind(fd, &address, (uint)sizeof(NetlinkNative.SockAddrNl)) < 0)
        {
            int error = Marshal.GetLastPInvokeError();
            socket.Dispose();
            throw new XdpException($"bind(AF_NETLINK, groups {groups:x})", error);
        }
        int on = 1;
        _ = NetlinkNative.SetSockOpt(fd, NetlinkNative.SOL_NETLINK, NetlinkNative.NETLINK_EXT_ACK, &on, sizeof(int));
        return socket;
    }

    /// <summary>
    /// Sends one request and hands each answer to <paramref name="onMessage"/>: one, or all of a dump. A dump that was
    /// disturbed by a change is taken as it is, because a watcher hears of the change.
    /// </summary>
    /// <returns>0, or the negative errno the kernel answered with.</returns>
    internal int Request(NetlinkRequest request, NetlinkMessageHandler onMessage)
    {
        Complaint = null;
        if (Send(request) is < 0 and int refused)
            return refused;
        while (true)
        {
            ReadOnlySpan<byte> received = Receive(out int error);
            if (error != 0)
                return -error;
            while (TryTake(ref received, out NetlinkNative.NlMsgHdr header, out ReadOnlySpan<byte> body))
            {
                if (header.Sequence != _sequence)
                    continue;
                if (header.Type == NetlinkNative.NLMSG_DONE)
                    return 0;
                if (header.Type == NetlinkNative.NLMSG_ERROR)
                {
                    Complaint = ReadComplaint(header, body);
                    return BinaryPrimitives.ReadInt32LittleEndian(body);
                }
                onMessage(header.Type, body);
                if (!request.IsDump)
                    return 0;
            }
        }
    }

    /// <summary>Sends a request whose answer nobody waits for.</summary>
    internal int Send(NetlinkRequest request)
    {
        Span<byte> message = request.Finish(++_sequence);
        fixed (byte* p = message)
            return NetlinkNative.Send(Fd, p, (nuint)message.Length, 0) < 0 ? -Marshal.GetLastPInvokeError() : 0;
    }

    /// <summary>
    /// Waits for the next datagram. <see cref="TryTake"/> takes the messages out of it. It is valid until the next
    /// call.
    /// </summary>
    internal ReadOnlySpan<byte> Receive(out int error)
    {
        fixed (byte* p = _buffer)
        {
            nint length;
            do
                length = NetlinkNative.Recv(Fd, p, BufferSize, 0);
            while (length < 0 && Marshal.GetLastPInvokeError() == ErrnoNames.EINTR);
            error = length < 0 ? Marshal.GetLastPInvokeError() : 0;
            return length <= 0 ? default : _buffer.AsSpan(0, (int)length);
        }
    }

    internal static bool TryTake(
        ref ReadOnlySpan<byte> messages, out NetlinkNative.NlMsgHdr header, out ReadOnlySpan<byte> body)
    {
        header = default;
        body = default;
        if (messages.Length < sizeof(NetlinkNative.NlMsgHdr))
            return false;
        header = MemoryMarshal.Read<NetlinkNative.NlMsgHdr>(messages);
        int length = (int)header.Length;
        if (length < sizeof(NetlinkNative.NlMsgHdr) || length > messages.Length)
            return false;
        body = messages[sizeof(NetlinkNative.NlMsgHdr)..length];
        messages = messages[Math.Min(length + 3 & ~3, messages.Length)..];
        return true;
    }

    /// <summary>
    /// An error message holds the errno, then the request's header, then the rest of the request (unless it is capped),
    /// then attributes.
    /// </summary>
    private static string? ReadComplaint(NetlinkNative.NlMsgHdr header, ReadOnlySpan<byte> body)
    {
        if ((header.Flags & NetlinkNative.NLM_F_ACK_TLVS) == 0)
            return null;
        ReadOnlySpan<byte> request = body[sizeof(int)..];
        bool capped = (header.Flags & NetlinkNative.NLM_F_CAPPED) != 0;
        int length = capped ? sizeof(NetlinkNative.NlMsgHdr) : BinaryPrimitives.ReadInt32LittleEndian(request) + 3 & ~3;
        var attributes = new NetlinkAttributes(request[length..]);
        while (attributes.MoveNext())
        {
            if (attributes.Type == NetlinkNative.NLMSGERR_ATTR_MSG)
                return attributes.Text;
        }
        return null;
    }

    protected override bool ReleaseHandle() => NetlinkNative.Close((int)handle) == 0;
}

internal delegate void NetlinkMessageHandler(ushort type, ReadOnlySpan<byte> body);

/// <summary>Builds a request: header, family header, attributes.</summary>
internal sealed unsafe class NetlinkRequest
{
    private readonly byte[] _bytes = new byte[512];
    private int _length;

    internal bool IsDump { get; }

    private NetlinkRequest(bool isDump) => IsDump = isDump;

    internal static NetlinkRequest Create<T>(ushort type, bool dump, in T familyHeader, ushort flags = 0)
        where T : unmanaged
    {
        var request = new NetlinkRequest(dump);
        var header = new NetlinkNative.NlMsgHdr
        {
            Type = type,
            Flags = (ushort)(NetlinkNative.NLM_F_REQUEST | flags | (dump ? NetlinkNative.NLM_F_DUMP : 0)),
        };
        MemoryMarshal.Write(request._bytes, in header);
        MemoryMarshal.Write(request._bytes.AsSpan(sizeof(NetlinkNative.NlMsgHdr)), in familyHeader);
        request._length = sizeof(NetlinkNative.NlMsgHdr) + (sizeof(T) + 3 & ~3);
        return request;
    }

    internal NetlinkRequest Add(ushort type, ReadOnlySpan<byte> value)
    {
        BinaryPrimitives.WriteUInt16LittleEndian(_bytes.AsSpan(_length), (ushort)(4 + value.Length));
        BinaryPrimitives.WriteUInt16LittleEndian(_bytes.AsSpan(_length + 2), type);
        value.CopyTo(_bytes.AsSpan(_length + 4));
        _length += 4 + value.Length + 3 & ~3;
        return this;
    }

    internal NetlinkRequest Add(ushort type, int value)
        => Add(type, MemoryMarshal.AsBytes(new ReadOnlySpan<int>(in value)));

    internal Span<byte> Finish(uint sequence)
    {
        ref NetlinkNative.NlMsgHdr header = ref Unsafe.As<byte, NetlinkNative.NlMsgHdr>(ref _bytes[0]);
        header.Length = (uint)_length;
        header.Sequence = sequence;
        return _bytes.AsSpan(0, _length);
    }
}

/// <summary>Walks the attributes of a message: <c>while (attributes.MoveNext()) …</c>.</summary>
internal ref struct NetlinkAttributes(ReadOnlySpan<byte> bytes)
{
    private ReadOnlySpan<byte> _rest = bytes;

    internal ushort Type { get; private set; }

    internal ReadOnlySpan<byte> Value { get; private set; }

    internal readonly int Int32 => Value.Length >= 4 ? BinaryPrimitives.ReadInt32LittleEndian(Value) : 0;

    /// <summary>In network byte order, as netfilter has its numbers; null when it is none.</summary>
    internal readonly uint? BigEndian => Value.Length == 4 ? BinaryPrimitives.ReadUInt32BigEndian(Value) : null;

    internal readonly string Text => Encoding.UTF8.GetString(Value.TrimEnd((byte)0));

    internal bool MoveNext()
    {
        if (_rest.Length < 4)
            return false;
        int length = BinaryPrimitives.ReadUInt16LittleEndian(_rest);
        if (length < 4 || length > _rest.Length)
            return false;
        Type = (ushort)(BinaryPrimitives.ReadUInt16LittleEndian(_rest[2..]) & NetlinkNative.NLA_TYPE_MASK);
        Value = _rest[4..length];
        _rest = _rest[Math.Min(length + 3 & ~3, _rest.Length)..];
        return true;
    }
}

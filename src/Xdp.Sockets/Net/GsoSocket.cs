using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets.Net;

/// <summary>What became of a run that was given to <see cref="GsoSocket.Send"/>.</summary>
public enum GsoStatus
{
    /// <summary>The kernel has copied it.</summary>
    Sent,

    /// <summary>
    /// The kernel has dropped it, or, where it was divided first, a part of it: a full queue behind the interface, or a
    /// rule at its egress hook. That is for TCP to repair.
    /// </summary>
    Dropped,

    /// <summary>Nothing was sent. Later ones may be.</summary>
    Busy,

    /// <summary>
    /// Nothing was sent, and the kernel does not take such packets: <see cref="GsoSocket.LastErrno"/>.
    /// </summary>
    Refused,
}

/// <summary>
/// Sends TCP segments that follow each other as one packet, which the kernel or the device divides again (generic
/// segmentation offload). The TX ring of AF_XDP has nothing like it: in copy mode each of its packets costs as much as
/// a whole run does here. It goes by a packet socket, through the interface's queueing discipline, and receives
/// nothing. Whoever divides the packet computes the checksums, or leaves that to the device, as with kernel sockets.
/// Needs CAP_NET_RAW. One thread at a time.
/// </summary>
public sealed unsafe class GsoSocket : IDisposable
{
    /// <summary>Segments of one run, at most.</summary>
    public const int MostSegments = 64;

    // Of the socket's own buffer. With less, runs are refused where the device is slow to send them.
    private const int SendBuffer = 4 << 20;

    private const int LargestPacket = ushort.MaxValue;

    private readonly Umem _umem;
    private readonly RawSocketHandle _socket;
    private readonly NetlinkNative.IoVec[] _parts =
        GC.AllocateArray<NetlinkNative.IoVec>(MostSegments + 2, pinned: true);

    /// <param name="umem">Where the segments lie.</param>
    /// <param name="interfaceIndex">An Ethernet interface of the calling thread's network namespace.</param>
    /// <exception cref="XdpException">The kernel refused; says why.</exception>
    public GsoSocket(Umem umem, int interfaceIndex)
    {
        ArgumentNullException.ThrowIfNull(umem);
        _umem = umem;
        _socket = new RawSocketHandle(PacketNative.AF_PACKET, protocol: 0);
        if (_socket.IsInvalid)
            throw new XdpException("socket(AF_PACKET, SOCK_RAW)", Marshal.GetLastPInvokeError());
        try
        {
            if (!TrySetOption(PacketNative.SOL_PACKET, PacketNative.PACKET_VNET_HDR, 1))
                throw new XdpException("setsockopt(PACKET_VNET_HDR)", Marshal.GetLastPInvokeError());
            // Without CAP_NET_ADMIN it has what the host allows.
            if (!TrySetOption(PacketNative.SOL_SOCKET, PacketNative.SO_SNDBUFFORCE, SendBuffer))
                TrySetOption(PacketNative.SOL_SOCKET, PacketNative.SO_SNDBUF, SendBuffer);
            var address = new PacketNative.SockAddrLl
            {
                Family = PacketNative.AF_PACKET,
                InterfaceIndex = interfaceIndex,
            };
            if (PacketNative.Bind(_socket, &address, (uint)sizeof(PacketNative.SockAddrLl)) < 0)
                throw new XdpException("bind(AF_PACKET)", Marshal.GetLastPInvokeError());
        }
        catch
        {
            _socket.Dispose();
            throw;
        }
    }

    /// <summary>
    /// How many of these packets, from the first on, are segments that may go as one: full ones with nothing but data,
    /// in sequence, with the same headers otherwise. The last may be shorter, and have PSH or FIN. 1 when the second
    /// does not follow the first.
    /// </summary>
    /// <param name="packets">Ethernet packets in the UMEM, at least one.</param>
    public int CountRun(ReadOnlySpan<XdpDescriptor> packets)
    {
        ReadOnlySpan<byte> first = Bytes(packets[0]);
        if (!TcpHeaders.TryRead(first, out TcpHeaders headers) || first[headers.Flags] != TcpHeaders.Ack)
            return 1;
        int segment = first.Length - headers.Length;
        int room = LargestPacket - headers.Length;
        uint sequence = BinaryPrimitives.ReadUInt32BigEndian(first[headers.Sequence..]);
        int most = Math.Min(packets.Length, MostSegments);
        int total = segment;
        int count = 1;
        while (count < most)
        {
            ReadOnlySpan<byte> next = Bytes(packets[count]);
            int payload = next.Length - headers.Length;
            if (payload <= 0 || payload > segment || total + payload > room
                || BinaryPrimitives.ReadUInt32BigEndian(next[headers.Sequence..]) != unchecked(sequence + (uint)total)
                || !headers.AreAlike(first, next))
            {
                break;
            }
            count++;
            total += payload;
            if (payload < segment || next[headers.Flags] != TcpHeaders.Ack)
                break;
        }
        return count;
    }

    /// <summary>errno of the last <see cref="Send"/>, 0 for success.</summary>
    public int LastErrno { get; private set; }

    /// <summary>Sends a run as one packet. The frames are the caller's again, whatever has become of it.</summary>
    /// <param name="run">As <see cref="CountRun"/> has found it.</param>
    public GsoStatus Send(ReadOnlySpan<XdpDescriptor> run)
    {
        LastErrno = SendRun(run);
        return LastErrno switch
        {
            0 => GsoStatus.Sent,
            ErrnoNames.ENOBUFS => GsoStatus.Dropped,
            ErrnoNames.EAGAIN or ErrnoNames.ENOMEM or ErrnoNames.EINTR or ErrnoNames.ENETDOWN or ErrnoNames.ENXIO
                or ErrnoNames.ENODEV => GsoStatus.Busy,
            _ => GsoStatus.Refused,
        };
    }

    private int SendRun(ReadOnlySpan<XdpDescriptor> run)
    {
        ReadOnlySpan<byte> first = Bytes(run[0]);
        if (run.Length > MostSegments || !TcpHeaders.TryRead(first, out TcpHeaders headers))
            return ErrnoNames.EINVAL;
        byte* head = stackalloc byte[TcpHeaders.Longest];
        PacketNative.VirtioNetHdr offload = headers.Offload((ushort)(first.Length - headers.Length));
        _parts[0] = new() { Base = &offload, Length = (nuint)sizeof(PacketNative.VirtioNetHdr) };
        _parts[1] = new() { Base = head, Length = (nuint)headers.Length };
        int total = 0;
        for (int i = 0; i < run.Length; i++)
        {
            if (run[i].Length <= headers.Length)
                return ErrnoNames.EINVAL;
            ReadOnlySpan<byte> payload = Bytes(run[i])[headers.Length..];
            // The UMEM does not move.
            _parts[i + 2] = new()
            {
                Base = Unsafe.AsPointer(ref MemoryMarshal.GetReference(payload)),
                Length = (nuint)payload.Length,
            };
            total += payload.Length;
        }
        if (headers.Length + total > LargestPacket)
            return ErrnoNames.EINVAL;
        headers.WriteHead(first, Bytes(run[^1])[headers.Flags], total, new Span<byte>(head, headers.Length));
        var message = new NetlinkNative.MsgHdr
        {
            Parts = (NetlinkNative.IoVec*)Unsafe.AsPointer(ref MemoryMarshal.GetArrayDataReference(_parts)),
            PartCount = (nuint)run.Length + 2,
        };
        return NetlinkNative.SendMsg(_socket, &message, XskNative.MSG_DONTWAIT) >= 0
            ? 0
            : Marshal.GetLastPInvokeError();
    }

    public void Dispose() => _socket.Dispose();

    private ReadOnlySpan<byte> Bytes(in XdpDescriptor packet) => _umem.GetSpan(packet.Address, (int)packet.Length);

    private bool TrySetOption(int level, int option, int value) =>
        PacketNative.SetSockOpt(_socket, level, option, &value, sizeof(int)) >= 0;
}

/// <summary>Where the headers of an Ethernet packet with TCP lie in it.</summary>
internal readonly struct TcpHeaders
{
    internal const byte Ack = 0x10;

    /// <summary>Ethernet, IPv6, TCP with all its options.</summary>
    internal const int Longest = Ethernet + 40 + 60;

    private const byte Fin = 0x01, Psh = 0x08;
    private const int Ethernet = 14, ProtocolTcp = 6;
    private const ushort EtherTypeIPv4 = 0x0800, EtherTypeIPv6 = 0x86DD;

    private readonly bool _isIPv4;
    private readonly int _tcp;

    private TcpHeaders(bool isIPv4, int tcp, int length)
    {
        _isIPv4 = isIPv4;
        _tcp = tcp;
        Length = length;
    }

    /// <summary>Bytes of all of them.</summary>
    internal int Length { get; }

    /// <summary>Offset of the sequence number.</summary>
    internal int Sequence => _tcp + 4;

    /// <summary>Offset of the flags.</summary>
    internal int Flags => _tcp + 13;

    /// <summary>False for all but TCP with a payload, without VLAN tags, IPv4 options and IPv6 extensions.</summary>
    internal static bool TryRead(ReadOnlySpan<byte> packet, out TcpHeaders headers)
    {
        headers = default;
        if (packet.Length < Ethernet + 40)
            return false;
        ushort type = BinaryPrimitives.ReadUInt16BigEndian(packet[12..]);
        bool isIPv4 = type == EtherTypeIPv4;
        if (!isIPv4 && type != EtherTypeIPv6)
            return false;
        int tcp = Ethernet + (isIPv4 ? 20 : 40);
        bool isPlain = isIPv4
            ? packet[Ethernet] == 0x45 && packet[Ethernet + 9] == ProtocolTcp
            : packet[Ethernet] >> 4 == 6 && packet[Ethernet + 6] == ProtocolTcp;
        if (!isPlain || packet.Length <= tcp + 20)
            return false;
        int length = tcp + ((packet[tcp + 12] >> 4) << 2);
        if (length < tcp + 20 || packet.Length <= length)
            return false;
        headers = new(isIPv4, tcp, length);
        return true;
    }

    /// <summary>
    /// Are the headers the same, but for what differs from one segment to the next: lengths, checksums, the IPv4
    /// identification, the sequence number, PSH and FIN?
    /// </summary>
    internal bool AreAlike(ReadOnlySpan<byte> one, ReadOnlySpan<byte> next)
    {
        int ip = Ethernet;
        bool isSameIp = _isIPv4
            ? Same(one, next, ip, 2) && Same(one, next, ip + 6, 4) && Same(one, next, ip + 12, 8)
            : Same(one, next, ip, 4) && Same(one, next, ip + 6, 34);
        return isSameIp
            && Same(one, next, _tcp, 4) && Same(one, next, _tcp + 8, 5)
            && (next[Flags] & ~(Psh | Fin)) == one[Flags]
            && Same(one, next, _tcp + 14, 2) && Same(one, next, _tcp + 18, Length - _tcp - 18)
            && Same(one, next, 0, Ethernet);
    }

    internal PacketNative.VirtioNetHdr Offload(ushort segment) => new()
    {
        Flags = PacketNative.VIRTIO_NET_HDR_F_NEEDS_CSUM,
        GsoType = _isIPv4 ? PacketNative.VIRTIO_NET_HDR_GSO_TCPV4 : PacketNative.VIRTIO_NET_HDR_GSO_TCPV6,
        HeaderLength = (ushort)Length,
        GsoSize = segment,
        ChecksumStart = (ushort)_tcp,
        ChecksumOffset = 16,
    };

    /// <summary>The headers of the packet that holds the whole run.</summary>
    /// <param name="first">Its first segment.</param>
    /// <param name="lastFlags">The flags of its last.</param>
    /// <param name="payload">Bytes of payload of all of them.</param>
    /// <param name="head">Gets the headers.</param>
    internal void WriteHead(ReadOnlySpan<byte> first, byte lastFlags, int payload, Span<byte> head)
    {
        first[..Length].CopyTo(head);
        head[Flags] |= lastFlags;
        int tcpLength = Length - _tcp + payload;
        Span<byte> ip = head[Ethernet.._tcp];
        ulong addresses;
        if (_isIPv4)
        {
            BinaryPrimitives.WriteUInt16BigEndian(ip[2..], (ushort)(20 + tcpLength));
            BinaryPrimitives.WriteUInt16BigEndian(ip[10..], 0);
            BinaryPrimitives.WriteUInt16BigEndian(ip[10..], (ushort)~Fold(Sum(ip)));
            addresses = Sum(ip[12..]);
        }
        else
        {
            BinaryPrimitives.WriteUInt16BigEndian(ip[4..], (ushort)tcpLength);
            addresses = Sum(ip[8..]);
        }
        // Of the pseudo-header alone: whoever divides the packet adds the rest.
        BinaryPrimitives.WriteUInt16BigEndian(head[(_tcp + 16)..], Fold(addresses + ProtocolTcp + (uint)tcpLength));
    }

    private static bool Same(ReadOnlySpan<byte> one, ReadOnlySpan<byte> next, int start, int length) =>
        one.Slice(start, length).SequenceEqual(next.Slice(start, length));

    private static ulong Sum(ReadOnlySpan<byte> bytes)
    {
        ulong sum = 0;
        for (; bytes.Length >= 2; bytes = bytes[2..])
            sum += BinaryPrimitives.ReadUInt16BigEndian(bytes);
        return sum;
    }

    private static ushort Fold(ulong sum)
    {
        while (sum > ushort.MaxValue)
            sum = (sum & ushort.MaxValue) + (sum >> 16);
        return (ushort)sum;
    }
}

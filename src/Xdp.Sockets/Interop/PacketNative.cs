using System.Runtime.InteropServices;

namespace Xdp.Sockets.Interop;

/// <summary>
/// Packet sockets: calls, structs and numbers. Names are those of linux/if_packet.h and linux/virtio_net.h.
/// </summary>
internal static unsafe partial class PacketNative
{
    internal const int AF_PACKET = 17, SOL_SOCKET = 1, SOL_PACKET = 263;
    internal const int SO_SNDBUF = 7, SO_SNDBUFFORCE = 32, PACKET_VNET_HDR = 15;
    internal const byte VIRTIO_NET_HDR_F_NEEDS_CSUM = 1, VIRTIO_NET_HDR_GSO_TCPV4 = 1, VIRTIO_NET_HDR_GSO_TCPV6 = 4;

    [LibraryImport("libc", EntryPoint = "bind", SetLastError = true)]
    internal static partial int Bind(SafeHandle socket, SockAddrLl* address, uint length);

    [LibraryImport("libc", EntryPoint = "setsockopt", SetLastError = true)]
    internal static partial int SetSockOpt(SafeHandle socket, int level, int option, int* value, uint length);

    /// <summary><c>struct sockaddr_ll</c>. A protocol of 0 receives nothing.</summary>
    internal struct SockAddrLl
    {
        internal ushort Family, Protocol;
        internal int InterfaceIndex;
        internal ushort HardwareType;
        internal byte PacketType, AddressLength;
        internal fixed byte Address[8];
    }

    /// <summary><c>struct virtio_net_hdr</c>, in the machine's byte order.</summary>
    internal struct VirtioNetHdr
    {
        internal byte Flags, GsoType;
        internal ushort HeaderLength, GsoSize, ChecksumStart, ChecksumOffset;
    }
}

using System.Runtime.InteropServices;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets.Net;

/// <summary>
/// Sends IP packets, headers and all, by the routes of the network namespace that it was created in. It receives
/// nothing. Needs CAP_NET_RAW. Any thread.
/// </summary>
public sealed unsafe class RawIpSocket : IDisposable
{
    private const int IPv4Header = 20, IPv6Header = 40;

    private readonly RawSocketHandle _ipv4, _ipv6;

    /// <exception cref="XdpException">The kernel refused; says why.</exception>
    public RawIpSocket()
    {
        _ipv4 = new RawSocketHandle(NetlinkNative.AF_INET, NetlinkNative.IPPROTO_RAW);
        if (_ipv4.IsInvalid)
            throw new XdpException("socket(AF_INET, SOCK_RAW, IPPROTO_RAW)", Marshal.GetLastPInvokeError());
        // Where there is no IPv6, nobody sends it.
        _ipv6 = new RawSocketHandle(NetlinkNative.AF_INET6, NetlinkNative.IPPROTO_RAW);
    }

    /// <summary>
    /// The kernel looks for the route by the packet's two addresses. Rules that go by protocol or ports do not see it.
    /// </summary>
    /// <param name="packet">From its IP header on.</param>
    /// <returns>False when the kernel did not take it: there is no route, it is forbidden, or too much waits.</returns>
    public bool TrySend(ReadOnlySpan<byte> packet)
    {
        bool isIPv4 = packet.Length >= IPv4Header && packet[0] >> 4 == 4;
        if (!isIPv4 && packet.Length < IPv6Header)
            return false;
        NetlinkNative.SockAddrIn6 to = default;
        NetlinkNative.PacketInfo from = default;
        int infoLength;
        if (isIPv4)
        {
            to.Family = NetlinkNative.AF_INET;
            to.FlowInfoOrIPv4 = MemoryMarshal.Read<uint>(packet[16..]);
            // ipi_ifindex, ipi_spec_dst, ipi_addr.
            infoLength = 12;
            (from.Level, from.Type) = (NetlinkNative.IPPROTO_IP, NetlinkNative.IP_PKTINFO);
            packet.Slice(12, 4).CopyTo(new Span<byte>(from.Info + 4, 4));
        }
        else
        {
            to.Family = NetlinkNative.AF_INET6;
            packet.Slice(24, 16).CopyTo(new Span<byte>(to.Address, 16));
            // ipi6_addr, ipi6_ifindex.
            infoLength = 20;
            (from.Level, from.Type) = (NetlinkNative.IPPROTO_IPV6, NetlinkNative.IPV6_PKTINFO);
            packet.Slice(8, 16).CopyTo(new Span<byte>(from.Info, 16));
        }
        from.Length = (nuint)(sizeof(NetlinkNative.PacketInfo) - NetlinkNative.PacketInfo.MostInfo + infoLength);
        try
        {
            fixed (byte* p = packet)
            {
                var part = new NetlinkNative.IoVec { Base = p, Length = (nuint)packet.Length };
                var message = new NetlinkNative.MsgHdr
                {
                    Name = &to,
                    NameLength = isIPv4 ? 16u : (uint)sizeof(NetlinkNative.SockAddrIn6),
                    Parts = &part,
                    PartCount = 1,
                    Control = &from,
                    ControlLength = (nuint)sizeof(NetlinkNative.PacketInfo),
                };
                return NetlinkNative.SendMsg(isIPv4 ? _ipv4 : _ipv6, &message, 0) >= 0;
            }
        }
        catch (ObjectDisposedException)
        {
            return false;
        }
    }

    public void Dispose()
    {
        _ipv4.Dispose();
        _ipv6.Dispose();
    }
}

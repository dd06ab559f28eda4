using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets.Net;

/// <summary>
/// Sends IP packets, headers and all, by the routes of the network namespace that it was created in. It receives
/// nothing. Needs CAP_NET_RAW. Any thread.
/// </summary>
public sealed unsafe class RawIpSocket : IDisposable
{
    private const int IPv4Header = 20, IPv6Header = 40;

    private readonly Descriptor _ipv4, _ipv6;

    /// <exception cref="XdpException">The kernel refused; says why.</exception>
    public RawIpSocket()
    {
        _ipv4 = new Descriptor(NetlinkNative.AF_INET);
        if (_ipv4.IsInvalid)
            throw new XdpException("socket(AF_INET, SOCK_RAW, IPPROTO_RAW)", Marshal.GetLastPInvokeError());
        // Where there is no IPv6, nobody sends it.
        _ipv6 = new Descriptor(NetlinkNative.AF_INET6);
    }

    /// <param name="packet">From its IP header on.</param>
    /// <param name="ifindex">Where a link-local address is. Not looked at for others.</param>
    /// <returns>False when the kernel did not take it: there is no route, it is forbidden, or too much waits.</returns>
    public bool TrySend(ReadOnlySpan<byte> packet, int ifindex = 0)
    {
        bool isIPv4 = packet.Length >= IPv4Header && packet[0] >> 4 == 4;
        if (!isIPv4 && packet.Length < IPv6Header)
            return false;
        NetlinkNative.SockAddrIn6 to = default;
        if (isIPv4)
        {
            to.Family = NetlinkNative.AF_INET;
            to.FlowInfoOrIPv4 = MemoryMarshal.Read<uint>(packet[16..]);
        }
        else
        {
            to.Family = NetlinkNative.AF_INET6;
            packet.Slice(24, 16).CopyTo(new Span<byte>(to.Address, 16));
            to.ScopeId = ifindex;
        }
        uint length = isIPv4 ? 16u : (uint)sizeof(NetlinkNative.SockAddrIn6);
        try
        {
            fixed (byte* p = packet)
            {
                return NetlinkNative.SendTo(
                    isIPv4 ? _ipv4 : _ipv6, p, (nuint)packet.Length, 0, &to, length) >= 0;
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

    private sealed class Descriptor : SafeHandleMinusOneIsInvalid
    {
        internal Descriptor(int family)
            : base(ownsHandle: true) => SetHandle(NetlinkNative.Socket(
                family, NetlinkNative.SOCK_RAW | NetlinkNative.SOCK_CLOEXEC | NetlinkNative.SOCK_NONBLOCK,
                NetlinkNative.IPPROTO_RAW));

        protected override bool ReleaseHandle() => NetlinkNative.Close((int)handle) == 0;
    }
}

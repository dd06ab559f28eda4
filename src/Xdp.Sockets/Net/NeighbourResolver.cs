using System.Net;
using System.Net.NetworkInformation;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets.Net;

/// <summary>
/// Where packets to an address go. The next hop is the address itself when it is on the link. The MAC is null while the
/// kernel has none; ask again shortly. The source is the address that the kernel would send from.
/// </summary>
public sealed record NextHop(int Ifindex, IPAddress Address, PhysicalAddress? Mac, IPAddress? Source);

/// <summary>
/// Asks the kernel's routing and neighbour tables, in the network namespace that it was created in. Not thread-safe. A
/// question takes one or two system calls, none of which waits for the network.
/// </summary>
public sealed class NeighbourResolver : IDisposable
{
    private readonly NetlinkSocket _socket = NetlinkSocket.Open();

    /// <returns>Null when there is no route.</returns>
    public NextHop? Resolve(IPAddress remote, int ifindex = 0)
    {
        ArgumentNullException.ThrowIfNull(remote);
        if (remote.IsIPv4MappedToIPv6)
            remote = remote.MapToIPv4();
        if (Route(remote, ifindex) is not { } route)
            return null;
        return route with { Mac = Neighbour(route.Ifindex, route.Address) };
    }

    /// <summary>
    /// Makes the kernel verify the neighbour now, as if it had a packet for it. Where the kernel has no entry, it
    /// starts resolving. Does not wait for the outcome. Without CAP_NET_ADMIN it does nothing.
    /// </summary>
    public void Probe(NextHop hop)
    {
        ArgumentNullException.ThrowIfNull(hop);
        var header = new NetlinkNative.NdMsg
        {
            Family = Family(hop.Address),
            Index = hop.Ifindex,
            Flags = NetlinkNative.NTF_USE,
        };
        _ = _socket.Send(
            NetlinkRequest.Create(NetlinkNative.RTM_NEWNEIGH, dump: false, header, NetlinkNative.NLM_F_CREATE)
                .Add(NetlinkNative.NDA_DST, hop.Address.GetAddressBytes()));
    }

    public void Dispose() => _socket.Dispose();

    private NextHop? Route(IPAddress remote, int ifindex)
    {
        byte[] destination = remote.GetAddressBytes();
        var header = new NetlinkNative.RtMsg
        {
            Family = Family(remote),
            DestinationLength = (byte)(destination.Length * 8),
        };
        NetlinkRequest request = NetlinkRequest.Create(NetlinkNative.RTM_GETROUTE, dump: false, header)
            .Add(NetlinkNative.RTA_DST, destination);
        if (ifindex == 0 && remote.IsIPv6LinkLocal)
            ifindex = (int)remote.ScopeId;
        if (ifindex != 0)
            request.Add(NetlinkNative.RTA_OIF, ifindex);

        NextHop? hop = null;
        int result = _socket.Request(request, (type, body) =>
        {
            if (type == NetlinkNative.RTM_NEWROUTE)
                hop = ParseRoute(body, remote);
        });
        return result == 0 ? hop : null;
    }

    private static NextHop? ParseRoute(ReadOnlySpan<byte> body, IPAddress remote)
    {
        const byte Unicast = 1, Local = 2; // enum rtn_type
        if (MemoryMarshal.Read<NetlinkNative.RtMsg>(body).Type is not (Unicast or Local))
            return null;
        int ifindex = 0;
        IPAddress next = remote;
        IPAddress? source = null;
        var attributes = new NetlinkAttributes(body[Marshal.SizeOf<NetlinkNative.RtMsg>()..]);
        while (attributes.MoveNext())
        {
            switch (attributes.Type)
            {
                case NetlinkNative.RTA_OIF: ifindex = attributes.Int32; break;
                case NetlinkNative.RTA_GATEWAY: next = new IPAddress(attributes.Value); break;
                // struct rtvia: a family, then the IPv6 gateway of an IPv4 route.
                case NetlinkNative.RTA_VIA: next = new IPAddress(attributes.Value[2..]); break;
                case NetlinkNative.RTA_PREFSRC: source = new IPAddress(attributes.Value); break;
            }
        }
        return new NextHop(ifindex, next, null, source);
    }

    private PhysicalAddress? Neighbour(int ifindex, IPAddress address)
    {
        const ushort Unusable = NetlinkNative.NUD_INCOMPLETE | NetlinkNative.NUD_FAILED;
        PhysicalAddress? mac = null;
        var header = new NetlinkNative.NdMsg { Family = Family(address), Index = ifindex };
        _ = _socket.Request(
            NetlinkRequest.Create(NetlinkNative.RTM_GETNEIGH, dump: false, header)
                .Add(NetlinkNative.NDA_DST, address.GetAddressBytes()),
            (_, body) =>
            {
                if ((MemoryMarshal.Read<NetlinkNative.NdMsg>(body).State & Unusable) != 0)
                    return;
                var attributes = new NetlinkAttributes(body[Marshal.SizeOf<NetlinkNative.NdMsg>()..]);
                while (attributes.MoveNext())
                {
                    if (attributes.Type == NetlinkNative.NDA_LLADDR)
                        mac = new PhysicalAddress(attributes.Value.ToArray());
                }
            });
        return mac;
    }

    private static byte Family(IPAddress address)
        => address.AddressFamily == AddressFamily.InterNetwork
            ? (byte)NetlinkNative.AF_INET
            : (byte)NetlinkNative.AF_INET6;
}

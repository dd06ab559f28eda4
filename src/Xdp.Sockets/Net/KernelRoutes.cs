using System.Net;
using System.Net.NetworkInformation;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets.Net;

/// <summary>
/// Asks the kernel's routing and neighbour tables, in the network namespace that it was created in. Not thread-safe. A
/// question is one system call or two, none of which waits for the network.
/// </summary>
public sealed class KernelRoutes : IDisposable
{
    /// <summary>Prefixes that are told; see <see cref="RouteDistinctions.Prefixes"/>.</summary>
    public const int MostPrefixes = 65_536;

    private const byte Unicast = 1, Local = 2; // enum rtn_type

    private readonly NetlinkSocket _socket = NetlinkSocket.Open();

    /// <summary>
    /// Would the kernel deliver a packet of the flow, from the peer to this host, that comes in by this interface? It
    /// checks as it would check the packet: reverse path, martians, its own addresses, rules.
    /// </summary>
    /// <exception cref="XdpException">The kernel did not answer.</exception>
    public bool Delivers(in RoutedFlow flow, int ifindex)
    {
        bool delivers = false;
        NetlinkRequest request = Request(flow.Local, flow.Remote, flow.RemotePort, flow.LocalPort)
            .Add(NetlinkNative.RTA_IIF, ifindex);
        Ask(request, body => delivers = MemoryMarshal.Read<NetlinkNative.RtMsg>(body).Type == Local);
        return delivers;
    }

    /// <summary>The way of the flow's packets to the peer.</summary>
    /// <param name="flow">The flow.</param>
    /// <param name="ifindex">They have to leave by this interface; 0 for any.</param>
    /// <returns>Null when there is none: no route, or one that says unreachable, prohibit or blackhole.</returns>
    /// <exception cref="XdpException">The kernel did not answer.</exception>
    public KernelRoute? Find(in RoutedFlow flow, int ifindex = 0)
    {
        NetlinkRequest request = Request(flow.Remote, flow.Local, flow.LocalPort, flow.RemotePort);
        if (ifindex != 0)
            request.Add(NetlinkNative.RTA_OIF, ifindex);
        KernelRoute? route = null;
        IPAddress remote = flow.Remote;
        Ask(request, body => route = ParseRoute(body, remote));
        return route;
    }

    /// <returns>Null while the kernel has none.</returns>
    /// <exception cref="XdpException">The kernel did not answer.</exception>
    public PhysicalAddress? FindNeighbour(int ifindex, IPAddress address)
    {
        ArgumentNullException.ThrowIfNull(address);
        PhysicalAddress? mac = null;
        var header = new NetlinkNative.NdMsg { Family = Family(address), Index = ifindex };
        Ask(
            NetlinkRequest.Create(NetlinkNative.RTM_GETNEIGH, dump: false, header)
                .Add(NetlinkNative.NDA_DST, address.GetAddressBytes()),
            body => mac = ParseNeighbour(body)?.Mac);
        return mac;
    }

    /// <summary>
    /// Makes the kernel verify the neighbour, as if it had a packet for it. Does not wait for the outcome. Without
    /// CAP_NET_ADMIN it does nothing.
    /// </summary>
    /// <param name="ifindex">The interface.</param>
    /// <param name="address">The neighbour's.</param>
    /// <param name="create">If the kernel does not know it, it starts resolving.</param>
    public void Probe(int ifindex, IPAddress address, bool create)
    {
        ArgumentNullException.ThrowIfNull(address);
        var header = new NetlinkNative.NdMsg
        {
            Family = Family(address),
            Index = ifindex,
            Flags = NetlinkNative.NTF_USE,
        };
        ushort flags = create ? NetlinkNative.NLM_F_CREATE : (ushort)0;
        _ = _socket.Send(
            NetlinkRequest.Create(NetlinkNative.RTM_NEWNEIGH, dump: false, header, flags)
                .Add(NetlinkNative.NDA_DST, address.GetAddressBytes()));
    }

    /// <summary>Reads all routing tables and rules.</summary>
    /// <param name="rulesOnly">The tables are known to be too large.</param>
    /// <exception cref="XdpException">The kernel did not answer.</exception>
    public RouteDistinctions ReadDistinctions(bool rulesOnly = false)
    {
        var prefixes = new List<RoutePrefix>();
        bool dependsOnPorts = false;
        HashSet<uint> groups = rulesOnly ? [] : ReadGroups();
        foreach (int family in (int[])[NetlinkNative.AF_INET, NetlinkNative.AF_INET6])
        {
            if (!rulesOnly)
            {
                Dump(
                    NetlinkNative.RTM_GETROUTE, NetlinkNative.RTM_NEWROUTE,
                    new NetlinkNative.RtMsg { Family = (byte)family },
                    body => AddRoute(body, groups, prefixes));
            }
            Dump(
                NetlinkNative.RTM_GETRULE, NetlinkNative.RTM_NEWRULE,
                new NetlinkNative.FibRuleHdr { Family = (byte)family },
                body => dependsOnPorts |= AddRule(body, prefixes));
        }
        return new(rulesOnly || prefixes.Count > MostPrefixes ? null : prefixes, dependsOnPorts);
    }

    // Nexthop objects of several hops.
    private HashSet<uint> ReadGroups()
    {
        var groups = new HashSet<uint>();
        Dump(NetlinkNative.RTM_GETNEXTHOP, NetlinkNative.RTM_NEWNEXTHOP, default(NetlinkNative.NhMsg), body =>
        {
            uint id = 0;
            bool isGroup = false;
            var attributes = new NetlinkAttributes(body[Unsafe.SizeOf<NetlinkNative.NhMsg>()..]);
            while (attributes.MoveNext())
            {
                if (attributes.Type == NetlinkNative.NHA_ID)
                    id = (uint)attributes.Int32;
                isGroup |= attributes.Type == NetlinkNative.NHA_GROUP;
            }
            if (isGroup)
                groups.Add(id);
        });
        return groups;
    }

    public void Dispose() => _socket.Dispose();

    internal static NeighbourEntry? ParseNeighbour(ReadOnlySpan<byte> body)
    {
        var header = MemoryMarshal.Read<NetlinkNative.NdMsg>(body);
        // A bridge's table comes in the same messages.
        if (header.Family is not (NetlinkNative.AF_INET or NetlinkNative.AF_INET6))
            return null;
        IPAddress? address = null;
        PhysicalAddress? mac = null;
        var attributes = new NetlinkAttributes(body[Unsafe.SizeOf<NetlinkNative.NdMsg>()..]);
        while (attributes.MoveNext())
        {
            if (attributes.Type == NetlinkNative.NDA_LLADDR)
                mac = new PhysicalAddress(attributes.Value.ToArray());
            else if (attributes.Type == NetlinkNative.NDA_DST && attributes.Value.Length is 4 or 16)
                address = new IPAddress(attributes.Value);
        }
        bool failed = (header.State & NetlinkNative.NUD_FAILED) != 0;
        bool usable = (header.State & (NetlinkNative.NUD_INCOMPLETE | NetlinkNative.NUD_FAILED)) == 0;
        return address is null ? null : new(header.Index, address, usable ? mac : null, failed);
    }

    private delegate void BodyHandler(ReadOnlySpan<byte> body);

    // No answer: the kernel refuses. It says so with one of these; with any other error it has not answered.
    private void Ask(NetlinkRequest request, BodyHandler onAnswer)
    {
        int result = _socket.Request(request, (_, body) => onAnswer(body));
        if (-result is not (0 or ErrnoNames.EINVAL or ErrnoNames.EXDEV or ErrnoNames.ENETUNREACH
            or ErrnoNames.EHOSTUNREACH or ErrnoNames.EACCES or ErrnoNames.ENODEV or ErrnoNames.ENOENT
            or ErrnoNames.ENETDOWN))
        {
            throw new XdpException("netlink(RTM_GETROUTE)", -result);
        }
    }

    private void Dump<T>(ushort request, ushort answer, in T header, BodyHandler onAnswer) where T : unmanaged
    {
        int result = _socket.Request(
            NetlinkRequest.Create(request, dump: true, header),
            (type, body) =>
            {
                if (type == answer)
                    onAnswer(body);
            });
        if (result < 0)
        {
            string name = request switch
            {
                NetlinkNative.RTM_GETRULE => nameof(NetlinkNative.RTM_GETRULE),
                NetlinkNative.RTM_GETNEXTHOP => nameof(NetlinkNative.RTM_GETNEXTHOP),
                _ => nameof(NetlinkNative.RTM_GETROUTE),
            };
            throw new XdpException($"netlink({name}, dump)", -result);
        }
    }

    private static NetlinkRequest Request(IPAddress to, IPAddress from, ushort fromPort, ushort toPort)
    {
        byte[] destination = to.GetAddressBytes(), source = from.GetAddressBytes();
        var header = new NetlinkNative.RtMsg
        {
            Family = Family(to),
            DestinationLength = (byte)(destination.Length * 8),
            SourceLength = (byte)(source.Length * 8),
        };
        return NetlinkRequest.Create(NetlinkNative.RTM_GETROUTE, dump: false, header)
            .Add(NetlinkNative.RTA_DST, destination)
            .Add(NetlinkNative.RTA_SRC, source)
            .Add(NetlinkNative.RTA_IP_PROTO, [NetlinkNative.IPPROTO_TCP])
            .Add(NetlinkNative.RTA_SPORT, [(byte)(fromPort >> 8), (byte)fromPort])
            .Add(NetlinkNative.RTA_DPORT, [(byte)(toPort >> 8), (byte)toPort]);
    }

    private static KernelRoute? ParseRoute(ReadOnlySpan<byte> body, IPAddress remote)
    {
        var header = MemoryMarshal.Read<NetlinkNative.RtMsg>(body);
        if (header.Type is not (Unicast or Local))
            return null;
        // The kernel marks each answer about IPv4 as cloned.
        uint exception = header.Family == NetlinkNative.AF_INET
            ? NetlinkNative.RTCF_REDIRECTED
            : NetlinkNative.RTM_F_CLONED;
        var route = new KernelRoute(0, remote) { IsException = (header.Flags & exception) != 0 };
        var attributes = new NetlinkAttributes(body[Unsafe.SizeOf<NetlinkNative.RtMsg>()..]);
        while (attributes.MoveNext())
        {
            route = attributes.Type switch
            {
                NetlinkNative.RTA_OIF => route with { Ifindex = attributes.Int32 },
                NetlinkNative.RTA_GATEWAY => route with { NextHop = new IPAddress(attributes.Value) },
                // struct rtvia: a family, then the IPv6 gateway of an IPv4 route.
                NetlinkNative.RTA_VIA => route with { NextHop = new IPAddress(attributes.Value[2..]) },
                // IPv6 routes that a router announces expire as well.
                NetlinkNative.RTA_CACHEINFO when header.Family == NetlinkNative.AF_INET =>
                    route with { IsException = route.IsException || Expires(attributes.Value) },
                NetlinkNative.RTA_ENCAP_TYPE => route with { IsEncapsulated = true },
                NetlinkNative.RTA_METRICS => ParseMetrics(route, attributes.Value),
                _ => route,
            };
        }
        return route;
    }

    // struct rta_cacheinfo: rta_clntref, rta_lastuse, rta_expires.
    private static bool Expires(ReadOnlySpan<byte> cacheInfo) =>
        cacheInfo.Length >= 12 && MemoryMarshal.Read<int>(cacheInfo[8..]) != 0;

    private static KernelRoute ParseMetrics(KernelRoute route, ReadOnlySpan<byte> metrics)
    {
        var attributes = new NetlinkAttributes(metrics);
        while (attributes.MoveNext())
        {
            route = attributes.Type switch
            {
                NetlinkNative.RTAX_MTU => route with { Mtu = attributes.Int32 },
                NetlinkNative.RTAX_ADVMSS => route with { AdvertisedMss = attributes.Int32 },
                NetlinkNative.RTAX_LOCK => route with
                {
                    IsMtuLocked = (attributes.Int32 & 1 << NetlinkNative.RTAX_MTU) != 0,
                },
                _ => route,
            };
        }
        return route;
    }

    private static void AddRoute(ReadOnlySpan<byte> body, HashSet<uint> groups, List<RoutePrefix> prefixes)
    {
        // One more shows that they are too many.
        if (prefixes.Count > MostPrefixes)
            return;
        var header = MemoryMarshal.Read<NetlinkNative.RtMsg>(body);
        IPAddress address = header.Family == NetlinkNative.AF_INET ? IPAddress.Any : IPAddress.IPv6Any;
        bool severalHops = false;
        var attributes = new NetlinkAttributes(body[Unsafe.SizeOf<NetlinkNative.RtMsg>()..]);
        while (attributes.MoveNext())
        {
            switch (attributes.Type)
            {
                case NetlinkNative.RTA_DST: address = new IPAddress(attributes.Value); break;
                case NetlinkNative.RTA_MULTIPATH: severalHops = true; break;
                case NetlinkNative.RTA_NH_ID: severalHops |= groups.Contains((uint)attributes.Int32); break;
            }
        }
        prefixes.Add(new(address, header.DestinationLength, severalHops));
    }

    // Does it go by ports?
    private static bool AddRule(ReadOnlySpan<byte> body, List<RoutePrefix> prefixes)
    {
        var header = MemoryMarshal.Read<NetlinkNative.FibRuleHdr>(body);
        bool ports = false;
        var attributes = new NetlinkAttributes(body[Unsafe.SizeOf<NetlinkNative.FibRuleHdr>()..]);
        while (attributes.MoveNext())
        {
            switch (attributes.Type)
            {
                case NetlinkNative.FRA_DST:
                    prefixes.Add(new(new IPAddress(attributes.Value), header.DestinationLength, false));
                    break;
                case NetlinkNative.FRA_SRC:
                    prefixes.Add(new(new IPAddress(attributes.Value), header.SourceLength, false));
                    break;
                case NetlinkNative.FRA_SPORT_RANGE or NetlinkNative.FRA_DPORT_RANGE:
                    ports = true;
                    break;
            }
        }
        return ports;
    }

    private static byte Family(IPAddress address) => address.AddressFamily == AddressFamily.InterNetwork
        ? (byte)NetlinkNative.AF_INET
        : (byte)NetlinkNative.AF_INET6;
}

using System.Net;
using System.Net.NetworkInformation;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using Xdp.Sockets.Bpf;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets.Net;

/// <summary>Where an address is valid: the kernel's <c>enum rt_scope_t</c>.</summary>
public enum AddressScope : byte
{
    Global = 0,
    Site = 200,
    Link = 253,
    Host = 254,
    Nowhere = 255,
}

/// <summary>
/// An address of an interface. An IPv6 link-local address carries the interface as its scope id. Tentative means that
/// it cannot be used, because duplicate address detection has not ended, or has failed.
/// </summary>
public sealed record InterfaceAddress(IPAddress Address, int PrefixLength, AddressScope Scope, bool IsTentative);

/// <summary>
/// What the kernel tells about one network interface of the calling thread's network namespace, at the time of the
/// call.
/// </summary>
public sealed record NetworkInterfaceInfo
{
    public required int Index { get; init; }

    public required string Name { get; init; }

    /// <summary>Its other names (<c>ip link property add … altname</c>), of up to 127 characters each.</summary>
    public IReadOnlyList<string> AltNames { get; init; } = [];

    /// <summary>All zero for loopback, empty for devices without one (tun).</summary>
    public required PhysicalAddress Mac { get; init; }

    public required int Mtu { get; init; }

    /// <summary>Switched on by the administrator.</summary>
    public required bool IsUp { get; init; }

    /// <summary>Up, and with a carrier.</summary>
    public required bool IsRunning { get; init; }

    public required bool IsLoopback { get; init; }

    /// <summary>"veth", "bridge", "bond", "tun", "vlan", …; null for physical devices and loopback.</summary>
    public required string? Kind { get; init; }

    /// <summary>
    /// The queueing discipline at its root: "noqueue", "fq_codel", …; "noop" before the interface was ever up.
    /// </summary>
    public string? QueueingDiscipline { get; init; }

    /// <summary>The driver's name as ethtool tells it; null where it tells none.</summary>
    public required string? Driver { get; init; }

    /// <summary>
    /// Queues in use: ethtool's channels. Where a driver has no channels, the number that the device was created with.
    /// </summary>
    public required int RxQueues { get; init; }

    public required int TxQueues { get; init; }

    /// <summary>The bridge, bond or VRF it belongs to; 0 for none.</summary>
    public required int MasterIndex { get; init; }

    /// <summary>The interface that it is made on, a VLAN's for instance; the other end of a veth; 0 for none.</summary>
    public int LowerIndex { get; init; }

    /// <summary>
    /// VLAN tags are taken out of what it receives before an XDP program sees it (<c>rx-vlan-offload</c> of ethtool).
    /// </summary>
    public bool StripsVlanTags { get; init; }

    /// <summary>
    /// It may be given TCP packets that are larger than its MTU, whether that is switched on or not
    /// (<c>tx-tcp-segmentation</c> of ethtool). A veth's other end takes that away when it gets an XDP program.
    /// </summary>
    public bool MaySegmentTcp { get; init; }

    /// <summary>The XDP program attached, if any.</summary>
    public required XdpAttachment? Xdp { get; init; }

    public required IReadOnlyList<InterfaceAddress> Addresses { get; init; }

    /// <param name="name">Its name, or one of its other names: no two interfaces share any of these.</param>
    /// <returns>Null when there is no interface of that name.</returns>
    public static NetworkInterfaceInfo? Get(string name) => List().FirstOrDefault(i => i.IsNamed(name));

    /// <returns>Null when there is no interface of that index.</returns>
    public static NetworkInterfaceInfo? Get(int index) => List().FirstOrDefault(i => i.Index == index);

    public static IReadOnlyList<NetworkInterfaceInfo> List()
    {
        using NetlinkSocket socket = NetlinkSocket.Open();
        var links = new List<NetworkInterfaceInfo>();
        int result = socket.Request(
            NetlinkRequest.Create(NetlinkNative.RTM_GETLINK, dump: true, default(NetlinkNative.IfInfoMsg)),
            (type, body) =>
            {
                if (type == NetlinkNative.RTM_NEWLINK)
                    links.Add(ParseLink(body));
            });
        if (result < 0)
            throw new XdpException("netlink(RTM_GETLINK, dump)", -result);

        var addresses = new Dictionary<int, List<InterfaceAddress>>();
        result = socket.Request(
            NetlinkRequest.Create(NetlinkNative.RTM_GETADDR, dump: true, default(NetlinkNative.IfAddrMsg)),
            (type, body) =>
            {
                if (type != NetlinkNative.RTM_NEWADDR || ParseAddress(body, out int index) is not { } address)
                    return;
                if (!addresses.TryGetValue(index, out List<InterfaceAddress>? own))
                    addresses[index] = own = [];
                own.Add(address);
            });
        if (result < 0)
            throw new XdpException("netlink(RTM_GETADDR, dump)", -result);

        using var ethtool = new Ethtool();
        return
        [
            .. links.Select(link => ethtool.Complete(link) with
            {
                Addresses = addresses.GetValueOrDefault(link.Index) ?? [],
            }),
        ];
    }

    /// <summary>
    /// Receive queues in use, as <see cref="RxQueues"/>, for little. The kernel tells of a change on rtnetlink only
    /// where the driver restarts the link for it.
    /// </summary>
    /// <param name="name">The interface's name.</param>
    /// <returns>Null where the driver has no channels, or there is no such interface.</returns>
    public static int? ReadRxQueues(string name)
    {
        using var ethtool = new Ethtool();
        return ethtool.ReadChannels(name)?.Rx;
    }

    /// <summary>Is this its name, or one of its other names?</summary>
    public bool IsNamed(string name) => Name == name || AltNames.Contains(name);

    internal static NetworkInterfaceInfo ParseLink(ReadOnlySpan<byte> body)
    {
        var header = MemoryMarshal.Read<NetlinkNative.IfInfoMsg>(body);
        string name = "";
        PhysicalAddress mac = PhysicalAddress.None;
        int mtu = 0, lower = 0, master = 0, rxQueues = 1, txQueues = 1;
        string? kind = null, qdisc = null;
        XdpAttachment? xdp = null;
        IReadOnlyList<string> altNames = [];

        var attributes = new NetlinkAttributes(body[Unsafe.SizeOf<NetlinkNative.IfInfoMsg>()..]);
        while (attributes.MoveNext())
        {
            switch (attributes.Type)
            {
                case NetlinkNative.IFLA_IFNAME: name = attributes.Text; break;
                case NetlinkNative.IFLA_ADDRESS: mac = new PhysicalAddress(attributes.Value.ToArray()); break;
                case NetlinkNative.IFLA_MTU: mtu = attributes.Int32; break;
                case NetlinkNative.IFLA_LINK: lower = attributes.Int32; break;
                case NetlinkNative.IFLA_QDISC: qdisc = attributes.Text; break;
                case NetlinkNative.IFLA_MASTER: master = attributes.Int32; break;
                case NetlinkNative.IFLA_NUM_RX_QUEUES: rxQueues = attributes.Int32; break;
                case NetlinkNative.IFLA_NUM_TX_QUEUES: txQueues = attributes.Int32; break;
                case NetlinkNative.IFLA_LINKINFO: kind = ParseKind(attributes.Value); break;
                case NetlinkNative.IFLA_PROP_LIST: altNames = ParseAltNames(attributes.Value); break;
                case NetlinkNative.IFLA_XDP: xdp = XdpLink.ParseAttachment(attributes.Value); break;
            }
        }
        return new NetworkInterfaceInfo
        {
            Index = header.Index,
            Name = name,
            AltNames = altNames,
            Mac = mac,
            Mtu = mtu,
            IsUp = (header.Flags & NetlinkNative.IFF_UP) != 0,
            IsRunning = (header.Flags & NetlinkNative.IFF_RUNNING) != 0,
            IsLoopback = (header.Flags & NetlinkNative.IFF_LOOPBACK) != 0,
            Kind = kind,
            QueueingDiscipline = qdisc,
            Driver = null,
            RxQueues = rxQueues,
            TxQueues = txQueues,
            MasterIndex = master,
            LowerIndex = lower,
            Xdp = xdp,
            Addresses = [],
        };
    }

    internal static InterfaceAddress? ParseAddress(ReadOnlySpan<byte> body, out int index)
    {
        var header = MemoryMarshal.Read<NetlinkNative.IfAddrMsg>(body);
        index = header.Index;
        ReadOnlySpan<byte> address = default, local = default;
        uint flags = header.Flags;
        var attributes = new NetlinkAttributes(body[Unsafe.SizeOf<NetlinkNative.IfAddrMsg>()..]);
        while (attributes.MoveNext())
        {
            switch (attributes.Type)
            {
                case NetlinkNative.IFA_ADDRESS: address = attributes.Value; break;
                case NetlinkNative.IFA_LOCAL: local = attributes.Value; break;
                case NetlinkNative.IFA_FLAGS: flags = (uint)attributes.Int32; break;
            }
        }
        // On point-to-point links IFA_ADDRESS is the peer's.
        ReadOnlySpan<byte> own = local.IsEmpty ? address : local;
        if (own.Length is not (4 or 16))
            return null;
        var ip = new IPAddress(own);
        if (ip.IsIPv6LinkLocal)
            ip.ScopeId = header.Index;
        bool tentative = (flags & (NetlinkNative.IFA_F_TENTATIVE | NetlinkNative.IFA_F_DADFAILED)) != 0;
        return new InterfaceAddress(ip, header.PrefixLength, (AddressScope)header.Scope, tentative);
    }

    private static string? ParseKind(ReadOnlySpan<byte> linkInfo)
    {
        var attributes = new NetlinkAttributes(linkInfo);
        while (attributes.MoveNext())
        {
            if (attributes.Type == NetlinkNative.IFLA_INFO_KIND)
                return attributes.Text;
        }
        return null;
    }

    private static List<string> ParseAltNames(ReadOnlySpan<byte> properties)
    {
        var names = new List<string>();
        var attributes = new NetlinkAttributes(properties);
        while (attributes.MoveNext())
        {
            if (attributes.Type == NetlinkNative.IFLA_ALT_IFNAME)
                names.Add(attributes.Text);
        }
        return names;
    }

    /// <summary>The driver's side of an interface.</summary>
    private sealed unsafe class Ethtool : IDisposable
    {
        private static string[]? s_features;

        private readonly int _fd =
            NetlinkNative.Socket(NetlinkNative.AF_INET, NetlinkNative.SOCK_DGRAM | NetlinkNative.SOCK_CLOEXEC, 0);

        internal NetworkInterfaceInfo Complete(NetworkInterfaceInfo link)
        {
            NetlinkNative.EthtoolDrvInfo driver = default;
            driver.Command = NetlinkNative.ETHTOOL_GDRVINFO;
            if (Ask(link.Name, &driver))
                link = link with
                {
                    Driver = Marshal.PtrToStringUTF8((nint)driver.Driver) is { Length: > 0 } name ? name : null,
                };

            if (ReadChannels(link.Name) is { } channels)
                link = link with { RxQueues = channels.Rx, TxQueues = channels.Tx };

            if (IsAvailable(link.Name, "tx-tcp-segmentation"))
                link = link with { MaySegmentTcp = true };

            NetlinkNative.EthtoolValue flags = default;
            flags.Command = NetlinkNative.ETHTOOL_GFLAGS;
            return Ask(link.Name, &flags) && (flags.Data & NetlinkNative.ETH_FLAG_RXVLAN) != 0
                ? link with { StripsVlanTags = true }
                : link;
        }

        // May the feature be switched? struct ethtool_gfeatures: command, number of words, then four words for each 32
        // features, the first of which says that.
        private bool IsAvailable(string name, string feature)
        {
            s_features ??= ReadFeatures(name);
            int number = Array.IndexOf(s_features ?? [], feature);
            if (number < 0)
                return false;
            const int MostWords = 8;
            uint* answer = stackalloc uint[2 + MostWords * 4];
            answer[0] = NetlinkNative.ETHTOOL_GFEATURES;
            answer[1] = MostWords;
            return number / 32 < MostWords && Ask(name, answer)
                && (answer[2 + number / 32 * 4] & 1u << number % 32) != 0;
        }

        // In the order of their numbers, which is the kernel's, and the same for all interfaces. Null when it does not
        // tell.
        private string[]? ReadFeatures(string name)
        {
            // struct ethtool_sset_info: command, reserved, a mask of sets, then their sizes.
            uint* sizes = stackalloc uint[5];
            sizes[0] = NetlinkNative.ETHTOOL_GSSET_INFO;
            sizes[2] = 1u << (int)NetlinkNative.ETH_SS_FEATURES;
            if (!Ask(name, sizes) || sizes[2] == 0)
                return null;
            uint count = sizes[4];
            // struct ethtool_gstrings: command, set, number, then the strings.
            byte[] answer = new byte[12 + count * NetlinkNative.ETH_GSTRING_LEN];
            fixed (byte* p = answer)
            {
                ((uint*)p)[0] = NetlinkNative.ETHTOOL_GSTRINGS;
                ((uint*)p)[1] = NetlinkNative.ETH_SS_FEATURES;
                ((uint*)p)[2] = count;
                if (!Ask(name, p))
                    return null;
                string[] features = new string[count];
                for (int i = 0; i < features.Length; i++)
                    features[i] = Marshal.PtrToStringUTF8((nint)(p + 12 + i * NetlinkNative.ETH_GSTRING_LEN))!;
                return features;
            }
        }

        internal (int Rx, int Tx)? ReadChannels(string name)
        {
            NetlinkNative.EthtoolChannels channels = default;
            channels.Command = NetlinkNative.ETHTOOL_GCHANNELS;
            return Ask(name, &channels) && channels.Rx + channels.Tx + channels.Combined > 0
                ? ((int)(channels.Rx + channels.Combined), (int)(channels.Tx + channels.Combined))
                : null;
        }

        public void Dispose()
        {
            if (_fd >= 0)
                _ = NetlinkNative.Close(_fd);
        }

        private bool Ask(string name, void* question)
        {
            NetlinkNative.IfReq request = default;
            Encoding.UTF8.GetBytes(name, new Span<byte>(request.Name, 15));
            request.Data = question;
            return _fd >= 0 && NetlinkNative.Ioctl(_fd, NetlinkNative.SIOCETHTOOL, &request) >= 0;
        }
    }
}

using System.Runtime.InteropServices;

namespace Xdp.Sockets.Interop;

/// <summary>
/// rtnetlink and the ethtool ioctls: calls, structs and numbers. Names are those of linux/netlink.h, rtnetlink.h and
/// ethtool.h.
/// </summary>
internal static unsafe partial class NetlinkNative
{
    internal const int AF_INET = 2, AF_INET6 = 10, AF_NETLINK = 16, SOCK_RAW = 3, SOCK_DGRAM = 2,
        SOCK_NONBLOCK = 0x800,
        SOCK_CLOEXEC = 0x80000, NETLINK_ROUTE = 0, NETLINK_XFRM = 6, NETLINK_NETFILTER = 12;
    internal const int SOL_NETLINK = 270, NETLINK_EXT_ACK = 11;

    internal const ushort NLMSG_ERROR = 2, NLMSG_DONE = 3;
    internal const ushort NLM_F_REQUEST = 1, NLM_F_ACK = 4, NLM_F_CAPPED = 0x100, NLM_F_ACK_TLVS = 0x200,
        NLM_F_DUMP = 0x300, NLM_F_CREATE = 0x400;
    internal const ushort RTM_NEWLINK = 16, RTM_DELLINK = 17, RTM_GETLINK = 18, RTM_SETLINK = 19, RTM_NEWADDR = 20,
        RTM_DELADDR = 21, RTM_GETADDR = 22, RTM_NEWROUTE = 24, RTM_DELROUTE = 25, RTM_GETROUTE = 26, RTM_NEWNEIGH = 28,
        RTM_GETNEIGH = 30, RTM_NEWRULE = 32, RTM_DELRULE = 33, RTM_GETRULE = 34, RTM_NEWQDISC = 36, RTM_DELQDISC = 37,
        RTM_NEWNETCONF = 80, RTM_NEWNEXTHOP = 104, RTM_DELNEXTHOP = 105, RTM_GETNEXTHOP = 106;
    internal const byte NTF_USE = 1;
    internal const uint RTMGRP_LINK = 1, RTMGRP_NEIGH = 4, RTMGRP_TC = 8, RTMGRP_IPV4_IFADDR = 0x10,
        RTMGRP_IPV4_ROUTE = 0x40, RTMGRP_IPV4_RULE = 0x80, RTMGRP_IPV6_IFADDR = 0x100, RTMGRP_IPV6_ROUTE = 0x400;

    // Bits of the groups that have no RTMGRP name: RTNLGRP_IPV6_RULE, RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF,
    // RTNLGRP_NEXTHOP.
    internal const uint IPV6_RULE_GROUP = 1 << 18, IPV4_NETCONF_GROUP = 1 << 23, IPV6_NETCONF_GROUP = 1 << 24,
        NEXTHOP_GROUP = 1u << 31;
    internal const ushort NLA_TYPE_MASK = 0x3fff, NLA_F_NESTED = 0x8000;
    internal const ushort NLMSGERR_ATTR_MSG = 1;

    internal const ushort IFLA_ADDRESS = 1, IFLA_IFNAME = 3, IFLA_MTU = 4, IFLA_LINK = 5, IFLA_QDISC = 6,
        IFLA_MASTER = 10, IFLA_LINKINFO = 18, IFLA_NUM_TX_QUEUES = 31, IFLA_NUM_RX_QUEUES = 32, IFLA_XDP = 43,
        IFLA_PROP_LIST = 52, IFLA_ALT_IFNAME = 53;
    internal const ushort IFLA_INFO_KIND = 1;
    internal const ushort IFLA_XDP_FD = 1, IFLA_XDP_ATTACHED = 2, IFLA_XDP_FLAGS = 3, IFLA_XDP_PROG_ID = 4;
    internal const ushort IFA_ADDRESS = 1, IFA_LOCAL = 2, IFA_FLAGS = 8;
    internal const ushort RTA_DST = 1, RTA_SRC = 2, RTA_IIF = 3, RTA_OIF = 4, RTA_GATEWAY = 5,
        RTA_METRICS = 8, RTA_MULTIPATH = 9, RTA_CACHEINFO = 12, RTA_VIA = 18, RTA_ENCAP_TYPE = 21, RTA_IP_PROTO = 27,
        RTA_SPORT = 28, RTA_DPORT = 29, RTA_NH_ID = 30;
    internal const ushort NHA_ID = 1, NHA_GROUP = 2;
    internal const uint RTM_F_CLONED = 0x200, RTCF_REDIRECTED = 0x40000;
    internal const ushort RTAX_LOCK = 1, RTAX_MTU = 2, RTAX_ADVMSS = 8;
    internal const ushort FRA_DST = 1, FRA_SRC = 2, FRA_SPORT_RANGE = 23, FRA_DPORT_RANGE = 24;
    internal const byte IPPROTO_TCP = 6, IPPROTO_RAW = 255;
    internal const int IPPROTO_IP = 0, IPPROTO_IPV6 = 41, IP_PKTINFO = 8, IPV6_PKTINFO = 50;
    internal const ushort NDA_DST = 1, NDA_LLADDR = 2;
    internal const uint IFF_UP = 1, IFF_LOOPBACK = 8, IFF_RUNNING = 0x40;
    internal const uint IFA_F_TENTATIVE = 0x40, IFA_F_DADFAILED = 0x08;
    internal const ushort NUD_INCOMPLETE = 1, NUD_FAILED = 0x20, NUD_NOARP = 0x40;

    // In milliseconds.
    private const int PollAgainAfter = 50;

    internal const nuint SIOCETHTOOL = 0x8946;
    internal const uint ETHTOOL_GDRVINFO = 3, ETHTOOL_GFLAGS = 0x25, ETHTOOL_GCHANNELS = 0x3c,
        ETHTOOL_GSTRINGS = 0x1b, ETHTOOL_GSSET_INFO = 0x37, ETHTOOL_GFEATURES = 0x3a;
    internal const uint ETH_SS_FEATURES = 4, ETH_GSTRING_LEN = 32;
    internal const uint ETH_FLAG_RXVLAN = 1 << 8;

    internal const short POLLIN = 1;

    [LibraryImport("libc", EntryPoint = "socket", SetLastError = true)]
    internal static partial int Socket(int family, int type, int protocol);

    [LibraryImport("libc", EntryPoint = "bind", SetLastError = true)]
    internal static partial int Bind(int fd, SockAddrNl* address, uint length);

    [LibraryImport("libc", EntryPoint = "setsockopt", SetLastError = true)]
    internal static partial int SetSockOpt(int fd, int level, int option, int* value, uint length);

    [LibraryImport("libc", EntryPoint = "send", SetLastError = true)]
    internal static partial nint Send(int fd, void* buffer, nuint length, int flags);

    [LibraryImport("libc", EntryPoint = "recv", SetLastError = true)]
    internal static partial nint Recv(int fd, void* buffer, nuint length, int flags);

    [LibraryImport("libc", EntryPoint = "sendmsg", SetLastError = true)]
    internal static partial nint SendMsg(SafeHandle socket, MsgHdr* message, int flags);

    [LibraryImport("libc", EntryPoint = "poll", SetLastError = true)]
    private static partial int Poll(PollFd* fds, nuint count, int timeout);

    /// <summary>
    /// poll(), which rests for a moment when it fails, since it is asked again at once: the kernel is short of memory.
    /// </summary>
    internal static int Wait(PollFd* fds, nuint count, int timeout)
    {
        int ready = Poll(fds, count, timeout);
        if (ready < 0)
            Thread.Sleep(PollAgainAfter);
        return ready;
    }

    [LibraryImport("libc", EntryPoint = "ioctl", SetLastError = true)]
    internal static partial int Ioctl(int fd, nuint request, void* argument);

    [LibraryImport("libc", EntryPoint = "close")]
    internal static partial int Close(int fd);

    internal struct SockAddrNl
    {
        internal ushort Family, Padding;
        internal uint PortId, Groups;
    }

    /// <summary><c>struct sockaddr_in6</c>; of its first bytes also <c>struct sockaddr_in</c>.</summary>
    internal struct SockAddrIn6
    {
        internal ushort Family, Port;
        internal uint FlowInfoOrIPv4;
        internal fixed byte Address[16];
        internal int ScopeId;
    }

    /// <summary><c>struct msghdr</c>.</summary>
    internal struct MsgHdr
    {
        internal void* Name;
        internal uint NameLength;
        internal IoVec* Parts;
        internal nuint PartCount;
        internal void* Control;
        internal nuint ControlLength;
        internal int Flags;
    }

    internal struct IoVec
    {
        internal void* Base;
        internal nuint Length;
    }

    /// <summary><c>struct cmsghdr</c> with a <c>struct in_pktinfo</c> or <c>struct in6_pktinfo</c>.</summary>
    internal struct PacketInfo
    {
        internal const int MostInfo = 24;

        internal nuint Length;
        internal int Level, Type;
        internal fixed byte Info[MostInfo];
    }

    internal struct NlMsgHdr
    {
        internal uint Length;
        internal ushort Type, Flags;
        internal uint Sequence, PortId;
    }

    internal struct IfInfoMsg
    {
        internal byte Family, Padding;
        internal ushort Type;
        internal int Index;
        internal uint Flags, Change;
    }

    internal struct IfAddrMsg
    {
        internal byte Family, PrefixLength, Flags, Scope;
        internal int Index;
    }

    internal struct RtMsg
    {
        internal byte Family, DestinationLength, SourceLength, Tos, Table, Protocol, Scope, Type;
        internal uint Flags;
    }

    internal struct NhMsg
    {
        internal byte Family, Scope, Protocol, Reserved;
        internal uint Flags;
    }

    internal struct FibRuleHdr
    {
        internal byte Family, DestinationLength, SourceLength, Tos, Table, Reserved1, Reserved2, Action;
        internal uint Flags;
    }

    internal struct NdMsg
    {
        internal byte Family, Padding1;
        internal ushort Padding2;
        internal int Index;
        internal ushort State;
        internal byte Flags, Type;
    }

    internal struct PollFd
    {
        internal int Fd;
        internal short Events, Revents;
    }

    /// <summary><c>struct ifreq</c> of the ioctls that take a pointer.</summary>
    internal struct IfReq
    {
        internal fixed byte Name[16];
        internal void* Data;
        private fixed byte _rest[16];
    }

    internal struct EthtoolDrvInfo
    {
        internal uint Command;
        internal fixed byte Driver[32];
        internal fixed byte Rest[160];
    }

    internal struct EthtoolValue
    {
        internal uint Command, Data;
    }

    internal struct EthtoolChannels
    {
        internal uint Command, MaxRx, MaxTx, MaxOther, MaxCombined, Rx, Tx, Other, Combined;
    }
}

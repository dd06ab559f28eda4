using System.Net;
using System.Net.NetworkInformation;
using System.Runtime.InteropServices;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets.Net;

public enum NetworkChangeKind
{
    /// <summary>
    /// The interface can carry packets now: it is up and has a carrier. Also reported for a new interface that can.
    /// </summary>
    LinkUp,

    /// <summary>The interface cannot carry packets any more.</summary>
    LinkDown,

    /// <summary>Anything else about an interface: its MTU, MAC, name, master.</summary>
    LinkChanged,

    /// <summary>The interface is gone, or went to another network namespace.</summary>
    LinkRemoved,

    AddressAdded,

    AddressRemoved,

    /// <summary>A route, a rule, or what a packet's source is checked by.</summary>
    RouteChanged,

    /// <summary>What the kernel knows of a neighbour: it has found it, or has not.</summary>
    NeighbourChanged,

    /// <summary>A queueing discipline of an interface (tc) was added, changed or removed.</summary>
    QueueingChanged,

    /// <summary>Messages were lost, so what is known may be out of date. Read everything again.</summary>
    Overrun,
}

/// <summary>A neighbour, as the kernel knows it.</summary>
/// <param name="Ifindex">The interface that it is on.</param>
/// <param name="Address">Its IP address.</param>
/// <param name="Mac">Null while the kernel has none.</param>
/// <param name="HasFailed">It has not answered.</param>
public sealed record NeighbourEntry(int Ifindex, IPAddress Address, PhysicalAddress? Mac, bool HasFailed);

/// <summary>
/// A change of the network. Only a change of an address has an address, and only a change of a link has a name.
/// </summary>
public sealed record NetworkChange(
    NetworkChangeKind Kind, int Ifindex, string? Name = null, InterfaceAddress? Address = null)
{
    /// <summary>
    /// With a change of a link: it is switched on by the administrator, whether it can carry packets or not.
    /// </summary>
    public bool IsUp { get; init; }

    /// <summary>With a change of a neighbour.</summary>
    public NeighbourEntry? Neighbour { get; init; }
}

/// <summary>
/// Reports link and address changes of the network namespace that it was created in, and those of routes where they are
/// asked for. It has a thread of its own, which calls the handler in the order of the kernel's messages. A handler that
/// blocks makes the kernel drop messages (<see cref="NetworkChangeKind.Overrun"/>). Changes before the constructor
/// returned are not reported: create the watcher first, then list.
/// </summary>
public sealed unsafe class NetworkWatcher : IDisposable
{
    private readonly NetlinkSocket _socket;
    private readonly EventFd _stop = new();
    private readonly Thread _thread;
    private readonly Action<NetworkChange> _changed;
    private readonly Dictionary<int, bool> _running = [];
    private int _disposed;

    /// <summary>Starts at once. An exception that the handler throws ends the process, as on any thread.</summary>
    /// <param name="changed">The handler.</param>
    /// <param name="routes">Routes, rules and neighbours too.</param>
    public NetworkWatcher(Action<NetworkChange> changed, bool routes = false)
    {
        const uint ofRoutes = NetlinkNative.RTMGRP_NEIGH
            | NetlinkNative.RTMGRP_IPV4_ROUTE | NetlinkNative.RTMGRP_IPV6_ROUTE
            | NetlinkNative.RTMGRP_IPV4_RULE | NetlinkNative.IPV6_RULE_GROUP
            | NetlinkNative.IPV4_NETCONF_GROUP | NetlinkNative.IPV6_NETCONF_GROUP | NetlinkNative.NEXTHOP_GROUP;
        _changed = changed;
        _socket = NetlinkSocket.Open(
            NetlinkNative.RTMGRP_LINK | NetlinkNative.RTMGRP_TC
            | NetlinkNative.RTMGRP_IPV4_IFADDR | NetlinkNative.RTMGRP_IPV6_IFADDR
            | (routes ? ofRoutes : 0));
        try
        {
            // Read after the socket has begun to listen. A link that changes in between is then reported once more,
            // rather than missed.
            foreach (NetworkInterfaceInfo link in NetworkInterfaceInfo.List())
                _running[link.Index] = link.IsRunning;
            _thread = new Thread(Run) { IsBackground = true, Name = "xdp network watcher" };
            _thread.Start();
        }
        catch
        {
            _socket.Dispose();
            _stop.Dispose();
            throw;
        }
    }

    /// <summary>No handler runs any more once this returns, unless it is called from the handler.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
            return;
        _stop.Signal();
        if (Thread.CurrentThread != _thread)
            _thread.Join();
    }

    private void Run()
    {
        var fds = stackalloc NetlinkNative.PollFd[2];
        fds[0] = new NetlinkNative.PollFd { Fd = _socket.Fd, Events = NetlinkNative.POLLIN };
        fds[1] = new NetlinkNative.PollFd { Fd = _stop.Descriptor, Events = NetlinkNative.POLLIN };
        while (true)
        {
            int ready = NetlinkNative.Wait(fds, 2, -1);
            if (Volatile.Read(ref _disposed) != 0)
                break;
            if (ready <= 0 || fds[0].Revents == 0)
                continue;
            ReadOnlySpan<byte> messages = _socket.Receive(out int error);
            // Whatever the reason is, news may be lost.
            if (error != 0)
                _changed(new NetworkChange(NetworkChangeKind.Overrun, 0));
            while (Volatile.Read(ref _disposed) == 0
                && NetlinkSocket.TryTake(ref messages, out NetlinkNative.NlMsgHdr header, out ReadOnlySpan<byte> body))
            {
                if (Interpret(header.Type, body) is { } change)
                    _changed(change);
            }
        }
        _socket.Dispose();
        _stop.Dispose();
    }

    private NetworkChange? Interpret(ushort type, ReadOnlySpan<byte> body)
    {
        switch (type)
        {
            case NetlinkNative.RTM_NEWLINK:
                // A bridge reports its ports in messages of family AF_BRIDGE. They are not about the link.
                if (body[0] != 0)
                    return null;
                NetworkInterfaceInfo link = NetworkInterfaceInfo.ParseLink(body);
                bool was = _running.TryGetValue(link.Index, out bool running) && running;
                _running[link.Index] = link.IsRunning;
                NetworkChangeKind kind = link.IsRunning == was ? NetworkChangeKind.LinkChanged
                    : link.IsRunning ? NetworkChangeKind.LinkUp : NetworkChangeKind.LinkDown;
                return new NetworkChange(kind, link.Index, link.Name) { IsUp = link.IsUp };

            case NetlinkNative.RTM_DELLINK:
                if (body[0] != 0)
                    return null;
                NetworkInterfaceInfo gone = NetworkInterfaceInfo.ParseLink(body);
                _running.Remove(gone.Index);
                return new NetworkChange(NetworkChangeKind.LinkRemoved, gone.Index, gone.Name);

            case NetlinkNative.RTM_NEWADDR or NetlinkNative.RTM_DELADDR:
                if (NetworkInterfaceInfo.ParseAddress(body, out int index) is not { } address)
                    return null;
                return new NetworkChange(
                    type == NetlinkNative.RTM_NEWADDR
                        ? NetworkChangeKind.AddressAdded
                        : NetworkChangeKind.AddressRemoved,
                    index, null, address);

            case NetlinkNative.RTM_NEWQDISC or NetlinkNative.RTM_DELQDISC:
                // struct tcmsg: a family, three bytes of nothing, the interface.
                return new NetworkChange(NetworkChangeKind.QueueingChanged, MemoryMarshal.Read<int>(body[4..]));

            case NetlinkNative.RTM_NEWROUTE or NetlinkNative.RTM_DELROUTE
                or NetlinkNative.RTM_NEWRULE or NetlinkNative.RTM_DELRULE or NetlinkNative.RTM_NEWNETCONF
                or NetlinkNative.RTM_NEWNEXTHOP or NetlinkNative.RTM_DELNEXTHOP:
                return new NetworkChange(NetworkChangeKind.RouteChanged, 0);

            case NetlinkNative.RTM_NEWNEIGH:
                if (KernelRoutes.ParseNeighbour(body) is not { } neighbour
                    || (neighbour.Mac is null && !neighbour.HasFailed))
                    return null;
                return new NetworkChange(NetworkChangeKind.NeighbourChanged, neighbour.Ifindex)
                {
                    Neighbour = neighbour,
                };

            default:
                return null;
        }
    }
}

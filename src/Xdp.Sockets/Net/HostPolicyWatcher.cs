using Xdp.Sockets.Interop;

namespace Xdp.Sockets.Net;

/// <summary>
/// Tells when the <see cref="HostPolicy"/> of the network namespace that it was created in may have changed. nftables,
/// IPsec and traffic control tell at once. The older iptables do not, and are looked at from time to time. It has a
/// thread of its own, which stays in the namespace and calls the handler.
/// </summary>
public sealed unsafe class HostPolicyWatcher : IDisposable
{
    // Bits of NFNLGRP_NFTABLES, XFRMNLGRP_POLICY, RTNLGRP_TC
    private const uint NftablesGroup = 1 << 6, PolicyGroup = 1 << 3, TrafficGroup = 1 << 3;

    // Rules come in bursts. And what tells nothing is looked at so often, in milliseconds.
    private const int Settle = 50, LookAgain = 5_000;

    private readonly Action _changed;
    private readonly List<NetlinkSocket> _sockets = [];
    private readonly EventFd _wake = new();
    private readonly Thread _thread;
    private string _older;
    private bool _hearsNfTables;
    private int _disposed, _woken;

    /// <summary>
    /// What changes from now on is told. An exception that the handler throws ends the process, as on any thread.
    /// </summary>
    /// <exception cref="XdpException">No descriptor is free (EMFILE).</exception>
    public HostPolicyWatcher(Action changed)
    {
        _changed = changed;
        Join(NetlinkNative.NETLINK_XFRM, PolicyGroup);
        Join(NetlinkNative.NETLINK_ROUTE, TrafficGroup);
        JoinNfTables();
        _older = Older();
        _thread = new Thread(Run) { IsBackground = true, Name = "xdp policy watcher" };
        _thread.Start();
    }

    /// <summary>The handler is called as if something had changed. Any thread; without effect after the end.</summary>
    public void Wake()
    {
        Volatile.Write(ref _woken, 1);
        _wake.Signal();
    }

    /// <summary>No handler runs any more once this returns, unless it is called from the handler.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
            return;
        _wake.Signal();
        if (Thread.CurrentThread != _thread)
            _thread.Join();
    }

    private static string Older() => string.Join('\n', IpTables.PassedBy().Concat(IpTables.MayTakePort()));

    // Joining loads the module where it can be loaded, and then there are no rules to hear of.
    private bool JoinNfTables() =>
        _hearsNfTables = NfTables.IsLoaded && Join(NetlinkNative.NETLINK_NETFILTER, NftablesGroup);

    private bool Join(int protocol, uint group)
    {
        try
        {
            _sockets.Add(NetlinkSocket.Open(group, protocol));
            return true;
        }
        catch (XdpException)
        {
            // The kernel does not have it.
            return false;
        }
    }

    private void Run()
    {
        while (Volatile.Read(ref _disposed) == 0)
        {
            bool changed = Wait(LookAgain);
            // The rest of the burst.
            while (changed && Volatile.Read(ref _disposed) == 0 && Wait(Settle))
            {
            }
            // With the module come its first rules.
            changed |= !_hearsNfTables && JoinNfTables();
            changed |= Interlocked.Exchange(ref _woken, 0) != 0;
            if (Older() is var older && older != _older)
            {
                _older = older;
                changed = true;
            }
            if (changed && Volatile.Read(ref _disposed) == 0)
                _changed();
        }
        foreach (NetlinkSocket socket in _sockets)
            socket.Dispose();
        _wake.Dispose();
    }

    // False when nothing has come for so long. Messages that were lost are news as well.
    private bool Wait(int milliseconds)
    {
        var fds = stackalloc NetlinkNative.PollFd[4];
        fds[0] = new NetlinkNative.PollFd { Fd = _wake.Descriptor, Events = NetlinkNative.POLLIN };
        for (int i = 0; i < _sockets.Count; i++)
            fds[i + 1] = new NetlinkNative.PollFd { Fd = _sockets[i].Fd, Events = NetlinkNative.POLLIN };
        if (NetlinkNative.Wait(fds, (nuint)_sockets.Count + 1, milliseconds) <= 0)
            return false;
        _wake.Drain();
        bool any = false;
        for (int i = 0; i < _sockets.Count; i++)
        {
            if (fds[i + 1].Revents == 0)
                continue;
            _ = _sockets[i].Receive(out _);
            any = true;
        }
        return any;
    }
}

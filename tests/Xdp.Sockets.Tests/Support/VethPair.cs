using Shared;
using Xdp.Sockets.Tests.Net;

namespace Xdp.Sockets.Tests.Support;

/// <summary>
/// A network namespace of its own with a veth pair of one queue each: the socket under test sits on <see cref="Near"/>,
/// its peer on <see cref="Far"/>. IPv6 is off, so that nothing travels but what the test sends.
/// </summary>
internal sealed class VethPair : IDisposable
{
    private readonly TestNetwork _network = new();

    private VethPair()
    {
        try
        {
            _network.Exec("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
            _network.Ip(
                "link add near numtxqueues 1 numrxqueues 1 type veth peer name far numtxqueues 1 numrxqueues 1");
            SetLink("near", "up");
            SetLink("far", "up");
            (Near, Far) = Run(() => ((int)TestNative.if_nametoindex("near"), (int)TestNative.if_nametoindex("far")));
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    internal int Near { get; }

    internal int Far { get; }

    internal string Path => _network.Path;

    internal static VethPair Create()
    {
        Require.Root();
        return new VethPair();
    }

    /// <summary>Runs code inside the namespace. Sockets it makes stay there, and work from any thread.</summary>
    internal T Run<T>(Func<T> function) => _network.Run(function);

    internal Xsk Open(Umem umem, XskOptions options, params ulong[] fill) => Run(() => Xsk.Open(umem, options, fill));

    internal PacketSocket OpenPeer(ushort etherType = PacketSocket.EtherType) =>
        Run(() => new PacketSocket(Far, etherType));

    internal void Exec(string command) => _network.Exec(command);

    internal void SetLink(string name, string state) => _network.Ip($"link set {name} {state}");

    /// <summary>Of both ends.</summary>
    internal void SetMtu(int mtu)
    {
        _network.Ip($"link set near mtu {mtu}");
        _network.Ip($"link set far mtu {mtu}");
    }

    internal void DeleteLink() => _network.Ip("link del near");

    public void Dispose() => _network.Dispose();
}

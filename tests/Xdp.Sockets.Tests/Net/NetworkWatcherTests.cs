using System.Collections.Concurrent;
using System.Net;
using Xdp.Sockets.Net;

namespace Xdp.Sockets.Tests.Net;

public class NetworkWatcherTests
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(5);

    public NetworkWatcherTests() => TestNetwork.Require();

    [SkippableFact]
    public void Changes_AreToldInOrder()
    {
        using var network = new TestNetwork();
        using var changes = new BlockingCollection<NetworkChange>();
        using NetworkWatcher watcher = network.Run(() => new NetworkWatcher(changes.Add));

        network.Ip("link add v0 type veth peer name v1");
        network.Ip("link set v0 up");
        network.Ip("link set v1 up");
        int index = network.Run(() => NetworkInterfaceInfo.Get("v0")!.Index);
        Assert.Equal(index, Next(changes, c => c is { Kind: NetworkChangeKind.LinkUp, Name: "v0" }).Ifindex);

        network.Ip("addr add 10.0.0.1/24 dev v0");
        NetworkChange added = Next(changes, c => c.Kind == NetworkChangeKind.AddressAdded
            && c.Address!.Address.Equals(IPAddress.Parse("10.0.0.1")));
        Assert.Equal((index, 24), (added.Ifindex, added.Address!.PrefixLength));
        network.Ip("addr del 10.0.0.1/24 dev v0");
        Next(changes, c => c.Kind == NetworkChangeKind.AddressRemoved
            && c.Address!.Address.Equals(IPAddress.Parse("10.0.0.1")));
        network.Ip("addr add fd00::1/64 dev v0");
        Next(changes, c => c.Kind == NetworkChangeKind.AddressAdded
            && c.Address!.Address.Equals(IPAddress.Parse("fd00::1")));

        network.Ip("link set v0 mtu 1300");
        Next(changes, c => c is { Kind: NetworkChangeKind.LinkChanged, Name: "v0" });
        network.Ip("link set v1 down");
        Next(changes, c => c is { Kind: NetworkChangeKind.LinkDown, Name: "v0", IsUp: true });
        network.Ip("link set v1 up");
        Next(changes, c => c is { Kind: NetworkChangeKind.LinkUp, Name: "v0", IsUp: true });
        network.Ip("link set v0 down");
        Next(changes, c => c is { Kind: NetworkChangeKind.LinkDown, Name: "v0", IsUp: false });
        network.Ip("link set v0 up");
        Next(changes, c => c is { Kind: NetworkChangeKind.LinkUp, Name: "v0", IsUp: true });
        network.Ip("link del v0");
        Next(changes, c => c is { Kind: NetworkChangeKind.LinkRemoved, Name: "v0" });
    }

    [SkippableFact]
    public void DeviceMovedAway_IsRemoved()
    {
        using var network = new TestNetwork();
        using var other = new TestNetwork();
        using var changes = new BlockingCollection<NetworkChange>();
        network.Ip("link add v0 type veth peer name v1");
        using NetworkWatcher watcher = network.Run(() => new NetworkWatcher(changes.Add));
        network.Ip($"link set v0 netns {other.Name}");
        Next(changes, c => c is { Kind: NetworkChangeKind.LinkRemoved, Name: "v0" });
    }

    [SkippableFact]
    public void Disposed_TellsNothingMore()
    {
        using var network = new TestNetwork();
        int told = 0;
        NetworkWatcher watcher = network.Run(() => new NetworkWatcher(_ => Interlocked.Increment(ref told)));
        watcher.Dispose();
        watcher.Dispose();
        int before = told;
        network.Ip("link add v0 type veth peer name v1");
        Assert.Equal(before, told);
    }

    [SkippableFact]
    public void Disposed_FromItsHandler_DoesNotHang()
    {
        using var network = new TestNetwork();
        using var called = new ManualResetEventSlim();
        NetworkWatcher? watcher = null;
        watcher = network.Run(() => new NetworkWatcher(_ =>
        {
            watcher?.Dispose();
            called.Set();
        }));
        network.Ip("link add v0 type veth peer name v1");
        Assert.True(called.Wait(s_patience));
    }

    private static NetworkChange Next(BlockingCollection<NetworkChange> changes, Func<NetworkChange, bool> wanted)
    {
        var seen = new List<NetworkChange>();
        while (changes.TryTake(out NetworkChange? change, s_patience))
        {
            if (wanted(change))
                return change;
            seen.Add(change);
        }
        Assert.Fail($"Not told; instead: {string.Join("; ", seen)}");
        return null!;
    }
}

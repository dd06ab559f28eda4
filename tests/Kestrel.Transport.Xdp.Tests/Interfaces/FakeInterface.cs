using System.Net;
using System.Net.NetworkInformation;
using Kestrel.Transport.Xdp.Internal.Interfaces;
using Kestrel.Transport.Xdp.Internal.Options;
using Kestrel.Transport.Xdp.Internal.Queues;
using Kestrel.Transport.Xdp.Internal.Steering;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Xdp.Sockets;
using Xdp.Sockets.Net;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Tests.Interfaces;

/// <summary>
/// The maps of a program and the stacks of its queues, without a kernel. Keeps what is in them, and writes down each
/// change in its order.
/// </summary>
internal sealed class FakeInterface : ISteeringMaps, IListeningStacks
{
    internal List<string> Changes { get; } = [];

    internal IReadOnlyDictionary<EndpointPeers, bool> PeersElsewhere { get; private set; } =
        new Dictionary<EndpointPeers, bool>();

    internal Dictionary<string, SteeringMode> Endpoints { get; } = [];

    internal Dictionary<string, ListeningEndpoint> Listeners { get; } = [];

    internal Dictionary<int, long> SynRates { get; } = [];

    /// <summary>How many endpoints the map takes.</summary>
    internal int Capacity { get; set; } = int.MaxValue;

    /// <summary>The errno that removing an endpoint fails with; 0 when it does not.</summary>
    internal int RemovalFails { get; set; }

    /// <summary>The errno that a SYN rate is refused with; 0 when it is not.</summary>
    internal int SynRateFails { get; set; }

    /// <summary>Endpoints that the stacks have connections of.</summary>
    internal HashSet<string> InUse { get; } = [];

    /// <summary>How often the map has refused something.</summary>
    internal int Refusals { get; private set; }

    /// <summary>The changes since the last call.</summary>
    internal string[] TakeChanges()
    {
        string[] changes = [.. Changes];
        Changes.Clear();
        return changes;
    }

    public void SetEndpoint(IPAddress local, int port, int vlan, SteeringMode mode)
    {
        if (!Endpoints.ContainsKey($"{local}:{port}") && Endpoints.Count >= Capacity)
            throw Refusal("BPF_MAP_UPDATE_ELEM", 7, $"The map is full: it takes {Capacity} entries"); // E2BIG
        Endpoints[$"{local}:{port}"] = mode;
        Changes.Add($"{local}:{port} {mode}");
    }

    public bool RemoveEndpoint(IPAddress local, int port, int vlan)
    {
        if (RemovalFails != 0)
            throw Refusal("BPF_MAP_DELETE_ELEM", RemovalFails, hint: null);
        Changes.Add($"{local}:{port} removed");
        return Endpoints.Remove($"{local}:{port}");
    }

    public void SetSynRate(int queue, long perSecond, long burst)
    {
        if (SynRateFails != 0)
            throw Refusal("BPF_MAP_UPDATE_ELEM", SynRateFails, hint: null);
        SynRates[queue] = perSecond;
    }

    public void SetPeersElsewhere(IReadOnlyDictionary<EndpointPeers, bool> peers)
    {
        Changes.Add("peers elsewhere");
        PeersElsewhere = peers;
    }

    public void SetXsk(int queue, int xsk) => throw new NotSupportedException();

    public bool ClearXsk(int queue) => throw new NotSupportedException();

    public void Listen(IpAddr address, ushort port, ListeningEndpoint endpoint)
    {
        // As a stack does: who listens already stays.
        Listeners.TryAdd($"{address}:{port}", endpoint);
        Changes.Add($"{address}:{port} listen");
    }

    public void StopListening(IpAddr address, ushort port)
    {
        Listeners.Remove($"{address}:{port}");
        Changes.Add($"{address}:{port} stop");
    }

    IReadOnlySet<(IpAddr Address, ushort Port)> IListeningStacks.InUse(
        IReadOnlySet<(IpAddr Address, ushort Port)> ends) =>
        ends.Where(end => InUse.Contains($"{end.Address}:{end.Port}")).ToHashSet();

    private XdpException Refusal(string command, int errno, string? hint)
    {
        Refusals++;
        return new XdpException($"bpf({command}, map \"endpoints\")", errno, hint);
    }

    internal static NetworkInterfaceInfo Device(string name = "eth7", int queues = 1, int mtu = 1500) => new()
    {
        Index = 7,
        Name = name,
        Mac = PhysicalAddress.Parse("02:00:00:00:00:01"),
        Mtu = mtu,
        IsUp = true,
        IsRunning = true,
        IsLoopback = false,
        Kind = null,
        Driver = null,
        RxQueues = queues,
        TxQueues = queues,
        MasterIndex = 0,
        Xdp = null,
        Addresses = [],
    };

    internal static InterfaceSettings Settings(XdpTransportOptions? options = null) =>
        InterfaceSettings.From(
            options ?? new XdpTransportOptions(), new SocketTransportOptions(), TcpSysctls.None);
}

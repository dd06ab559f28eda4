using System.Net;
using System.Net.NetworkInformation;
using Kestrel.Transport.Xdp.Internal.Interfaces;
using Kestrel.Transport.Xdp.Internal.Options;
using Kestrel.Transport.Xdp.Internal.Queues;
using Kestrel.Transport.Xdp.Internal.Steering;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
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

    internal Dictionary<string, SteeringMode> Endpoints { get; } = [];

    internal Dictionary<string, ListeningEndpoint> Listeners { get; } = [];

    internal Dictionary<int, long> SynRates { get; } = [];

    /// <summary>The changes since the last call.</summary>
    internal string[] TakeChanges()
    {
        string[] changes = [.. Changes];
        Changes.Clear();
        return changes;
    }

    public void SetEndpoint(IPAddress local, int port, int vlan, SteeringMode mode)
    {
        Endpoints[$"{local}:{port}"] = mode;
        Changes.Add($"{local}:{port} {mode}");
    }

    public bool RemoveEndpoint(IPAddress local, int port, int vlan)
    {
        Changes.Add($"{local}:{port} removed");
        return Endpoints.Remove($"{local}:{port}");
    }

    public void SetSynRate(int queue, long perSecond, long burst) => SynRates[queue] = perSecond;

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

    internal static NetworkInterfaceInfo Device(string name = "eth7", int queues = 1) => new()
    {
        Index = 7,
        Name = name,
        Mac = PhysicalAddress.Parse("02:00:00:00:00:01"),
        Mtu = 1500,
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
        InterfaceSettings.From(options ?? new XdpTransportOptions(), new SocketTransportOptions());
}

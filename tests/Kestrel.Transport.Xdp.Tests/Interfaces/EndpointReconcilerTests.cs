using System.Buffers;
using System.Net;
using System.Threading.Channels;
using Kestrel.Transport.Xdp.Internal.Interfaces;
using Kestrel.Transport.Xdp.Internal.Options;
using Kestrel.Transport.Xdp.Internal.Queues;
using Kestrel.Transport.Xdp.Internal.Steering;
using Kestrel.Transport.Xdp.Tests.Support;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Microsoft.Extensions.Logging.Abstractions;
using Xdp.Sockets.Net;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Tests.Interfaces;

public class EndpointReconcilerTests
{
    private const string V4 = "10.0.0.1:80", OtherV4 = "10.0.0.2:80", V6 = "2001:db8::1:80";

    private readonly FakeInterface _interface = new();
    private readonly EndpointReconciler _endpoints;
    private readonly List<IReadOnlySet<int>> _asked = [];
    private HashSet<(IpAddr, int)>? _kernel = [];
    private string[] _addresses = ["10.0.0.1"];
    private string[] _elsewhere = [];
    private bool _allQueues = true, _wildcardsTakeAll;
    private long _now = 1_000_000;

    private readonly CollectingLogger _log = new();

    public EndpointReconcilerTests() =>
        _endpoints = new EndpointReconciler("eth7", _interface, KernelConnections, _log);

    [Fact]
    public void NewEndpoint_StackListensBeforeItIsSteered()
    {
        Serve("10.0.0.1:80");
        Assert.Equal([$"{V4} listen", $"{V4} Mixed"], _interface.TakeChanges());
        Reconcile();
        Assert.Empty(_interface.Changes);
    }

    [Fact]
    public void Wildcard_IsExpandedToAddressesOfTheInterface()
    {
        _addresses = ["10.0.0.1", "10.0.0.2", "2001:db8::1"];
        Serve("0.0.0.0:80");
        Assert.Equal([V4, OtherV4], _interface.Endpoints.Keys.Order());
        Serve("[::]:81");
        string[] added = ["10.0.0.1:81", "10.0.0.2:81", "2001:db8::1:81"];
        Assert.Equal([V4, OtherV4, .. added], _interface.Endpoints.Keys.OrderBy(k => k[^2..]).ThenBy(k => k));
    }

    [Fact]
    public void WithoutAnAddress_IsNotServed_UntilItComes()
    {
        _addresses = [];
        EndpointBinding binding = Serve("0.0.0.0:80");
        Assert.False(_endpoints.IsServed(binding));
        AssertChanges(begun: [], ended: []);

        _addresses = ["2001:db8::1"];
        Reconcile();
        AssertChanges(begun: [], ended: []);

        _addresses = ["10.0.0.1", "2001:db8::1"];
        Reconcile();
        Assert.True(_endpoints.IsServed(binding));
        AssertChanges(begun: [binding], ended: []);
        AssertChanges(begun: [], ended: []);

        _addresses = [];
        Reconcile();
        Assert.False(_endpoints.IsServed(binding));
        AssertChanges(begun: [], ended: [binding]);
    }

    [Fact]
    public void TentativeAddress_IsNotServed()
    {
        EndpointBinding binding = Binding("[::]:80");
        _endpoints.Add(binding);
        _endpoints.Reconcile(
            Served with { Addresses = [Address("2001:db8::1") with { IsTentative = true }] }, _now);
        Assert.False(_endpoints.IsServed(binding));
    }

    [Fact]
    public void Draining_IsNoChange()
    {
        EndpointBinding binding = Serve("0.0.0.0:80");
        AssertChanges(begun: [binding], ended: []);
        binding.Drain();
        Reconcile();
        AssertChanges(begun: [], ended: []);
    }

    [Fact]
    public void InterfaceThatComesBack_IsServedAnew()
    {
        EndpointBinding binding = Serve("0.0.0.0:80");
        AssertChanges(begun: [binding], ended: []);
        _endpoints.ForgetInstalled();
        AssertChanges(begun: [], ended: []);
        Reconcile();
        AssertChanges(begun: [binding], ended: []);
    }

    [Fact]
    public void Address_ComesAndGoes()
    {
        Serve("[::]:80");
        _interface.Changes.Clear();
        _addresses = ["2001:db8::1"];
        Reconcile();
        Assert.Equal([$"{V4} Drain", $"{V6} listen", $"{V6} Mixed"], _interface.TakeChanges());
        RemoveGone(EndpointReconciler.GoneGrace - 1);
        Assert.Empty(_interface.Changes);
        RemoveGone(1);
        // Taken out of the map first: the last SYN must find its listener.
        Assert.Equal([$"{V4} removed", $"{V4} stop"], _interface.TakeChanges());
    }

    [Fact]
    public void AddressThatHasGone_StaysAsLongAsItHasConnections()
    {
        Serve("0.0.0.0:80");
        _interface.InUse.Add(V4);
        _addresses = [];
        Reconcile();
        _interface.Changes.Clear();
        RemoveGone(EndpointReconciler.GoneGrace);
        Reconcile();
        RemoveGone(EndpointReconciler.GoneCheck);
        Assert.Equal(SteeringMode.Drain, _interface.Endpoints[V4]);
        // Handshakes that have begun may end.
        Assert.Contains(V4, _interface.Listeners.Keys);
        Assert.Empty(_interface.Changes);

        _interface.InUse.Clear();
        RemoveGone(EndpointReconciler.GoneCheck - 1);
        Assert.Empty(_interface.Changes);
        RemoveGone(1);
        Assert.Equal([$"{V4} removed", $"{V4} stop"], _interface.TakeChanges());
        Assert.Empty(_endpoints.Listening);
    }

    /// <summary>The kernel may have taken connections when the address was back and nobody had noticed.</summary>
    [Fact]
    public void AddressThatComesBack_IsMixed_HoweverItWasSteered()
    {
        EndpointBinding binding = Serve("0.0.0.0:80");
        Promote(EndpointReconciler.QuietGrace);
        Assert.Equal(SteeringMode.Steer, _interface.Endpoints[V4]);
        _addresses = [];
        Reconcile();
        Assert.False(_endpoints.IsServed(binding));
        _addresses = ["10.0.0.1"];
        _interface.Changes.Clear();
        Reconcile();
        Assert.Equal([$"{V4} Mixed"], _interface.TakeChanges());
        Assert.True(_endpoints.IsServed(binding));
        RemoveGone(EndpointReconciler.GoneGrace);
        Assert.Equal(SteeringMode.Mixed, _interface.Endpoints[V4]);
        Promote(EndpointReconciler.QuietCheck);
        Assert.Equal(SteeringMode.Steer, _interface.Endpoints[V4]);
    }

    [Fact]
    public void ListenerThatEndsAfterItsAddress_GoesAtOnce()
    {
        EndpointBinding binding = Serve("0.0.0.0:80");
        _interface.InUse.Add(V4);
        _addresses = [];
        Reconcile();
        binding.Drain();
        Assert.True(_endpoints.RemoveEnded());
        Reconcile();
        Assert.Empty(_interface.Endpoints);
        Assert.Empty(_interface.Listeners);
    }

    [Fact]
    public void TentativeAddress_IsNotSteered()
    {
        _endpoints.Add(Binding("[::]:80"));
        InterfaceAddress tentative = Address("2001:db8::1") with { IsTentative = true };
        _endpoints.Reconcile(new ServedInterface(_interface, [tentative], AllQueues: true), _now);
        Assert.Empty(_interface.Endpoints);
    }

    /// <summary>A virtual address on lo, as a balancer's servers have it.</summary>
    [Fact]
    public void AddressOfAnotherInterface_IsServedForAListenerThatNamesIt()
    {
        _elsewhere = ["10.0.9.9", "2001:db8::9"];
        Serve("0.0.0.0:80");
        Serve("[::]:81");
        Assert.Equal([V4, "10.0.0.1:81"], _interface.Endpoints.Keys.Order());
        Serve("10.0.9.9:80");
        Serve("[2001:db8::9]:80");
        Assert.Equal([V4, "10.0.0.1:81", "10.0.9.9:80", "2001:db8::9:80"], _interface.Endpoints.Keys.Order());
        _elsewhere = [];
        Reconcile();
        RemoveGone(EndpointReconciler.GoneGrace);
        Assert.Equal([V4, "10.0.0.1:81"], _interface.Endpoints.Keys.Order());
    }

    [Fact]
    public void AllAddresses_AreServedForAWildcard()
    {
        _elsewhere = ["10.0.9.9", "2001:db8::9"];
        _wildcardsTakeAll = true;
        Serve("0.0.0.0:80");
        Assert.Equal([V4, "10.0.9.9:80"], _interface.Endpoints.Keys.Order());
    }

    [Fact]
    public void OwnAddress_GoesBeforeTheWildcard()
    {
        EndpointBinding wildcard = Serve("0.0.0.0:80");
        Assert.Same(wildcard, _interface.Listeners[V4]);
        EndpointBinding own = Serve("10.0.0.1:80");
        Assert.Same(own, _interface.Listeners[V4]);
        Assert.Same(own, Assert.Single(_endpoints.Listening).Endpoint);
    }

    [Fact]
    public void Drain_ModeChangesBeforeTheStackStops()
    {
        EndpointBinding binding = Serve("10.0.0.1:80");
        _interface.Changes.Clear();
        binding.Drain();
        Reconcile();
        Assert.Equal([$"{V4} Drain", $"{V4} stop"], _interface.TakeChanges());
        Assert.Empty(_endpoints.Listening);
    }

    [Fact]
    public void DrainedBinding_GoesWithItsLastConnection()
    {
        EndpointBinding binding = Serve("10.0.0.1:80");
        Assert.True(binding.TryBeginConnection());
        binding.Drain();
        Assert.False(_endpoints.RemoveEnded());
        binding.ConnectionAcknowledged();
        binding.ConnectionEnded();
        Assert.True(_endpoints.RemoveEnded());
        Reconcile();
        Assert.Empty(_interface.Endpoints);
        Assert.Empty(_endpoints.Bindings);
    }

    [Fact]
    public void ListenerThatComesBack_TakesTheEndpointFromTheOneThatDrains()
    {
        EndpointBinding first = Serve("10.0.0.1:80");
        first.TryBeginConnection();
        first.Drain();
        Reconcile();
        EndpointBinding second = Serve("10.0.0.1:80");
        Assert.Same(second, _interface.Listeners[V4]);
        Assert.Equal(SteeringMode.Mixed, _interface.Endpoints[V4]);
    }

    [Fact]
    public void QuietEndpoint_IsSteeredWhole_NotBeforeTheGrace()
    {
        Serve("10.0.0.1:80");
        Promote(EndpointReconciler.QuietGrace - 1);
        Assert.Empty(_asked);
        Assert.Equal(SteeringMode.Mixed, _interface.Endpoints[V4]);
        Promote(1);
        Assert.Equal([80], Assert.Single(_asked));
        Assert.Equal(SteeringMode.Steer, _interface.Endpoints[V4]);
        Promote(EndpointReconciler.QuietCheck);
        Assert.Single(_asked);
    }

    [Fact]
    public void EndpointWithConnectionsInTheKernel_StaysMixed_AndIsAskedForAgain()
    {
        _kernel!.Add((IpAddr.From(IPAddress.Parse("10.0.0.1")), 80));
        Serve("10.0.0.1:80");
        Promote(EndpointReconciler.QuietGrace);
        Promote(EndpointReconciler.QuietCheck - 1);
        Assert.Single(_asked);
        Assert.Equal(SteeringMode.Mixed, _interface.Endpoints[V4]);
        _kernel.Clear();
        Promote(1);
        Assert.Equal(SteeringMode.Steer, _interface.Endpoints[V4]);
    }

    [Fact]
    public void KernelThatDoesNotTell_MayHaveConnections()
    {
        _kernel = null;
        Serve("10.0.0.1:80");
        Promote(EndpointReconciler.QuietGrace);
        Assert.Single(_asked);
        Assert.Equal(SteeringMode.Mixed, _interface.Endpoints[V4]);
    }

    [Fact]
    public void QueueWithoutASocket_KeepsTheEndpointMixed_AndTheGraceBeginsAnew()
    {
        Serve("10.0.0.1:80");
        Promote(EndpointReconciler.QuietGrace);
        Assert.Equal(SteeringMode.Steer, _interface.Endpoints[V4]);
        _allQueues = false;
        Reconcile();
        Assert.Equal(SteeringMode.Mixed, _interface.Endpoints[V4]);
        Promote(EndpointReconciler.QuietGrace);
        Assert.Equal(SteeringMode.Mixed, _interface.Endpoints[V4]);

        Reconcile();
        _allQueues = true;
        Promote(EndpointReconciler.QuietGrace - 1);
        Assert.Equal(SteeringMode.Mixed, _interface.Endpoints[V4]);
        Promote(1);
        Assert.Equal(SteeringMode.Steer, _interface.Endpoints[V4]);
    }

    [Fact]
    public void AfterTheProgramWasGone_EverythingIsInstalledAgain()
    {
        Serve("10.0.0.1:80");
        _endpoints.ForgetInstalled();
        Assert.Empty(_endpoints.Listening);
        _interface.Changes.Clear();
        Reconcile();
        Assert.Equal([$"{V4} listen", $"{V4} Mixed"], _interface.TakeChanges());
    }

    [Fact]
    public void FullMap_WhatDoesNotFitStaysWithSockets_AndIsSaidOnce()
    {
        _interface.Capacity = 3;
        _addresses = ["10.0.0.1", "10.0.0.2"];
        EndpointBinding first = Serve("0.0.0.0:80"), second = Serve("0.0.0.0:81"), third = Serve("0.0.0.0:82");
        Assert.Equal([V4, "10.0.0.1:81", OtherV4], _interface.Endpoints.Keys.Order());
        // Nothing is steered to a stack for them, and no stack listens.
        Assert.Equal(_interface.Endpoints.Keys.Order(), _interface.Listeners.Keys.Order());
        Assert.Equal(3, _endpoints.Listening.Count);
        Assert.Null(_endpoints.WhyRefused(first));
        Assert.Null(_endpoints.WhyRefused(second));
        Assert.Contains("it takes 3 entries", _endpoints.WhyRefused(third), StringComparison.Ordinal);
        Assert.Equal([123], _log.Events.Where(id => id != 116));
    }

    [Fact]
    public void FullMap_IsAskedOnceInAPass_AndTriedAgainLater()
    {
        _interface.Capacity = 1;
        _addresses = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"];
        Serve("0.0.0.0:80");
        Assert.Equal(1, _interface.Refusals);
        Assert.False(_endpoints.MayRetry(_now + EndpointReconciler.RetryAfter - 1));
        Assert.True(_endpoints.MayRetry(_now + EndpointReconciler.RetryAfter));
        _interface.Capacity = 4;
        Reconcile();
        Assert.Equal(4, _interface.Endpoints.Count);
        Assert.False(_endpoints.MayRetry(long.MaxValue));
    }

    [Fact]
    public void FullMap_RoomOfAnEndpointThatEnds_IsTaken()
    {
        _interface.Capacity = 1;
        EndpointBinding first = Serve("10.0.0.1:80"), second = Serve("10.0.0.1:81");
        Assert.NotNull(_endpoints.WhyRefused(second));
        first.Drain();
        Reconcile();
        Assert.True(_endpoints.RemoveEnded());
        Reconcile();
        Assert.Equal(["10.0.0.1:81"], _interface.Endpoints.Keys);
        Assert.Null(_endpoints.WhyRefused(second));
    }

    [Fact]
    public void EndpointThatCannotBeRemoved_KeepsItsListener_AndHoldsUpNoOther()
    {
        Serve("0.0.0.0:80");
        _interface.RemovalFails = 12; // ENOMEM
        _addresses = ["10.0.0.2"];
        Reconcile();
        RemoveGone(EndpointReconciler.GoneGrace);
        Assert.Equal([V4, OtherV4], _interface.Listeners.Keys.Order());
        Assert.True(_endpoints.MayRetry(long.MaxValue));
        _interface.RemovalFails = 0;
        RemoveGone(EndpointReconciler.GoneCheck);
        Reconcile();
        Assert.Equal([OtherV4], _interface.Listeners.Keys);
        Assert.False(_endpoints.MayRetry(long.MaxValue));
    }

    private EndpointBinding Serve(string endpoint)
    {
        EndpointBinding binding = Binding(endpoint);
        _endpoints.Add(binding);
        Reconcile();
        return binding;
    }

    private static EndpointBinding Binding(string endpoint) => new(
        IPEndPoint.Parse(endpoint), new TransportSettings(new XdpTransportOptions(), new SocketTransportOptions()),
        Channel.CreateUnbounded<ConnectionContext>().Writer, new AcceptBacklog(10), MemoryPool<byte>.Shared,
        NullLogger.Instance);

    private void AssertChanges(EndpointBinding[] begun, EndpointBinding[] ended)
    {
        _endpoints.TakeServedChanges(out var served, out var lost);
        Assert.Equal(begun, served);
        Assert.Equal(ended, lost);
    }

    private ServedInterface Served => new(_interface, [.. _addresses.Select(Address)], _allQueues)
    {
        Elsewhere = [.. _elsewhere.Select(Address)],
        WildcardsTakeAll = _wildcardsTakeAll,
    };

    private static InterfaceAddress Address(string address) =>
        new(IPAddress.Parse(address), 24, AddressScope.Global, IsTentative: false);

    private void Reconcile() => _endpoints.Reconcile(Served, _now);

    private void Promote(long later)
    {
        _now += later;
        _endpoints.PromoteQuiet(Served, _now);
    }

    private void RemoveGone(long later)
    {
        _now += later;
        _endpoints.RemoveGone(Served, _now);
    }

    private HashSet<(IpAddr, int)>? KernelConnections(IReadOnlySet<int> ports)
    {
        _asked.Add(ports);
        return _kernel;
    }
}

using System.Net;
using System.Net.Sockets;
using Kestrel.Transport.Xdp.Internal.Interfaces;
using Kestrel.Transport.Xdp.Internal.Options;
using Kestrel.Transport.Xdp.Internal.Steering;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Options;
using Xdp.Sockets;
using Xdp.Sockets.Net;
using Xdp.TcpLite;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>What the kernel refuses is left to sockets. The rest is served, and nothing stays attached.</summary>
public sealed class FailureTests(FailureTests.FailureLab lab, ITestOutputHelper output)
    : SystemTest(output), IClassFixture<FailureTests.FailureLab>
{
    /// <summary>Of its own: with hundreds of addresses.</summary>
    public sealed class FailureLab() : Lab("direct", queues: 3);

    // More addresses and ports than the program's map takes: 301 by 24, and it has 4096 entries.
    private const int Addresses = 300, Endpoints = 24;

    [SkippableFact]
    public async Task FullMap_SocketsServeWhatDoesNotFit_AndTheEndIsClean()
    {
        Lab.Require();
        await AddAddressesAsync();
        var options = new XdpTransportOptions();
        options.Interfaces.Add(Lab.Interface);
        var factory = new XdpTransportFactory(Options.Create(options), NullLoggerFactory.Instance);
        var ports = new List<int>();
        for (int i = 0; i < Endpoints; i++)
        {
            IConnectionListener listener = lab.Server.Enter(
                () => factory.BindAsync(new IPEndPoint(IPAddress.Any, 0)).AsTask().GetAwaiter().GetResult());
            ports.Add(((IPEndPoint)listener.EndPoint).Port);
            Task serve = ServeOneAsync(listener);
            using Socket client = await lab.Client.ConnectAsync(new IPEndPoint(Lab.ServerIp4, ports[i]));
            Assert.Equal(1, await client.ReceiveAsync(new byte[2]));
            await serve;
        }
        Assert.NotNull(AttachedProgram.On(lab.Server));
        await factory.DisposeAsync();
        Assert.Null(AttachedProgram.On(lab.Server));
        foreach (int port in (int[])[ports[0], ports[^1]])
        {
            await Assert.ThrowsAnyAsync<SocketException>(
                () => lab.Client.ConnectAsync(new IPEndPoint(Lab.ServerIp4, port)));
        }
    }

    [SkippableFact]
    public async Task FullMap_Sigterm_IsAnEndInOrder()
    {
        Lab.Require();
        await AddAddressesAsync();
        var settings = new HelloWebSettings
        {
            Required = false,
            MorePorts = [.. Enumerable.Range(8081, Endpoints - 1)],
        };
        await WithServerAsync(lab.Server, settings, async server =>
        {
            foreach (int port in (int[])[8080, settings.MorePorts[^1]])
            {
                using HttpClient client = lab.Client.HttpClient();
                await FactsAsync(client, server.Url("/connection", port: port));
            }
            Assert.Contains(server.Lines, line => line.Contains("The map is full", StringComparison.Ordinal));
            await server.StopAsync();
            Assert.Null(AttachedProgram.On(lab.Server));
        });
    }

    [SkippableFact]
    public void QueueThatCannotBeHandedToTheProgram_IsRefused_AndTheOthersServe()
    {
        Lab.Require();
        lab.Server.Enter(() =>
        {
            var frames = new FrameBudget();
            var maps = new RefusingMaps(refusedQueue: 0);
            var queues = new QueueSet(
                Lab.Interface, InterfaceSettings.From(
                    new XdpTransportOptions(), new SocketTransportOptions(), TcpSysctls.None),
                new QueueResources(frames, new BlockPool(), new byte[32], new(static c => c.Flow)),
                new RouteResolver(
                    Lab.Interface, static () => null, static () => [], static () => { }, NullLogger.Instance),
                new KernelHandOver(static _ => new Dictionary<IPNetwork, bool>(), static () => { }),
                failed: static () => { }, NullLogger.Instance);
            try
            {
                Assert.Null(queues.OpenMissing(NetworkInterfaceInfo.Get(Lab.Interface)!, maps, []));
                Assert.Equal([1, 2], queues.Open.Select(queue => queue.Settings.QueueId));
                Assert.Equal([1, 2], maps.Queues.Keys.Order());
                Assert.True(queues.IsIncomplete);
                maps.RefusedQueue = -1;
                Assert.Null(queues.OpenMissing(NetworkInterfaceInfo.Get(Lab.Interface)!, maps, []));
                Assert.Equal([0, 1, 2], queues.Open.Select(queue => queue.Settings.QueueId).Order());
                Assert.False(queues.IsIncomplete);
            }
            finally
            {
                queues.CloseAll();
                queues.Closing().End.Wait();
            }
            Assert.Equal(0, frames.Used);
            return 0;
        });
    }

    // Those that are there already stay.
    private async Task AddAddressesAsync()
    {
        string batch = Path.GetTempFileName();
        IEnumerable<string> addresses = Enumerable.Range(0, Addresses).Select(i => $"10.78.{i / 250}.{i % 250 + 1}/32");
        await File.WriteAllLinesAsync(batch, addresses.Select(a => $"addr replace {a} dev {Lab.Interface}"));
        (await lab.Server.RunAsync("ip", "-batch", batch)).Succeeded();
        File.Delete(batch);
    }

    private static async Task ServeOneAsync(IConnectionListener listener)
    {
        await using ConnectionContext? connection = await listener.AcceptAsync();
        Assert.NotNull(connection);
        await connection.Transport.Output.WriteAsync("x"u8.ToArray());
    }

    /// <summary>A program's maps, one of whose queues takes no socket.</summary>
    private sealed class RefusingMaps(int refusedQueue) : ISteeringMaps
    {
        internal int RefusedQueue { get; set; } = refusedQueue;

        internal Dictionary<int, int> Queues { get; } = [];

        public void SetXsk(int queue, int xsk)
        {
            if (queue == RefusedQueue)
                throw new XdpException("bpf(BPF_MAP_UPDATE_ELEM, map \"xsks_map\")", 12); // ENOMEM
            Queues[queue] = xsk;
        }

        public bool ClearXsk(int queue) => Queues.Remove(queue);

        public void SetEndpoint(IPAddress local, int port, int vlan, SteeringMode mode) =>
            throw new NotSupportedException();

        public bool RemoveEndpoint(IPAddress local, int port, int vlan) => throw new NotSupportedException();

        public void SetPeersElsewhere(IReadOnlyDictionary<EndpointPeers, bool> peers) =>
            throw new NotSupportedException();

        public void SetSynRate(int queue, long perSecond, long burst) => throw new NotSupportedException();
    }
}

using System.Net;
using System.Net.Sockets;
using Kestrel.Transport.Xdp.Internal.Steering;
using Xdp.Sockets.Tests.Net;

namespace Xdp.Sockets.Tests.Bpf;

/// <summary>The table at the top of bpf/xdp_steer.bpf.c, against real sockets of the kernel.</summary>
public class SteeringTableTests
{
    public SteeringTableTests() => TestNetwork.Require();

    public static TheoryData<object, bool, bool, bool, object> Table()
    {
        var table = new TheoryData<object, bool, bool, bool, object>();
        foreach (bool owned in new[] { false, true })
        {
            foreach (bool xsk in new[] { false, true })
            {
                foreach (bool syn in new[] { false, true })
                    table.Add(SteeringMode.Off, syn, owned, xsk, SteeringCounter.PassOff);
                table.Add(SteeringMode.Drain, true, owned, xsk, SteeringCounter.PassSynDrain);
                table.Add(SteeringMode.Steer, true, owned, xsk, xsk
                    ? SteeringCounter.RedirectSyn
                    : SteeringCounter.PassSynNoXsk);
            }
            table.Add(SteeringMode.Mixed, true, owned, false, SteeringCounter.PassSynNoXsk);
            table.Add(SteeringMode.Steer, false, owned, true, SteeringCounter.RedirectSegment);
        }
        table.Add(SteeringMode.Mixed, true, false, true, SteeringCounter.RedirectSyn);
        table.Add(SteeringMode.Mixed, true, true, true, SteeringCounter.PassKernelOwned);
        foreach (SteeringMode mode in new[] { SteeringMode.Mixed, SteeringMode.Drain })
        {
            table.Add(mode, false, false, true, SteeringCounter.RedirectSegment);
            table.Add(mode, false, true, true, SteeringCounter.PassKernelOwned);
        }
        foreach (SteeringMode mode in new[] { SteeringMode.Mixed, SteeringMode.Steer, SteeringMode.Drain })
        {
            table.Add(mode, false, false, false, SteeringCounter.DropNoXsk);
            table.Add(mode, false, true, false, SteeringCounter.PassKernelOwned);
        }
        return table;
    }

    [SkippableFact]
    public void Table_IsComplete() => Assert.Equal(4 * 2 * 2 * 2, Table().Count);

    [SkippableTheory]
    [MemberData(nameof(Table))]
    public void Verdict(object mode, bool syn, bool owned, bool xsk, object expected)
    {
        foreach (IPAddress address in new[] { IPAddress.Loopback, IPAddress.IPv6Loopback })
        {
            using var network = new TestNetwork();
            network.Run(() =>
            {
                using var connection = new KernelConnection(address);
                using var bench = new SteeringBench((SteeringMode)mode, xsk);
                bench.Program.SetEndpoint(address, connection.Local.Port, 0, (SteeringMode)mode);
                // A listener alone does not make the kernel the owner.
                var from = owned ? connection.Remote : new IPEndPoint(address, connection.Remote.Port ^ 1);
                bench.Expect(
                    (SteeringCounter)expected, Packet.Tcp(from, connection.Local, syn ? TcpFlags.Syn : TcpFlags.Ack));
            });
        }
    }

    [SkippableFact]
    public void TimeWait_IsTheKernels()
    {
        using var network = new TestNetwork();
        network.Run(() =>
        {
            using var connection = new KernelConnection(IPAddress.Loopback);
            using var bench = new SteeringBench(SteeringMode.Mixed);
            bench.Program.SetEndpoint(IPAddress.Loopback, connection.Local.Port, 0, SteeringMode.Mixed);
            connection.CloseServerFirst();
            bench.Expect(
                SteeringCounter.PassKernelOwned, Packet.Tcp(connection.Remote, connection.Local, TcpFlags.Ack));
            bench.Expect(
                SteeringCounter.PassKernelOwned, Packet.Tcp(connection.Remote, connection.Local, TcpFlags.Syn));
        });
    }

    [SkippableFact]
    public void XskRemoved_QueueFallsBack()
    {
        using var bench = new SteeringBench();
        byte[] syn = Packet.Tcp(SteeringBench.Remote4, SteeringBench.Local4, TcpFlags.Syn);
        bench.Expect(SteeringCounter.RedirectSyn, syn);
        Assert.True(bench.Program.ClearXsk(0));
        bench.Expect(SteeringCounter.PassSynNoXsk, syn);
    }

    [SkippableTheory]
    [InlineData("127.0.0.1")]
    [InlineData("::1")]
    public void TooBig_GoesToTheFlowsOwner(string text)
    {
        IPAddress address = IPAddress.Parse(text);
        using var network = new TestNetwork();
        network.Run(() =>
        {
            using var connection = new KernelConnection(address);
            using var bench = new SteeringBench();
            var ours = new IPEndPoint(address, connection.Remote.Port ^ 1);
            byte[] about = Packet.TooBig(connection.Local, ours, address);
            bench.Expect(SteeringCounter.PassNotTcp, about);

            foreach (SteeringMode mode in new[] { SteeringMode.Mixed, SteeringMode.Steer, SteeringMode.Drain })
            {
                bench.Program.SetEndpoint(address, connection.Local.Port, 0, mode);
                bench.Expect(SteeringCounter.RedirectIcmp, about);
                bench.Expect(
                    SteeringCounter.PassIcmpKernelOwned, Packet.TooBig(connection.Local, connection.Remote, address));
                bench.Expect(SteeringCounter.PassNotTcp, Packet.TooBig(connection.Local, ours, address, type: 1));
            }
            for (int cut = 1; cut <= 4; cut++)
                bench.Expect(SteeringCounter.RedirectIcmp, about[..^cut]);
            bench.Expect(SteeringCounter.PassMalformed, about[..^5]);
            bench.Program.ClearXsk(0);
            bench.Expect(SteeringCounter.PassIcmpNoXsk, about);
            bench.Program.SetEndpoint(address, connection.Local.Port, 0, SteeringMode.Off);
            bench.Expect(SteeringCounter.PassNotTcp, about);
        });
    }

    /// <summary>A connection over loopback, seen from its server's side.</summary>
    private sealed class KernelConnection : IDisposable
    {
        private readonly Socket _listener, _client, _server;

        internal KernelConnection(IPAddress address)
        {
            _listener = new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
            _listener.Bind(new IPEndPoint(address, 0));
            _listener.Listen();
            _client = new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
            _client.Connect(_listener.LocalEndPoint!);
            _server = _listener.Accept();
            Local = (IPEndPoint)_server.LocalEndPoint!;
            Remote = (IPEndPoint)_server.RemoteEndPoint!;
        }

        internal IPEndPoint Local { get; }

        internal IPEndPoint Remote { get; }

        /// <summary>Leaves the server's side in TIME-WAIT.</summary>
        internal void CloseServerFirst()
        {
            _server.Shutdown(SocketShutdown.Send);
            Assert.Equal(0, _client.Receive(new byte[1]));
            _client.Close();
            Assert.Equal(0, _server.Receive(new byte[1]));
            _server.Close();
        }

        public void Dispose()
        {
            _client.Dispose();
            _server.Dispose();
            _listener.Dispose();
        }
    }
}

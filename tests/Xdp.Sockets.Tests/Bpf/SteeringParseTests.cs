using System.Net;
using Kestrel.Transport.Xdp.Internal.Steering;
using Xdp.Sockets.Bpf;
using Xdp.Sockets.Tests.Net;
using static Xdp.Sockets.Tests.Bpf.SteeringBench;

namespace Xdp.Sockets.Tests.Bpf;

/// <summary>Which packets are an endpoint's, and what happens to odd ones.</summary>
public class SteeringParseTests
{
    private const byte Tcp = 6, HopByHop = 0, Routing = 43, Destination = 60, FragmentHeader = 44;

    public SteeringParseTests() => TestNetwork.Require();

    private static byte[] Syn4 => Packet.Segment(Remote4.Port, Local4.Port, TcpFlags.Syn);

    [SkippableFact]
    public void Segment_ToEndpoint_IsRedirected()
    {
        using var bench = new SteeringBench();
        bench.Expect(SteeringCounter.RedirectSyn, Packet.Tcp(Remote4, Local4, TcpFlags.Syn));
        bench.Expect(SteeringCounter.RedirectSegment, Packet.Tcp(Remote4, Local4, TcpFlags.Ack));
        bench.Expect(SteeringCounter.RedirectSyn, Packet.Tcp(Remote6, Local6, TcpFlags.Syn));
        bench.Expect(SteeringCounter.RedirectSegment, Packet.Tcp(Remote6, Local6, TcpFlags.Ack | TcpFlags.Psh));
    }

    [SkippableTheory]
    [InlineData(TcpFlags.Syn, true)]
    [InlineData(TcpFlags.Syn | TcpFlags.Fin, true)]
    [InlineData(TcpFlags.Syn | TcpFlags.Ack, false)]
    [InlineData(TcpFlags.Syn | TcpFlags.Rst, false)]
    [InlineData(TcpFlags.Rst, false)]
    [InlineData(TcpFlags.Fin | TcpFlags.Ack, false)]
    [InlineData((TcpFlags)0, false)]
    public void Flags_DecideWhatIsASyn(object flags, bool syn)
    {
        using var bench = new SteeringBench();
        bench.Expect(
            syn ? SteeringCounter.RedirectSyn : SteeringCounter.RedirectSegment,
            Packet.Tcp(Remote4, Local4, (TcpFlags)flags));
    }

    [SkippableFact]
    public void Segment_ToAnother_Passes()
    {
        using var bench = new SteeringBench();
        bench.Expect(
            SteeringCounter.PassNoEndpoint, Packet.Tcp(Remote4, new IPEndPoint(Local4.Address, 22), TcpFlags.Syn));
        bench.Expect(
            SteeringCounter.PassNoEndpoint, Packet.Tcp(Remote4, IPEndPoint.Parse("10.0.0.3:8080"), TcpFlags.Syn));
        bench.Expect(
            SteeringCounter.PassNoEndpoint, Packet.Tcp(Remote6, IPEndPoint.Parse("[fd00::3]:8080"), TcpFlags.Syn));

        byte[][] notOurs =
            [[0xff, 0xff, 0xff, 0xff, 0xff, 0xff], [0x01, 0, 0x5e, 0, 0, 1], [0x02, 0, 0, 0, 0, 9]];
        foreach (byte[] mac in notOurs)
        {
            byte[] packet = Packet.Tcp(Remote4, Local4, TcpFlags.Syn);
            mac.CopyTo(packet, 0);
            bench.Expect(SteeringCounter.PassNotOurMac, packet);
        }
    }

    [SkippableFact]
    public void OtherProtocols_Pass()
    {
        using var bench = new SteeringBench();
        bench.Expect(
            SteeringCounter.PassNotTcp,
            Packet.Ethernet(Packet.Ip4(Remote4.Address, Local4.Address, 17, Syn4), ipv6: false));
        bench.Expect(
            SteeringCounter.PassNotTcp,
            Packet.Ethernet(Packet.Ip6(Remote6.Address, Local6.Address, 17, Syn4), ipv6: true));
        byte[] arp = Packet.Tcp(Remote4, Local4, TcpFlags.Syn);
        arp[12] = 0x08;
        arp[13] = 0x06;
        bench.Expect(SteeringCounter.PassNotTcp, arp);
    }

    [SkippableFact]
    public void RemovedEndpoint_Passes()
    {
        using var bench = new SteeringBench();
        Assert.True(bench.Program.RemoveEndpoint(Local4.Address, Port, 0));
        Assert.False(bench.Program.RemoveEndpoint(Local4.Address, Port, 0));
        bench.Expect(SteeringCounter.PassNoEndpoint, Packet.Tcp(Remote4, Local4, TcpFlags.Ack));
    }

    [SkippableFact]
    public void Endpoint_IPv4Mapped_IsIPv4()
    {
        using var bench = new SteeringBench(SteeringMode.Off);
        bench.Program.SetEndpoint(Local4.Address.MapToIPv6(), Port, 0, SteeringMode.Steer);
        bench.Expect(SteeringCounter.RedirectSyn, Packet.Tcp(Remote4, Local4, TcpFlags.Syn));
        Assert.Throws<ArgumentException>(() => bench.Program.SetEndpoint(IPAddress.Any, Port, 0, SteeringMode.Steer));
    }

    [SkippableFact]
    public void Vlan_IsPartOfTheEndpoint()
    {
        using var bench = new SteeringBench();
        bench.Program.SetEndpoint(Local4.Address, Port, 5, SteeringMode.Steer);
        bench.Program.SetEndpoint(Local6.Address, Port, 7 << 12 | 5, SteeringMode.Steer);

        bench.Expect(SteeringCounter.RedirectSyn, Packet.Tcp(Remote4, Local4, TcpFlags.Syn, 5));
        bench.Expect(SteeringCounter.RedirectSyn, Packet.Tcp(Remote6, Local6, TcpFlags.Syn, 7, 5));
        bench.Expect(
            SteeringCounter.RedirectSyn,
            Packet.Tcp(Remote4, Local4, TcpFlags.Syn, 0xe000)); // Priority alone is no VLAN.
        bench.Expect(SteeringCounter.RedirectSyn, Packet.Tcp(Remote4, Local4, TcpFlags.Syn, 0xe005));
        bench.Expect(SteeringCounter.PassNoEndpoint, Packet.Tcp(Remote4, Local4, TcpFlags.Syn, 6));
        bench.Expect(SteeringCounter.PassNoEndpoint, Packet.Tcp(Remote6, Local6, TcpFlags.Syn, 5, 7));
        bench.Expect(SteeringCounter.PassNotTcp, Packet.Tcp(Remote4, Local4, TcpFlags.Syn, 1, 2, 3));
    }

    [SkippableFact]
    public void IPv4Options_AreSkipped()
    {
        using var bench = new SteeringBench();
        for (int options = 0; options <= 40; options += 4)
            bench.Expect(
                SteeringCounter.RedirectSyn,
                Packet.Ethernet(Packet.Ip4(Remote4.Address, Local4.Address, Tcp, Syn4, options: options), ipv6: false));
    }

    [SkippableFact]
    public void IPv4_ImpossibleHeader_Passes()
    {
        using var bench = new SteeringBench();
        byte[] packet = Packet.Tcp(Remote4, Local4, TcpFlags.Syn);
        for (int first = 0; first < 256; first++)
        {
            packet[14] = (byte)first;
            if (first >> 4 != 4 || (first & 15) < 5)
                bench.Expect(SteeringCounter.PassMalformed, packet);
        }
    }

    [SkippableFact]
    public void IPv6Extensions_AreWalked_UpToABound()
    {
        using var bench = new SteeringBench();
        byte[] segment = Packet.Segment(Remote6.Port, Local6.Port, TcpFlags.Syn);
        foreach (byte first in new[] { HopByHop, Routing, Destination })
        {
            bench.Expect(SteeringCounter.RedirectSyn, Packet.Ethernet(
                Packet.Ip6(
                    Remote6.Address, Local6.Address, first,
                    Packet.Extension(Destination, 16, Packet.Extension(Tcp, 8, segment))), ipv6: true));
        }

        byte[] chain = segment;
        byte next = Tcp;
        for (int headers = 1; headers <= 8; headers++)
        {
            chain = Packet.Extension(next, 8, chain);
            next = Destination;
            bench.Expect(headers <= 6 ? SteeringCounter.RedirectSyn : SteeringCounter.PassMalformed,
                Packet.Ethernet(Packet.Ip6(Remote6.Address, Local6.Address, next, chain), ipv6: true));
        }

        const byte NoNext = 59, Esp = 50;
        bench.Expect(
            SteeringCounter.PassNotTcp,
            Packet.Ethernet(Packet.Ip6(Remote6.Address, Local6.Address, NoNext, segment), ipv6: true));
        bench.Expect(
            SteeringCounter.PassNotTcp,
            Packet.Ethernet(Packet.Ip6(Remote6.Address, Local6.Address, Esp, segment), ipv6: true));
    }

    /// <summary>
    /// The kernel goes on where the program gives up, and would let in at its own socket whom the lists keep out.
    /// </summary>
    [SkippableTheory]
    [InlineData(7)]
    [InlineData(8)]
    public void MoreExtensionsThanTheBound_DoNotPassTheSourceListsBy(int headers)
    {
        using var bench = new SteeringBench();
        byte[] chain = Packet.Segment(Remote6.Port, Local6.Port, TcpFlags.Syn);
        byte next = Tcp;
        for (int i = 0; i < headers; i++)
        {
            chain = Packet.Extension(next, 8, chain);
            next = Destination;
        }
        byte[] packet = Packet.Ethernet(Packet.Ip6(Remote6.Address, Local6.Address, next, chain), ipv6: true);
        bench.Expect(SteeringCounter.PassMalformed, packet);
        bench.Program.SetDeniedSources([new IPNetwork(Remote6.Address, 128)]);
        bench.Expect(SteeringCounter.DropSource, packet);
        bench.Program.SetDeniedSources([]);
        bench.Program.SetAllowedSources([new IPNetwork(Local6.Address, 128)]);
        bench.Expect(SteeringCounter.DropSource, packet);
        bench.Program.SetAllowedSources([new IPNetwork(Remote6.Address, 128)]);
        bench.Expect(SteeringCounter.PassMalformed, packet);
    }

    /// <summary>RFC 6946: a fragment header, and no fragment. Reserved bits mean nothing.</summary>
    [SkippableTheory]
    [InlineData(0)]
    [InlineData(6)]
    public void IPv6AtomicFragment_IsAWholePacket(int reserved)
    {
        using var bench = new SteeringBench();
        byte[] segment = Packet.Segment(Remote6.Port, Local6.Port, TcpFlags.Syn);
        bench.Expect(SteeringCounter.RedirectSyn, Packet.Ethernet(
            Packet.Ip6(
                Remote6.Address, Local6.Address, FragmentHeader, Packet.Fragment(Tcp, reserved, more: false, segment)),
            ipv6: true));
        bench.Expect(SteeringCounter.RedirectSyn, Packet.Ethernet(
            Packet.Ip6(
                Remote6.Address, Local6.Address, FragmentHeader,
                Packet.Fragment(Destination, reserved, more: false, Packet.Extension(Tcp, 8, segment))),
            ipv6: true));
    }

    [SkippableFact]
    public void IPv6_MappedAddress_Passes()
    {
        using var bench = new SteeringBench();
        byte[] segment = Packet.Segment(Remote4.Port, Local4.Port, TcpFlags.Syn);
        bench.Expect(
            SteeringCounter.PassMalformed,
            Packet.Ethernet(Packet.Ip6(Remote4.Address.MapToIPv6(), Local6.Address, Tcp, segment), ipv6: true));
        bench.Expect(
            SteeringCounter.PassMalformed,
            Packet.Ethernet(Packet.Ip6(Remote6.Address, Local4.Address.MapToIPv6(), Tcp, segment), ipv6: true));
    }

    [SkippableFact]
    public void FirstFragment_IsDropped_LaterOnesPass()
    {
        const int MoreFragments = 0x2000;
        using var bench = new SteeringBench();
        bench.Expect(
            SteeringCounter.DropFragment,
            Packet.Ethernet(Packet.Ip4(Remote4.Address, Local4.Address, Tcp, Syn4, MoreFragments), ipv6: false));
        bench.Expect(
            SteeringCounter.DropFragment,
            Packet.Ethernet(Packet.Ip4(Remote4.Address, Local4.Address, Tcp, Syn4[..8], MoreFragments), ipv6: false));
        bench.Expect(
            SteeringCounter.PassLaterFragment,
            Packet.Ethernet(Packet.Ip4(Remote4.Address, Local4.Address, Tcp, Syn4, MoreFragments | 1), ipv6: false));
        bench.Expect(
            SteeringCounter.PassLaterFragment,
            Packet.Ethernet(Packet.Ip4(Remote4.Address, Local4.Address, Tcp, Syn4, 100), ipv6: false));

        byte[] segment = Packet.Segment(Remote6.Port, Local6.Port, TcpFlags.Syn);
        bench.Expect(SteeringCounter.DropFragment, Packet.Ethernet(
            Packet.Ip6(Remote6.Address, Local6.Address, FragmentHeader, Packet.Fragment(Tcp, 0, more: true, segment)),
                ipv6: true));
        bench.Expect(SteeringCounter.PassLaterFragment, Packet.Ethernet(
            Packet.Ip6(Remote6.Address, Local6.Address, FragmentHeader, Packet.Fragment(Tcp, 8, more: true, segment)),
                ipv6: true));

        bench.SetMode(SteeringMode.Off);
        bench.Expect(
            SteeringCounter.PassOff,
            Packet.Ethernet(Packet.Ip4(Remote4.Address, Local4.Address, Tcp, Syn4, MoreFragments), ipv6: false));
        bench.Expect(
            SteeringCounter.PassNoEndpoint,
            Packet.Ethernet(Packet.Ip4(Remote4.Address, Remote4.Address, Tcp, Syn4, MoreFragments), ipv6: false));
    }

    [SkippableFact]
    public void CutShort_AtEveryByte_Passes()
    {
        using var bench = new SteeringBench();
        bench.Program.SetEndpoint(Local4.Address, Port, 7 << 12 | 5, SteeringMode.Steer);
        byte[] segment = Packet.Segment(Remote6.Port, Local6.Port, TcpFlags.Syn);
        byte[][] packets =
        [
            Packet.Tcp(Remote4, Local4, TcpFlags.Syn, 7, 5),
            Packet.Ethernet(Packet.Ip4(Remote4.Address, Local4.Address, Tcp, Syn4, options: 40), ipv6: false),
            Packet.Ethernet(
                Packet.Ip6(
                    Remote6.Address, Local6.Address, HopByHop,
                    Packet.Extension(Routing, 8, Packet.Extension(Tcp, 24, segment))),
                ipv6: true),
        ];
        foreach (byte[] packet in packets)
        {
            bench.Expect(SteeringCounter.RedirectSyn, packet);
            for (int length = 14; length < packet.Length; length++)
                bench.Expect(SteeringCounter.PassMalformed, packet[..length]);
        }
    }

    [SkippableFact]
    public void RandomBytes_NeverAbort()
    {
        using var bench = new SteeringBench();
        const int Seed = 20, Packets = 20_000;
        var random = new Random(Seed);
        byte[] model = Packet.Ethernet(
            Packet.Ip6(Remote6.Address, Local6.Address, HopByHop, Packet.Extension(Tcp, 8, new byte[80])), ipv6: true);
        for (int i = 0; i < Packets; i++)
        {
            byte[] packet = model[..random.Next(14, model.Length)];
            for (int flips = random.Next(8); flips > 0; flips--)
                packet[random.Next(12, packet.Length)] = (byte)random.Next(256);
            XdpAction action = bench.Program.Program.TestRun(packet).Action;
            Assert.True(
                action is XdpAction.Pass or XdpAction.Drop or XdpAction.Redirect, $"seed {Seed}, packet {i}: {action}");
        }
    }
}

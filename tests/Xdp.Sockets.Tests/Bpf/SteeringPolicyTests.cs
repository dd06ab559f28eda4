using System.Net;
using Kestrel.Transport.Xdp.Internal.Steering;
using Xdp.Sockets.Tests.Net;
using static Xdp.Sockets.Tests.Bpf.SteeringBench;

namespace Xdp.Sockets.Tests.Bpf;

/// <summary>Source prefixes and SYN limits.</summary>
public class SteeringPolicyTests
{
    public SteeringPolicyTests() => TestNetwork.Require();

    [SkippableFact]
    public void AllowedSources_KeepOthersOut()
    {
        using var bench = new SteeringBench();
        bench.Program.SetAllowedSources([IPNetwork.Parse("10.0.0.0/24"), IPNetwork.Parse("fd00::/64")]);

        bench.Expect(SteeringCounter.RedirectSyn, From("10.0.0.77", TcpFlags.Syn));
        bench.Expect(SteeringCounter.DropSource, From("10.0.1.77", TcpFlags.Syn));
        bench.Expect(SteeringCounter.DropSource, From("10.0.1.77", TcpFlags.Ack));
        bench.Expect(SteeringCounter.RedirectSyn, From("fd00::77", TcpFlags.Syn));
        bench.Expect(SteeringCounter.DropSource, From("fd00:0:0:1::77", TcpFlags.Syn));

        // What is nobody's endpoint, or off, is none of our business.
        bench.Expect(
            SteeringCounter.PassNoEndpoint,
            Packet.Tcp(IPEndPoint.Parse("10.0.1.77:1"), new IPEndPoint(Local4.Address, 22), TcpFlags.Syn));
        bench.SetMode(SteeringMode.Off);
        bench.Expect(SteeringCounter.PassOff, From("10.0.1.77", TcpFlags.Syn));
        bench.SetMode(SteeringMode.Drain);
        bench.Expect(SteeringCounter.DropSource, From("10.0.1.77", TcpFlags.Syn));
    }

    [SkippableFact]
    public void AllowedSources_Replaced_OldOnesAreOut()
    {
        using var bench = new SteeringBench();
        bench.Program.SetAllowedSources([IPNetwork.Parse("10.0.0.0/24")]);
        bench.Program.SetAllowedSources([IPNetwork.Parse("10.0.1.0/24"), IPNetwork.Parse("10.0.2.0/24")]);
        bench.Expect(SteeringCounter.DropSource, From("10.0.0.77", TcpFlags.Syn));
        bench.Expect(SteeringCounter.RedirectSyn, From("10.0.2.77", TcpFlags.Syn));

        bench.Program.SetAllowedSources([]);
        bench.Expect(SteeringCounter.RedirectSyn, From("10.0.0.77", TcpFlags.Syn));
    }

    [SkippableFact]
    public void DeniedSources_WinOverAllowed()
    {
        using var bench = new SteeringBench();
        bench.Program.SetAllowedSources([IPNetwork.Parse("10.0.0.0/8")]);
        bench.Program.SetDeniedSources([IPNetwork.Parse("10.0.0.13/32"), IPNetwork.Parse("fd00::/16")]);
        bench.Expect(SteeringCounter.DropSource, From("10.0.0.13", TcpFlags.Ack));
        bench.Expect(SteeringCounter.RedirectSegment, From("10.0.0.14", TcpFlags.Ack));

        bench.Program.SetAllowedSources([]);
        bench.Expect(SteeringCounter.DropSource, From("fd00::1:2", TcpFlags.Ack));
        bench.Expect(SteeringCounter.RedirectSegment, From("fe80::1", TcpFlags.Ack));
        bench.Program.SetDeniedSources([]);
        bench.Expect(SteeringCounter.RedirectSegment, From("fd00::1:2", TcpFlags.Ack));
    }

    [SkippableFact]
    public void Sources_PrefixZero_IsEverybodyOfThatFamily()
    {
        using var bench = new SteeringBench();
        bench.Program.SetDeniedSources([IPNetwork.Parse("0.0.0.0/0")]);
        bench.Expect(SteeringCounter.DropSource, From("192.0.2.1", TcpFlags.Syn));
        bench.Expect(SteeringCounter.RedirectSyn, From("2001:db8::1", TcpFlags.Syn));
    }

    [SkippableFact]
    public void PeersElsewhere_TheirSynsPass_ToThatEndpointAlone()
    {
        using var bench = new SteeringBench();
        bench.Program.SetEndpoint(Local4.Address, Port + 1, 0, SteeringMode.Steer);
        bench.Program.SetPeersElsewhere(new Dictionary<EndpointPeers, bool>
        {
            [new(Local4.Address, Port, IPNetwork.Parse("0.0.0.0/0"))] = true,
            [new(Local4.Address, Port, IPNetwork.Parse("10.0.1.0/24"))] = false,
        });
        bench.Expect(SteeringCounter.PassSynElsewhere, From("10.0.0.2", TcpFlags.Syn));
        bench.Expect(SteeringCounter.RedirectSyn, From("10.0.1.2", TcpFlags.Syn));
        // Connections that are open stay where they are.
        bench.Expect(SteeringCounter.RedirectSegment, From("10.0.0.2", TcpFlags.Ack));
        bench.Expect(SteeringCounter.RedirectSyn, From("fd00::2", TcpFlags.Syn));
        bench.Expect(
            SteeringCounter.RedirectSyn,
            Packet.Tcp(Remote4, new IPEndPoint(Local4.Address, Port + 1), TcpFlags.Syn));

        bench.Program.SetPeersElsewhere(new Dictionary<EndpointPeers, bool>());
        bench.Expect(SteeringCounter.RedirectSyn, From("10.0.0.2", TcpFlags.Syn));
    }

    [SkippableFact]
    public void SynRate_ExcessIsDropped_OtherSegmentsAreNot()
    {
        using var bench = new SteeringBench();
        bench.Program.SetSynRate(0, perSecond: 1, burst: 3);
        for (int i = 0; i < 3; i++)
            bench.Expect(SteeringCounter.RedirectSyn, From("10.0.0.2", TcpFlags.Syn));
        bench.Expect(SteeringCounter.DropSynRate, From("10.0.0.2", TcpFlags.Syn));
        bench.Expect(SteeringCounter.DropSynRate, From("fd00::2", TcpFlags.Syn));
        bench.Expect(SteeringCounter.RedirectSegment, From("10.0.0.2", TcpFlags.Ack));

        bench.Program.SetSynRate(0, perSecond: 0, burst: 1);
        for (int i = 0; i < 10; i++)
            bench.Expect(SteeringCounter.RedirectSyn, From("10.0.0.2", TcpFlags.Syn));
    }

    [SkippableFact]
    public void SynRate_TokensComeBackAtTheRate()
    {
        const int PerSecond = 200, Burst = 200; // a burst that outlasts any pause of a busy machine
        using var bench = new SteeringBench();
        bench.Program.SetSynRate(0, PerSecond, Burst);
        byte[] syn = From("10.0.0.2", TcpFlags.Syn);
        var clock = System.Diagnostics.Stopwatch.StartNew();
        while (clock.ElapsedMilliseconds < 300)
            bench.Program.Program.TestRun(syn);
        double seconds = clock.Elapsed.TotalSeconds;

        SteeringCounters counters = bench.Program.ReadCounters();
        Assert.True(counters.DropSynRate > 0);
        Assert.InRange((double)counters.RedirectSyn, Burst + 0.9 * 0.3 * PerSecond, Burst + 1 + seconds * PerSecond);
    }

    [SkippableFact]
    public void SynRate_CountsOnlyWhatTheXskWouldGet()
    {
        using var bench = new SteeringBench(xsk: false);
        bench.Program.SetSynRate(0, perSecond: 1, burst: 1);
        for (int i = 0; i < 5; i++)
            bench.Expect(SteeringCounter.PassSynNoXsk, From("10.0.0.2", TcpFlags.Syn));
    }

    private static byte[] From(string source, TcpFlags flags)
    {
        var from = new IPEndPoint(IPAddress.Parse(source), 40000);
        return Packet.Tcp(from, from.AddressFamily == Local4.AddressFamily ? Local4 : Local6, flags);
    }
}

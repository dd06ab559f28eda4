using System.Net;
using System.Numerics;
using Xdp.Sockets.Bpf;
using Xdp.Sockets.Tests.Net;

namespace Xdp.Sockets.Tests.Bpf;

/// <summary>The impairments other tests rely on: they do what they count, and nothing else.</summary>
public class LabImpairTests
{
    private enum Knob : uint { Loss, Burst, BurstLength, Corrupt, Seed = 8 }

    private enum Counted : uint { Seen, Lost, BurstLost, Corrupted }

    private const int HeaderLength = 14 + 20 + 20, PayloadLength = 100, Packets = 2000;

    private static readonly byte[] s_packet = Packet.Ethernet(
        Packet.Ip4(
            IPAddress.Parse("10.0.0.2"), IPAddress.Parse("10.0.0.1"), 6,
            [.. Packet.Segment(1, 2, TcpFlags.Ack), .. new byte[PayloadLength]]), ipv6: false);

    public LabImpairTests() => TestNetwork.Require();

    [SkippableTheory]
    [InlineData("impair_xdp")]
    [InlineData("impair_tc")]
    public void Loss_IsCounted_AndNearItsRate(string program)
    {
        using BpfObject lab = Load();
        Set(lab, Knob.Loss, 100);
        int dropped = Enumerable.Range(0, Packets).Count(_ => IsDrop(program, lab.Programs[program].TestRun(s_packet)));
        Assert.Equal((ulong)dropped, Get(lab, Counted.Lost));
        Assert.Equal((ulong)Packets, Get(lab, Counted.Seen));
        Assert.InRange(dropped, 100, 320); // 200 expected, standard deviation 13
    }

    [SkippableFact]
    public void Seed_GivesTheSameSegmentsTheSameFate()
    {
        bool[] first = Fates(seed: 7);
        Assert.Equal(first, Fates(seed: 7));
        Assert.NotEqual(first, Fates(seed: 8));
        Assert.InRange(first.Count(lost => lost), 100, 320);

        static bool[] Fates(uint seed)
        {
            using BpfObject lab = Load();
            Set(lab, Knob.Loss, 100);
            Set(lab, Knob.Seed, seed);
            return [.. Enumerable.Range(0, Packets)
                .Select(_ => lab.Programs["impair_xdp"].TestRun(s_packet).Action == XdpAction.Drop)];
        }
    }

    [SkippableFact]
    public void Bursts_HaveTheirLength()
    {
        const int Length = 7;
        using BpfObject lab = Load();
        Set(lab, Knob.Burst, 10);
        Set(lab, Knob.BurstLength, Length);
        int run = 0, bursts = 0;
        for (int i = 0; i < Packets || run > 0; i++)
        {
            if (lab.Programs["impair_xdp"].TestRun(s_packet).Action == XdpAction.Drop)
            {
                run++;
                continue;
            }
            Assert.Equal(0, run % Length); // two bursts may follow each other
            bursts += run / Length;
            run = 0;
        }
        Assert.True(bursts > 0);
        Assert.Equal((ulong)(bursts * Length), Get(lab, Counted.BurstLost));
    }

    [SkippableTheory]
    [InlineData("impair_xdp")]
    [InlineData("impair_tc")]
    public void Corruption_FlipsOneBitOfThePayload(string program)
    {
        using BpfObject lab = Load();
        Set(lab, Knob.Corrupt, 1000);
        byte[] output = new byte[s_packet.Length];
        for (int i = 0; i < 200; i++)
        {
            lab.Programs[program].TestRun(s_packet, output: output);
            Assert.Equal(s_packet[..HeaderLength], output[..HeaderLength]);
            Assert.Equal(1, output[HeaderLength..].Sum(b => BitOperations.PopCount(b)));
        }
        Assert.Equal(200ul, Get(lab, Counted.Corrupted));
    }

    [SkippableFact]
    public void OtherThanTcp_IsLeftAlone()
    {
        using BpfObject lab = Load();
        Set(lab, Knob.Loss, 1000);
        byte[] udp = (byte[])s_packet.Clone();
        udp[14 + 9] = 17;
        Assert.Equal(XdpAction.Pass, lab.Programs["impair_xdp"].TestRun(udp).Action);
        Assert.Equal(XdpAction.Drop, lab.Programs["impair_xdp"].TestRun(s_packet).Action);
        Assert.Equal(1ul, Get(lab, Counted.Seen));
    }

    private static BpfObject Load() => BpfObject.Load(BpfObjectTests.Read("lab_impair.bpf.o"));

    private static void Set(BpfObject lab, Knob knob, uint value) => lab.Maps["impair_knobs"].Update((uint)knob, value);

    private static ulong Get(BpfObject lab, Counted what)
    {
        Assert.True(lab.Maps["impair_counts"].TryLookup((uint)what, out ulong value));
        return value;
    }

    private static bool IsDrop(string program, BpfTestResult result)
    {
        const uint TcActShot = 2;
        return program == "impair_xdp" ? result.Action == XdpAction.Drop : result.ReturnValue == TcActShot;
    }
}

namespace Xdp.TcpLite.Tests;

/// <summary>
/// Recovery, told by a <see cref="Sender"/>, which cuts the segments and passes ACKs on; there is no other way to them.
/// </summary>
public class LossRecoveryTests
{
    private const int Mss = SenderRig.Mss;

    private static readonly TimeSpan s_rtt = TimeSpan.FromMilliseconds(100);

    /// <summary>Sequence numbers before the first byte. The stream wraps in the flight, or does not.</summary>
    public static TheoryData<uint> Starts => [999u, 0xffff_ffffu, 0xffff_f000u];

    /// <summary>Ten segments in flight, a round trip ago.</summary>
    private static SenderRig InFlight(uint iss = 999, bool sack = true, int segments = 10)
    {
        var rig = new SenderRig(iss, sack);
        rig.Write(segments * Mss);
        Assert.Equal(segments, rig.SendAll().Count);
        rig.Advance(s_rtt);
        return rig;
    }

    /// <summary>An ACK up to a segment, with SACK blocks of segments, from the first to before the last.</summary>
    private static Packet Ack(SenderRig rig, int acked, params ReadOnlySpan<(int From, int To)> sacked)
    {
        Packet packet = rig.Packet(acked * Mss);
        foreach ((int from, int to) in sacked)
            packet.Sack.Add(rig.Start + from * Mss, rig.Start + to * Mss);
        return packet;
    }

    private static RecoveryPhase Phase(SenderRig rig) => rig.Sender.Phase;

    /// <summary>
    /// RFC 5681, section 3.2: the third duplicate, not the second; RFC 6582: a partial ACK shows the next loss.
    /// </summary>
    [Theory]
    [MemberData(nameof(Starts))]
    public void WithoutSack_ThirdDuplicateAndPartialAcks_RepairOneEach(uint iss)
    {
        SenderRig rig = InFlight(iss, sack: false);
        rig.Ack(0);
        rig.Ack(0);
        Assert.Empty(rig.SendAll());
        Assert.Equal(RecoveryPhase.Open, Phase(rig));
        rig.Ack(0);
        Assert.Equal([-Mss], rig.SendAll());
        Assert.Equal((RecoveryPhase.Fast, 1), (Phase(rig), rig.Counters.FastRetransmits));
        Assert.Equal(5 * Mss, rig.Sender.Congestion.Ssthresh);
        rig.Ack(4 * Mss);
        Assert.Equal([-Mss], rig.SendAll());
        Assert.Equal(RecoveryPhase.Fast, Phase(rig));
        rig.Ack(10 * Mss);
        Assert.Equal((RecoveryPhase.Open, 5 * Mss), (Phase(rig), rig.Sender.Congestion.Cwnd));
        rig.AssertDone();
    }

    /// <summary>
    /// RFC 6298, section 3: what an ACK covers together with a repaired hole has waited for the repair, and gives no
    /// sample.
    /// </summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Ack_AcrossARepairedHole_GivesNoSample(bool sack)
    {
        SenderRig rig = InFlight(sack: sack);
        TimeSpan srtt = rig.Sender.Rtt.Srtt;
        while (!rig.TakeDeadline().HasFlag(SenderTimeouts.Retransmission))
            rig.SendAll();
        Assert.Equal([-Mss], rig.SendAll());
        rig.Advance(s_rtt);
        Assert.Null(rig.Ack(9 * Mss).Delivery.Rtt);
        Assert.Equal(srtt, rig.Sender.Rtt.Srtt);
    }

    /// <summary>RFC 5681, section 2: with data, or another window, an ACK is no duplicate.</summary>
    [Theory]
    [InlineData(10, 60_000)]
    [InlineData(0, 50_000)]
    public void WithoutSack_WhatIsNoDuplicate_DoesNotCount(int payload, int window)
    {
        SenderRig rig = InFlight(sack: false);
        for (int i = 0; i < 5; i++)
            rig.Ack(rig.Packet(0, window + (payload == 0 ? i : 0)) with { PayloadLength = payload });
        Assert.Equal(RecoveryPhase.Open, Phase(rig));
    }

    /// <summary>RFC 8985: with three segments SACKed and no reordering seen, what is before them is lost.</summary>
    [Theory]
    [MemberData(nameof(Starts))]
    public void Sack_ThreeSegmentsBehindAGap_TheGapIsSentAgain(uint iss)
    {
        SenderRig rig = InFlight(iss);
        rig.Ack(Ack(rig, 0, (2, 4)));
        Assert.Equal(RecoveryPhase.Open, Phase(rig));
        rig.Ack(Ack(rig, 0, (2, 5)));
        Assert.Equal(RecoveryPhase.Fast, Phase(rig));
        Scoreboard board = rig.Sender.Flight!.Recovery.Board;
        Assert.Equal((3 * Mss, 2 * Mss), (board.SackedBytes, board.LostBytes));
        Assert.Equal(-Mss, rig.SendAll()[0]);
        rig.Ack(Ack(rig, 0, (2, 10)));
        Assert.Contains(-Mss, rig.SendAll());
        Assert.Equal(2u, rig.Sender.Losses.Retransmits);
        rig.Advance(s_rtt);
        rig.Ack(10 * Mss);
        Assert.Equal(RecoveryPhase.Open, Phase(rig));
        rig.AssertDone();
    }

    /// <summary>
    /// The same block again, blocks that overlap, and blocks that cut segments: each byte counts once.
    /// </summary>
    [Fact]
    public void Sack_SameBlocksAgain_DeliverNothing()
    {
        SenderRig rig = InFlight();
        Assert.Equal(2 * Mss, rig.Ack(Ack(rig, 0, (4, 6))).Delivery.Bytes);
        Assert.Equal(0, rig.Ack(Ack(rig, 0, (4, 6))).Delivery.Bytes);
        Assert.Equal(Mss, rig.Ack(Ack(rig, 0, (5, 7), (4, 6))).Delivery.Bytes);
        Assert.Equal(3 * Mss, rig.Sender.Flight!.Recovery.Board.SackedBytes);
        Packet cuts = rig.Packet(0);
        cuts.Sack.Add(rig.Start + 8 * Mss + 1, rig.Start + 10 * Mss - 1);
        Assert.Equal(0, rig.Ack(cuts).Delivery.Bytes);
        // The cumulative ACK does not deliver again what was SACKed.
        Assert.Equal(7 * Mss, rig.Ack(10 * Mss).Delivery.Bytes);
        rig.AssertDone();
    }

    /// <summary>RFC 2018, section 5: blocks that cannot be are passed over.</summary>
    [Theory]
    [InlineData(5, 5)]
    [InlineData(6, 5)]
    [InlineData(9, 11)] // behind SND.NXT
    [InlineData(100_000, 200_000)]
    public void Sack_ImpossibleBlocks_AreIgnored(int from, int to)
    {
        foreach (uint iss in new[] { 999u, 0xffff_f000u })
        {
            SenderRig rig = InFlight(iss);
            Packet packet = Ack(rig, 0, (2, 3), (from, to));
            Assert.Equal(Mss, rig.Ack(packet).Delivery.Bytes);
        }
    }

    /// <summary>RFC 2883: the first block is a report when it lies below the ACK or within the second block.</summary>
    [Fact]
    public void Sack_DuplicateReports_AreCountedUpToTheRetransmissions()
    {
        SenderRig rig = InFlight();
        rig.Ack(Ack(rig, 0, (1, 4)));
        rig.SendAll();
        rig.Ack(Ack(rig, 5, (0, 1)));
        Assert.Equal((1u, 1), (rig.Sender.Losses.SpuriousRetransmits, rig.Counters.SpuriousRetransmits));
        rig.Ack(Ack(rig, 5, (0, 1)));
        rig.Ack(Ack(rig, 5, (6, 7), (6, 8)));
        Assert.Equal(1u, rig.Sender.Losses.SpuriousRetransmits);
    }

    /// <summary>RFC 3708: the one retransmission was needless, so the window is back.</summary>
    [Fact]
    public void Sack_DuplicateOfEachRetransmission_UndoesTheReduction()
    {
        SenderRig rig = InFlight();
        long cwnd = rig.Sender.Congestion.Cwnd;
        rig.Ack(Ack(rig, 0, (1, 4)));
        Assert.Equal([-Mss], rig.SendAll());
        Assert.True(rig.Sender.Congestion.Cwnd < cwnd);
        rig.Ack(Ack(rig, 4, (0, 1)));
        Assert.Equal(RecoveryPhase.Open, Phase(rig));
        Assert.True(rig.Sender.Congestion.Cwnd >= cwnd);
        Assert.Equal(0, rig.Sender.Flight!.Recovery.Board.LostBytes);
    }

    /// <summary>RFC 6298, section 5.4: what was SACKed is not sent again, unless the peer has dropped it.</summary>
    [Theory]
    [InlineData(2, 8)]
    [InlineData(0, 10)]
    public void Timeout_EverythingButTheSackedIsLost(int firstSacked, int lost)
    {
        SenderRig rig = InFlight();
        rig.Ack(Ack(rig, 0, (firstSacked, firstSacked + 2)));
        Assert.Equal(RecoveryPhase.Open, Phase(rig));
        while (!rig.TakeDeadline().HasFlag(SenderTimeouts.Retransmission))
        {
            // The reordering timer, or a probe.
        }
        Assert.Equal(RecoveryPhase.Timeout, Phase(rig));
        Assert.Equal(lost * Mss, rig.Sender.Flight!.Recovery.Board.LostBytes);
        Assert.Equal(Mss, rig.Sender.Congestion.Cwnd);
        Assert.Equal([-Mss], rig.SendAll());
    }

    /// <summary>
    /// RFC 4821, section 7.6: of a larger segment that is lost in the course of another repair nothing is learned. The
    /// next one may be tried.
    /// </summary>
    [Theory]
    [MemberData(nameof(Starts))]
    public void MtuProbe_LostDuringAnotherRepair_IsForgotten(uint iss)
    {
        SenderRig rig = InFlight(iss, segments: 4);
        LossRecovery recovery = rig.Sender.Flight!.Recovery;
        recovery.MtuProbe.Wanted = Mss + 200;
        rig.Write(4 * Mss + 200);
        Assert.Equal([Mss + 200, Mss, Mss, Mss], rig.SendAll());
        rig.Ack(Ack(rig, 0, (1, 4)));
        Assert.Equal([-Mss], rig.SendAll());
        rig.Write(5 * Mss);
        rig.Advance(s_rtt);
        Packet packet = Ack(rig, 4);
        packet.Sack.Add(rig.Start + 5 * Mss + 200, rig.Start + 8 * Mss + 200);
        rig.Ack(packet);
        Assert.Equal((RecoveryPhase.Fast, true), (Phase(rig), recovery.MtuProbe.IsRunning));
        Assert.Equal([-Mss, -200], rig.SendAll()[..2]);
        rig.Advance(s_rtt);
        rig.Ack(8 * Mss + 200);
        rig.SendAll();
        Assert.NotEqual(0, rig.Sender.Outstanding);
        Assert.Equal((false, true), (recovery.MtuProbe.IsRunning, recovery.MayProbeMtu));
    }

    /// <summary>RFC 3168, section 6.1.2: the window is halved once a round trip, and nothing is sent again.</summary>
    [Fact]
    public void EcnEcho_HalvesOnceForAFlight()
    {
        SenderRig rig = InFlight();
        rig.Ecn = new Ecn(enabled: true);
        Packet echo = Ack(rig, 1) with { Flags = TcpFlags.Ack | TcpFlags.Ece };
        rig.Ack(echo);
        Assert.Equal(5 * Mss, rig.Sender.Congestion.Ssthresh);
        rig.Ack(Ack(rig, 9) with { Flags = TcpFlags.Ack | TcpFlags.Ece });
        Assert.Equal(5 * Mss, rig.Sender.Congestion.Ssthresh);
        Assert.DoesNotContain(rig.SendAll(), length => length < 0);
    }

    /// <summary>RFC 8985, section 7: after two round trips of silence the last segment goes once more.</summary>
    [Fact]
    public void Probe_TailIsSilent_SendsTheLastSegmentOnce()
    {
        var rig = new SenderRig();
        rig.Write(3 * Mss);
        rig.SendAll();
        Instant sentAt = rig.Now;
        Assert.Equal(SenderTimeouts.Other, rig.TakeDeadline());
        Assert.Equal((2 * s_rtt, 1), (rig.Now - sentAt, rig.Counters.TlpProbes));
        Assert.Equal([-Mss], rig.SendAll());
        Assert.Empty(rig.SendAll());
        rig.Advance(s_rtt);
        rig.Ack(Ack(rig, 0, (2, 3)));
        Assert.Equal(RecoveryPhase.Fast, Phase(rig));
        Assert.Equal(2 * Mss, rig.Sender.Flight!.Recovery.Board.LostBytes);
        Assert.Equal(-Mss, rig.SendAll()[0]);
    }

    /// <summary>
    /// RFC 8985, section 7.4.2: without timestamps the ACK of a probe that was needless comes twice, and the second one
    /// finds nothing in flight. It ends the episode all the same, and the flight is given back.
    /// </summary>
    [Theory]
    [MemberData(nameof(Starts))]
    public void Probe_Needless_DuplicateAckWithoutDsackEndsIt(uint iss)
    {
        var rig = new SenderRig(iss);
        rig.Write(3 * Mss);
        rig.SendAll();
        rig.TakeDeadline();
        Assert.Equal([-Mss], rig.SendAll());
        rig.Ack(3 * Mss);
        Assert.NotNull(rig.Sender.Flight);
        rig.Ack(3 * Mss, window: 50_000);
        Assert.NotNull(rig.Sender.Flight);
        rig.Ack(3 * Mss, window: 50_000);
        rig.AssertDone();
    }
}

namespace Xdp.TcpLite.Tests;

public class SenderTests
{
    private const int Mss = SenderRig.Mss;

    /// <summary>
    /// The sequence number before the first byte, so that the stream wraps in its first or second segment.
    /// </summary>
    public static TheoryData<uint> Starts => [999u, 0xffff_ffffu, 0xffff_fa00u, 0x7fff_fe00u];

    [Theory]
    [MemberData(nameof(Starts))]
    public void Ack_HalfOfASegment_LeavesTheRest(uint iss)
    {
        var rig = new SenderRig(iss);
        rig.Write(2500);
        Assert.Equal([1000, 1000, 500], rig.SendAll());
        AckOutcome outcome = rig.Ack(1700);
        Assert.True(outcome.Advanced);
        Assert.False(outcome.AllAcknowledged);
        Assert.Equal((800, 1700, 800), (rig.Sender.Outstanding, rig.Sender.BytesAcked, rig.Sender.UnacknowledgedBytes));
        Assert.Equal(rig.Start + 1700, rig.Sender.Flight!.Queue[0].Seq);
        Assert.True(rig.Ack(2500).AllAcknowledged);
        rig.AssertDone();
    }

    /// <summary>RFC 9293, section 3.10.7.4: SND.WND follows the newest segment, by SND.WL1 and SND.WL2.</summary>
    [Theory]
    [InlineData(0, 0, true)] // the same numbers again
    [InlineData(1, 0, true)]
    [InlineData(0, 500, true)]
    [InlineData(-1, 500, false)] // older
    [InlineData(1, -1, false)] // acknowledges less
    public void Acknowledge_Window_IsTheNewestSegments(int seq, int ack, bool taken)
    {
        foreach (uint iss in new[] { 999u, 0xffff_ffffu, 0xffff_fe00u })
        {
            var rig = new SenderRig(iss);
            rig.Write(1000);
            rig.SendAll();
            rig.Ack(0, window: 5000);
            Packet packet = rig.Packet(ack, window: 7000);
            rig.Ack(packet with { Seq = packet.Seq + seq });
            Assert.Equal((taken ? 7000 : 5000, 60_000), (rig.Sender.SndWnd, rig.Sender.MaxSndWnd));
        }
    }

    [Theory]
    [InlineData(0, 60_000, 60_000)]
    [InlineData(14, 60_000, 60_000 << 14)]
    public void StartWindow_IsScaled(byte shift, int field, int window)
    {
        var rig = new SenderRig(shift: shift, window: field);
        Assert.Equal((window, window), (rig.Sender.SndWnd, rig.Sender.MaxSndWnd));
        rig.Sender.StartWindow(rig.Packet(0, field), scaled: false);
        Assert.Equal(field, rig.Sender.SndWnd);
    }

    /// <summary>
    /// RFC 1122, section 4.2.3.4: a full segment; else all there is with nothing outstanding (Nagle), or at once.
    /// </summary>
    [Theory]
    [InlineData(false, false, new[] { 1000 }, new[] { 300 })]
    [InlineData(true, false, new[] { 1000, 300 }, new int[0])]
    [InlineData(false, true, new[] { 1000 }, new int[0])]
    [InlineData(true, true, new[] { 1000 }, new int[0])]
    public void Next_SmallSegment_NagleAndCork(bool noDelay, bool cork, int[] first, int[] afterAck)
    {
        var rig = new SenderRig();
        rig.Sender.NoDelay = noDelay;
        rig.Sender.Cork = cork;
        rig.Write(1300);
        Assert.Equal(first, rig.SendAll());
        rig.Ack(first.Sum());
        Assert.Equal(afterAck, rig.SendAll());
        if (cork)
        {
            // The end of the data lets go of what cork holds back.
            rig.Sender.Shutdown();
            Assert.Equal([300], rig.SendAll());
        }
    }

    /// <summary>RFC 9293, section 3.8.6.2.1: less than a segment only when it is half of the largest window.</summary>
    [Theory]
    [InlineData(2000, 999, 0)]
    [InlineData(1998, 999, 999)]
    [InlineData(2000, 0, 0)]
    [InlineData(5000, 1000, 1000)]
    public void Next_CrumbOfAWindow_WaitsUnlessItIsHalf(int largest, int window, int length)
    {
        var rig = new SenderRig(window: largest);
        rig.Ack(0, window);
        rig.Write(5000);
        Assert.Equal(length == 0 ? [] : [length], rig.SendAll());
        Assert.Equal(length == 0, rig.Sender.Flight!.Persist.IsRunning);
    }

    /// <summary>
    /// Where a round trip ends is a sequence number, and is ahead again 2 GiB later. So every stop moves it, also one
    /// that cork or Nagle is the reason of.
    /// </summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Next_HeldBackForMoreThanTwoGibibytes_DoesNotCountTheWindowAsUsed(bool cork)
    {
        const int Large = 50_000;
        var rig = new SenderRig(shift: 10);
        rig.Sender.NoDelay = cork;
        rig.Sender.Cork = cork;
        rig.Sender.ChangeMss(Large);
        rig.Sender.Congestion.SetCwnd(2 * Large);
        rig.Write(3 * Large + 100);
        Assert.Equal([Large, Large], rig.SendAll());
        CwndUse Use() => rig.Sender.Flight!.CwndUse;
        Assert.True(Use().Limited);
        rig.Sender.Congestion.SetCwnd(20 * Large);
        long sent = 2 * Large;
        while (sent < (3L << 30))
        {
            sent += rig.SendAll().Sum();
            rig.Ack(rig.Packet((int)(uint)(sent - Large)) with { Ack = rig.Start + unchecked((int)(sent - Large)) });
            rig.Write(Large);
        }
        rig.SendAll();
        Assert.False(Use().Limited);
    }

    [Fact]
    public void Next_ReceiverTookTheWindowBack_SendsNothing()
    {
        var rig = new SenderRig(window: 3000);
        rig.Write(9000);
        Assert.Equal(3, rig.SendAll().Count);
        rig.Ack(1000, window: 500);
        Assert.Empty(rig.SendAll());
        Assert.Equal(2000, rig.Sender.Outstanding);
    }

    /// <summary>
    /// RFC 9293, section 3.8.6.1: the window is probed, less and less often, until the user gives up.
    /// </summary>
    [Fact]
    public void OnDeadline_ZeroWindow_ProbesWithBackOffUntilTheUserTimeout()
    {
        var rig = new SenderRig { Options = new TcpStackOptions { UserTimeout = TimeSpan.FromSeconds(20) } };
        rig.Ack(0, window: 0);
        rig.Write(100);
        Assert.Empty(rig.SendAll());
        Instant begin = rig.Now;
        TimeSpan last = TimeSpan.Zero;
        int probes = 0;
        while (true)
        {
            Instant before = rig.Now;
            SenderTimeouts fired = rig.TakeDeadline();
            if (fired == SenderTimeouts.GaveUp)
                break;
            Assert.Equal(SenderTimeouts.Persist, fired);
            Assert.True(rig.Sender.ProbeIsDue);
            rig.Sender.ProbeIsDue = false;
            Assert.True(last == default || rig.Now - before == 2 * last);
            last = rig.Now - before;
            probes++;
        }
        Assert.Equal((6, TimeSpan.FromSeconds(20)), (probes, rig.Now - begin));
    }

    /// <summary>
    /// RFC 9293, section 3.8.6.1 (MUST-37): the same with data in flight. It is neither congestion, nor a path that
    /// takes no large packets, nor a reason to give up while the peer answers.
    /// </summary>
    [Fact]
    public void OnDeadline_ZeroWindowOverDataInFlight_ProbesAsLongAsThePeerAnswers()
    {
        var rig = new SenderRig { Options = new TcpStackOptions { UserTimeout = TimeSpan.FromSeconds(20) } };
        rig.Write(3 * Mss);
        Assert.Equal(3, rig.SendAll().Count);
        rig.Ack(Mss, window: 0);
        long ssthresh = rig.Sender.Congestion.Ssthresh;
        for (int i = 0; i < 20; i++)
        {
            Assert.Equal(SenderTimeouts.Other, rig.TakeDeadline());
            Assert.Equal([-Mss], rig.SendAll());
            rig.Ack(Mss, window: 0);
        }
        Assert.Equal(ssthresh, rig.Sender.Congestion.Ssthresh);
        // It opens, and what found no room is sent again, without the wait that has grown.
        rig.Ack(Mss);
        Assert.Equal([-Mss], rig.SendAll());
        Assert.True(rig.Sender.NextDeadline - rig.Now < TimeSpan.FromSeconds(1));
        rig.Ack(2 * Mss);
        Assert.Equal([-Mss], rig.SendAll());
        rig.Ack(3 * Mss);
        rig.AssertDone();
    }

    [Fact]
    public void OnDeadline_ZeroWindowOverDataInFlight_SilenceEndsIt()
    {
        var rig = new SenderRig { Options = new TcpStackOptions { UserTimeout = TimeSpan.FromSeconds(20) } };
        rig.Write(2 * Mss);
        rig.SendAll();
        rig.Ack(Mss, window: 0);
        Assert.Equal(SenderTimeouts.Other, rig.TakeDeadline());
        Instant probe = rig.Now;
        SenderTimeouts fired = SenderTimeouts.Other;
        for (int i = 0; fired == SenderTimeouts.Other; i++)
        {
            Assert.InRange(i, 0, 20);
            rig.SendAll();
            fired = rig.TakeDeadline();
        }
        Assert.Equal((SenderTimeouts.GaveUp, TimeSpan.FromSeconds(20)), (fired, rig.Now - probe));
    }

    [Fact]
    public void OnDeadline_CrumbOfAWindow_IsTakenAtLast()
    {
        var rig = new SenderRig();
        rig.Ack(0, window: 10);
        rig.Write(100);
        Assert.Empty(rig.SendAll());
        Assert.Equal(SenderTimeouts.Persist, rig.TakeDeadline());
        Assert.False(rig.Sender.ProbeIsDue);
        Assert.Equal([10], rig.SendAll());
    }

    /// <summary>RFC 6298, section 5.4 to 5.6, and RFC 5482.</summary>
    [Fact]
    public void OnDeadline_NoAnswer_RetransmitsWithBackOffAndGivesUp()
    {
        var rig = new SenderRig(sack: false)
        {
            Options = new TcpStackOptions { UserTimeout = TimeSpan.FromSeconds(5) },
        };
        rig.Write(1500);
        Assert.Equal([1000, 500], rig.SendAll());
        TimeSpan rto = rig.Sender.Rto(rig.Options);
        Instant begin = rig.Now;
        Assert.Equal(begin + rto, rig.Sender.NextDeadline);
        Assert.Equal(SenderTimeouts.Retransmission, rig.TakeDeadline());
        Assert.Equal([-1000], rig.SendAll());
        for (int i = 2; i <= 4; i++)
        {
            Assert.Equal(SenderTimeouts.Retransmission | SenderTimeouts.Repeated, rig.TakeDeadline());
            Assert.Equal(((1 << i) - 1) * rto, rig.Now - begin);
            Assert.Equal([-1000], rig.SendAll());
            Assert.Equal(i, rig.Sender.Backoff);
        }
        Assert.Equal(SenderTimeouts.GaveUp, rig.TakeDeadline());
        Assert.Equal(TimeSpan.FromSeconds(5), rig.Now - begin);
    }

    /// <summary>Karn: the back-off outlives an ACK that may be for a retransmission.</summary>
    [Fact]
    public void Ack_OfARetransmission_KeepsTheRto()
    {
        var rig = new SenderRig(sack: false);
        rig.Write(1000);
        rig.SendAll();
        TimeSpan rto = rig.Sender.Rto(rig.Options);
        rig.TakeDeadline();
        rig.SendAll();
        rig.Ack(1000);
        rig.AssertDone();
        Assert.Equal((2 * rto, 0), (rig.Sender.Rto(rig.Options), rig.Sender.Backoff));
        rig.Write(1000);
        rig.SendAll();
        rig.Advance(TimeSpan.FromMilliseconds(100));
        rig.Ack(2000);
        Assert.True(rig.Sender.Rto(rig.Options) <= rto);
    }

    [Theory]
    [MemberData(nameof(Starts))]
    public void ChangeMss_Smaller_CutsWhatIsInFlight(uint iss)
    {
        var rig = new SenderRig(iss);
        rig.Write(2000);
        Assert.Equal([1000, 1000], rig.SendAll());
        rig.Sender.ChangeMss(400);
        rig.Sender.OnTooLarge(rig.Options, default, rig.Counters, rig.Now);
        Assert.Equal([-400, -400, -200, -400, -400, -200], rig.SendAll());
        rig.Write(900);
        Assert.Equal([400, 400, 100], rig.SendAll());
        rig.Ack(2900);
        rig.AssertDone();
    }

    [Theory]
    [MemberData(nameof(Starts))]
    public void Shutdown_FinTakesANumberAndNoByte(uint iss)
    {
        var rig = new SenderRig(iss);
        rig.Write(500);
        rig.Sender.Shutdown();
        SendDecision next = rig.Next();
        Assert.Equal((500, true), (next.Length, next.Fin));
        rig.SendAll();
        Assert.False(rig.Next().IsNew);
        Assert.Equal((501, 500, 0), (rig.Sender.Outstanding, rig.Sender.BytesSent, rig.Sender.BytesAcked));
        Assert.False(rig.Ack(500).Delivery.Fin);
        Assert.Equal(500, rig.Sender.BytesAcked);
        Assert.True(rig.Ack(501).Delivery.Fin);
        Assert.Equal(500, rig.Sender.BytesAcked);
        rig.AssertDone();
    }

    [Fact]
    public void Shutdown_NothingWritten_FinGoesAloneIntoAShutWindow()
    {
        var rig = new SenderRig(window: 0);
        rig.Sender.Shutdown();
        Assert.Equal([0], rig.SendAll());
        Assert.True(rig.Ack(1, window: 0).Delivery.Fin);
        rig.AssertDone();
    }

    /// <summary>RFC 6928, section 2: after two lost SYNs the window starts at one segment.</summary>
    [Theory]
    [InlineData(0, 10_000)]
    [InlineData(1, 10_000)]
    [InlineData(2, Mss)]
    public void StartRtt_LostSyns_StartSmall(int retransmits, long cwnd)
    {
        Instant now = new(TimeSpan.TicksPerHour);
        var sender = new Sender(default, new NewReno());
        sender.StartMss(Mss);
        sender.StartRtt(retransmits == 0 ? now - TimeSpan.FromMilliseconds(30) : null, null, retransmits, now);
        Assert.Equal(cwnd, sender.Congestion.Cwnd);
        Assert.Equal(retransmits == 0 ? TimeSpan.FromMilliseconds(30) : TimeSpan.Zero, sender.Rtt.Srtt);
        Assert.Equal(TimeSpan.FromSeconds(retransmits == 0 ? 0.23 : 3), sender.Rto(new TcpStackOptions()));
    }

    [Fact]
    public void Uncut_NoFrame_IsAsIfNothingHadBeenCut()
    {
        var rig = new SenderRig();
        rig.Write(1500);
        SendDecision next = rig.Next();
        rig.Sender.Cut(next, rig.Environment, rig.Now);
        rig.Sender.Uncut(rig.Environment);
        Assert.Equal((1500, 0), (rig.Sender.UnsentBytes, rig.Sender.Outstanding));
        Assert.Equal([1000, 500], rig.SendAll());
        rig.Ack(1500);
        rig.AssertDone();
    }

    /// <summary>Memory counts by blocks, however little is in them.</summary>
    [Fact]
    public void Memory_IsThatOfTheBlocks_UntilTheyAreAcknowledgedWhole()
    {
        var rig = new SenderRig();
        Assert.Equal(0, rig.Sender.Memory);
        rig.Write(600);
        rig.Write(BlockPool.BlockSize);
        Assert.Equal(2 * BlockPool.BlockSize, rig.Sender.Memory);
        rig.SendAll();
        rig.Ack(599);
        Assert.Equal(2 * BlockPool.BlockSize, rig.Sender.Memory);
        rig.Ack(600);
        Assert.Equal(BlockPool.BlockSize, rig.Sender.Memory);
        rig.Write(600);
        rig.Sender.ReturnFlight(rig.Environment);
        Assert.Equal(0, rig.Sender.Memory);
        rig.Write(10);
        Assert.Equal(BlockPool.BlockSize, rig.Sender.Memory);
        rig.Sender.ReturnFlight(rig.Environment);
        Assert.Equal(0, rig.Environment.Blocks.InUse);
    }

    [Fact]
    public void Write_NothingWhileTheSynIsOut_HoldsNoFlight()
    {
        var rig = new SenderRig();
        var sender = new Sender(default, new NewReno());
        sender.StartMss(Mss);
        sender.SendSyn();
        BlockQueue nothing = default;
        sender.Write(ref nothing, rig.Environment);
        Assert.Null(sender.Flight);
    }
}

namespace Xdp.TcpLite.Tests;

/// <summary>
/// The order of the checks, and what each says. Verdicts are given by name: they are internal, and theories are not.
/// </summary>
public class ArrivalCheckTests
{
    private const int Window = 1000;
    private const TcpFlags Ack = TcpFlags.Ack;

    private static readonly Instant s_now = new(TimeSpan.TicksPerHour);

    /// <param name="flags">The segment's.</param>
    /// <param name="seq">From RCV.NXT on.</param>
    /// <param name="length">Payload bytes.</param>
    /// <param name="ack">From SND.UNA on; 500 are outstanding, and the largest window was 2000.</param>
    /// <param name="old">Its timestamp is older than TS.Recent.</param>
    /// <param name="verdict">What becomes of it.</param>
    /// <param name="reason">Why it is dropped.</param>
    [Theory]
    [InlineData(Ack, 0, 0, 0, false, "Accept", DropReason.None)]
    [InlineData(Ack, 0, 100, 500, false, "Accept", DropReason.None)]
    [InlineData(Ack, 0, 100, 0, true, "Acknowledge", DropReason.PawsFailed)]
    [InlineData(Ack, 0, 0, 0, true, "Challenge", DropReason.PawsFailed)]
    [InlineData(TcpFlags.Rst, 0, 0, 0, true, "Reset", DropReason.None)] // PAWS does not protect from RSTs
    [InlineData(Ack, -100, 100, 0, false, "Acknowledge", DropReason.OutOfWindow)]
    [InlineData(Ack, -1, 0, 0, false, "Challenge", DropReason.OutOfWindow)]
    [InlineData(Ack, Window, 1, 0, false, "Acknowledge", DropReason.OutOfWindow)]
    [InlineData(TcpFlags.Syn, -1, 0, 0, false, "Challenge", DropReason.OutOfWindow)]
    [InlineData(TcpFlags.Rst, -1, 0, 0, false, "Ignore", DropReason.OutOfWindow)]
    [InlineData(TcpFlags.Rst, 1, 0, 0, false, "Challenge", DropReason.BadRst)]
    [InlineData(TcpFlags.Rst | TcpFlags.Syn, 0, 0, 9999, false, "Reset", DropReason.None)]
    [InlineData(TcpFlags.Syn, 5, 0, 0, false, "Challenge", DropReason.BadSyn)]
    [InlineData(TcpFlags.Syn | Ack, 5, 0, 0, false, "Challenge", DropReason.BadSyn)]
    [InlineData(TcpFlags.None, 0, 100, 0, false, "Ignore", DropReason.MissingAck)]
    [InlineData(Ack, 0, 0, 501, false, "Challenge", DropReason.BadAck)]
    [InlineData(Ack, 0, 100, 501, false, "Acknowledge", DropReason.BadAck)]
    [InlineData(Ack, 0, 100, -2000, false, "Accept", DropReason.None)]
    [InlineData(Ack, 0, 100, -2001, false, "Challenge", DropReason.BadAck)]
    public void Run_Established_FollowsTheOrder(
        TcpFlags flags, int seq, int length, int ack, bool old, string verdict, DropReason reason)
    {
        foreach (uint start in new[] { 100_000u, 0xffff_ffffu, 0x7fff_ffffu })
        {
            Assert.Equal(
                (verdict, reason),
                Run(TcpState.Established, start, Window, flags, seq, length, ack, old, out _));
        }
    }

    /// <summary>
    /// RFC 9293, section 3.10.7.4, fifth: in SYN-RECEIVED anything but the ACK of our SYN gets a RST.
    /// </summary>
    [Theory]
    [InlineData(500, "Accept", DropReason.None)]
    [InlineData(499, "Refuse", DropReason.BadAck)]
    [InlineData(501, "Refuse", DropReason.BadAck)]
    public void Run_SynReceived_WantsTheExactAck(int ack, string verdict, DropReason reason) => Assert.Equal(
        (verdict, reason),
        Run(TcpState.SynReceived, 100_000, Window, Ack, 0, 0, ack, old: false, out _));

    /// <summary>
    /// After the peer's FIN a RST from before it is exact as well (Linux's tcp_reset_check); elsewhere it is not.
    /// </summary>
    [Theory]
    [InlineData(TcpState.CloseWait, -1, "Reset")]
    [InlineData(TcpState.Closing, -1, "Reset")]
    [InlineData(TcpState.LastAck, -1, "Reset")]
    [InlineData(TcpState.CloseWait, -2, "Ignore")]
    [InlineData(TcpState.Established, -1, "Ignore")]
    [InlineData(TcpState.FinWait1, -1, "Ignore")]
    [InlineData(TcpState.FinWait2, -1, "Ignore")]
    [InlineData(TcpState.SynReceived, -1, "Ignore")]
    public void Run_ResetBelowRcvNxt_CountsAfterTheFin(TcpState state, int seq, string verdict)
    {
        foreach (TcpFlags flags in new[] { TcpFlags.Rst, TcpFlags.Rst | Ack })
        {
            foreach (int window in new[] { Window, 0 })
            {
                foreach (uint start in new[] { 100_000u, 0u })
                    Assert.Equal(verdict, Run(state, start, window, flags, seq, 0, 0, old: true, out _).Verdict);
            }
        }
    }

    /// <summary>The special allowance for a shut window: ACKs count, and are answered.</summary>
    [Theory]
    [InlineData(0, 1, "Accept", true)]
    [InlineData(1, 1, "Acknowledge", false)]
    [InlineData(0, 0, "Accept", false)]
    public void Run_ShutWindow_TakesProbes(int seq, int length, string verdict, bool owes)
    {
        (string actual, _) = Run(
            TcpState.Established, 0xffff_ffff, 0, Ack, seq, length, ack: 0, old: false, out Receiver receiver);
        Assert.Equal((verdict, owes), (actual, receiver.Acks.IsDue));
    }

    /// <summary>RFC 2883: a segment that has come twice is reported.</summary>
    [Theory]
    [InlineData(-100, 100, true)]
    [InlineData(-1, 0, false)]
    [InlineData(Window, 100, false)]
    public void Run_OldData_IsReported(int seq, int length, bool reported)
    {
        Run(TcpState.Established, 10, Window, Ack, seq, length, ack: 0, old: false, out Receiver receiver);
        Assert.Equal(reported, receiver.Acks.HasDuplicate);
    }

    private static (string Verdict, DropReason Reason) Run(
        TcpState state, uint start, int window, TcpFlags flags, int seq, int length, int ack, bool old,
        out Receiver receiver)
    {
        var una = new SeqNumber(start);
        receiver = new Receiver(4000, 1000, s_now);
        receiver.Start(una - 1, window, shift: 0);
        var sender = new Sender(una - 1, new NewReno());
        sender.SendSyn();
        sender.AckSyn();
        sender.StartWindow(new Packet { Window = 2000 }, scaled: false);
        var next = new SendDecision { Retransmission = -1, Length = 500 };
        var rig = new PartRig();
        BlockQueue data = default;
        Block block = rig.Environment.Blocks.Take();
        block.Length = 500;
        data.Enqueue(block);
        sender.StartMss(1000);
        sender.Write(ref data, rig.Environment);
        sender.OnSent(sender.Cut(next, rig.Environment, s_now), next, rig.Environment.Options, s_now);
        var timestamps = new Timestamps(new NegotiatedOptions { Timestamps = true, TsRecent = 100 }, s_now);
        Packet packet = PartRig.Segment(flags, (una + seq).Value, (una + ack).Value) with
        {
            PayloadLength = length,
            HasTimestamps = true,
            TsVal = old ? 98u : 100,
        };
        ArrivalVerdict verdict = ArrivalCheck.Run(
            packet, state, ref receiver, sender, timestamps, s_now, out DropReason reason);
        sender.ReturnFlight(rig.Environment);
        return (verdict.ToString(), reason);
    }
}

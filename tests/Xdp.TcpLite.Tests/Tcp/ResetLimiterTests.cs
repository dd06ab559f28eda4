namespace Xdp.TcpLite.Tests;

public class ResetLimiterTests
{
    private readonly PartRig _rig = new();
    private readonly ResetLimiter _resets;

    public ResetLimiterTests() => _resets = new ResetLimiter(_rig.Environment);

    [Fact]
    public void Answer_SegmentWithAck_TakesItsSequenceNumberFromThere()
    {
        _resets.Answer(PartRig.Segment(TcpFlags.Ack, 1000, ack: 2000));
        Packet reset = _rig.TakeReply();
        Assert.Equal((TcpFlags.Rst, new SeqNumber(2000)), (reset.Flags, reset.Seq));
        Assert.Equal(1, _rig.Counters.RstsSent);
    }

    [Theory]
    [InlineData(TcpFlags.None, 0, 0)]
    [InlineData(TcpFlags.Syn, 0, 1)]
    [InlineData(TcpFlags.Syn | TcpFlags.Fin, 10, 12)]
    public void Answer_SegmentWithoutAck_AcknowledgesAllOfIt(TcpFlags flags, int payload, int length)
    {
        _resets.Answer(PartRig.Segment(flags, 0xffff_ffff) with { PayloadLength = payload });
        Packet reset = _rig.TakeReply();
        Assert.Equal(TcpFlags.Rst | TcpFlags.Ack, reset.Flags);
        Assert.Equal((new SeqNumber(0), new SeqNumber(0xffff_ffff) + length), (reset.Seq, reset.Ack));
    }

    [Theory]
    [InlineData(TcpFlags.Rst)]
    [InlineData(TcpFlags.Rst | TcpFlags.Ack)]
    public void Answer_Reset_IsNotAnswered(TcpFlags flags)
    {
        for (int i = 0; i < 2 * ResetLimiter.Burst; i++)
            _resets.Answer(PartRig.Segment(flags, 1000));
        _rig.AssertNoReply();
        Assert.Equal(ResetLimiter.Burst, AnswersTo(2 * ResetLimiter.Burst)); // they used nothing of the rate
    }

    [Fact]
    public void Answer_Flood_IsLimitedToABurstAndARate()
    {
        Assert.Equal(ResetLimiter.Burst, AnswersTo(5000));
        Assert.Equal(0, AnswersTo(5000));
        _rig.Advance(TimeSpan.FromMilliseconds(10));
        Assert.InRange(AnswersTo(5000), 499, 500);
        _rig.Advance(TimeSpan.FromMinutes(1));
        Assert.Equal(ResetLimiter.Burst, AnswersTo(5000));
    }

    private int AnswersTo(int segments)
    {
        for (int i = 0; i < segments; i++)
            _resets.Answer(PartRig.Segment(TcpFlags.Ack, 1000, ack: 2000));
        return _rig.TakeReplies().Count;
    }
}

namespace Xdp.TcpLite.Tests;

public class TimeWaitTableTests
{
    private const uint SndNxt = 9000;
    private const uint RcvNxt = 0xffff_fff0;
    private const int MaxTimeWait = 8;

    private static readonly TimeSpan s_time = TimeSpan.FromSeconds(60);

    private readonly PartRig _rig = new(new TcpStackOptions { MaxTimeWait = MaxTimeWait, TimeWait = s_time });
    private readonly TimeWaitTable _table;

    public TimeWaitTableTests() => _table = new TimeWaitTable(_rig.Environment);

    private static TimeWait Record(in FlowKey flow, bool timestamps = true) => new(flow)
    {
        Route = new Route(SegmentBuilder.Path),
        SndNxt = new SeqNumber(SndNxt),
        RcvNxt = new SeqNumber(RcvNxt),
        Window = 321,
        Timestamps = timestamps,
        TsOffset = timestamps ? 77u : 0,
        TsRecent = timestamps ? 5000u : 0,
    };

    private TimeWait Add(bool owesAck = false)
    {
        TimeWait record = Record(SegmentBuilder.FlowV4);
        _table.Add(record, owesAck, _rig.Now);
        return record;
    }

    private static Packet Segment(TcpFlags flags, int ahead = 0, int payload = 0) =>
        PartRig.Segment(flags, RcvNxt) with { Seq = new SeqNumber(RcvNxt) + ahead, PayloadLength = payload };

    private void Receive(TimeWait record, in Packet packet) => _table.Receive(record, packet, _rig.Now);

    private void AssertAnswer()
    {
        Packet answer = _rig.TakeReply();
        Assert.Equal(TcpFlags.Ack, answer.Flags);
        Assert.Equal((new SeqNumber(SndNxt), new SeqNumber(RcvNxt)), (answer.Seq, answer.Ack));
        Assert.Equal((321, true), (answer.Window, answer.HasTimestamps));
        Assert.Equal((TsClock.At(_rig.Now) + 77, 5000u), (answer.TsVal, answer.TsEcr));
    }

    // ---- entry and end

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Add_IsRememberedForItsTime(bool owesAck)
    {
        Instant start = _rig.Now;
        TimeWait record = Add(owesAck);
        Assert.Equal(1, _table.Count);
        Assert.Same(record, _rig.Environment.Flows.Find(record.Key));
        if (owesAck)
            AssertAnswer();
        else
            _rig.AssertNoReply();
        Assert.Same(record, _rig.TakeNextDue<TimeWait>());
        Assert.Equal(s_time, _rig.Now - start);
        _table.Forget(record);
        Assert.Equal((0, 0), (_table.Count, _rig.Environment.Flows.Count));
    }

    [Fact]
    public void Add_TheTupleIsTaken_IsNotRemembered()
    {
        TimeWait first = Add();
        TimeWait second = Add(owesAck: true);
        Assert.Equal(1, _table.Count);
        Assert.Same(first, _rig.Environment.Flows.Find(first.Key));
        Assert.False(second.IsScheduled);
        _rig.AssertNoReply();
    }

    [Fact]
    public void Table_RandomOperations_ForgetsTheOldestFirst()
    {
        var random = new Random(4);
        var model = new List<TimeWait>();
        for (int i = 0; i < 5000; i++)
        {
            if (model.Count > 0 && random.Next(3) == 0)
            {
                int index = random.Next(model.Count);
                _table.Forget(model[index]);
                Assert.False(model[index].IsScheduled);
                model.RemoveAt(index);
            }
            else
            {
                TimeWait record = Record(PartRig.Flow(i));
                _table.Add(record, owesAck: false, _rig.Now);
                model.Add(record);
                if (model.Count > MaxTimeWait)
                {
                    Assert.False(model[0].IsScheduled);
                    model.RemoveAt(0);
                }
            }
            Assert.Equal((model.Count, model.Count), (_table.Count, _rig.Environment.Flows.Count));
            Assert.All(model, record => Assert.Same(record, _rig.Environment.Flows.Find(record.Key)));
        }
    }

    // ---- arrival

    [Theory]
    [InlineData(TcpFlags.Rst)]
    [InlineData(TcpFlags.Rst | TcpFlags.Ack)]
    public void Receive_ResetAtRcvNxt_EndsIt(TcpFlags flags)
    {
        TimeWait record = Add();
        Receive(record, Segment(flags));
        _rig.AssertNoReply();
        Assert.Equal((0, 0), (_table.Count, _rig.Environment.Flows.Count));
        Assert.False(record.IsScheduled);
        Assert.Equal((1, 0), (_rig.Counters.RstsReceived, _rig.Counters[DropReason.TimeWaitSegment]));
    }

    [Theory]
    [InlineData(-100)]
    [InlineData(-1)]
    [InlineData(1)]
    public void Receive_ResetElsewhere_ChangesNothing(int ahead)
    {
        TimeWait record = Add();
        Receive(record, Segment(TcpFlags.Rst, ahead));
        Receive(record, Segment(TcpFlags.Rst | TcpFlags.Ack, ahead));
        _rig.AssertNoReply();
        Assert.Equal(1, _table.Count);
        Assert.Equal((0, 2), (_rig.Counters.RstsReceived, _rig.Counters[DropReason.TimeWaitSegment]));
    }

    [Theory]
    [InlineData(TcpFlags.Ack, 1)]
    [InlineData(TcpFlags.Ack | TcpFlags.Fin, 0)]
    public void Receive_DataOrFin_IsAlwaysAnswered(TcpFlags flags, int payload)
    {
        TimeWait record = Add();
        for (int i = 0; i < 3; i++)
        {
            Receive(record, Segment(flags, ahead: -1, payload));
            AssertAnswer();
        }
        Assert.Equal(3, _rig.Counters[DropReason.TimeWaitSegment]);
    }

    [Fact]
    public void Receive_TheExpectedAck_IsNotAnswered()
    {
        TimeWait record = Add();
        Receive(record, Segment(TcpFlags.Ack));
        _rig.AssertNoReply();
    }

    [Theory]
    [InlineData(TcpFlags.Ack, -1)]
    [InlineData(TcpFlags.Ack, 1)]
    [InlineData(TcpFlags.Syn, 0)]
    [InlineData(TcpFlags.Syn | TcpFlags.Ack, 0)]
    public void Receive_OtherSegmentsWithoutData_AreAnsweredAtALimitedRate(TcpFlags flags, int ahead)
    {
        TimeWait record = Add();
        for (int i = 0; i < 100; i++)
            Receive(record, Segment(flags, ahead));
        AssertAnswer();
        _rig.Advance(AnswerLimit.Interval);
        Receive(record, Segment(flags, ahead));
        AssertAnswer();
    }

    [Fact]
    public void Receive_AnswerToData_CountsAgainstTheRate()
    {
        TimeWait record = Add();
        Receive(record, Segment(TcpFlags.Ack, ahead: -1, payload: 1));
        AssertAnswer();
        Receive(record, Segment(TcpFlags.Ack, ahead: -1));
        _rig.AssertNoReply();
    }

    [Theory]
    [InlineData(-1, true)]
    [InlineData(0, false)]
    [InlineData(-2, false)]
    public void Receive_TheFinAgain_StartsTheTimeAnew(int ahead, bool anew)
    {
        TimeWait record = Add();
        Instant deadline = record.WheelDeadline;
        _rig.Advance(TimeSpan.FromSeconds(5));
        Receive(record, Segment(TcpFlags.Ack | TcpFlags.Fin, ahead));
        Assert.Equal(deadline + TimeSpan.FromSeconds(anew ? 5 : 0), record.WheelDeadline);
    }

    // ---- reuse (RFC 6191)

    [Theory]
    [InlineData(TcpFlags.Syn, 1, null, true)]
    [InlineData(TcpFlags.Syn, 0, null, false)]
    [InlineData(TcpFlags.Syn, -1, null, false)]
    [InlineData(TcpFlags.Syn, -1, 5001u, true)]
    [InlineData(TcpFlags.Syn, 1, 5000u, true)]
    [InlineData(TcpFlags.Syn, 0, 5000u, false)]
    [InlineData(TcpFlags.Syn, 1, 4999u, false)]
    [InlineData(TcpFlags.Syn | TcpFlags.Fin, 1, null, true)]
    [InlineData(TcpFlags.Syn | TcpFlags.Ack, 1, null, false)]
    [InlineData(TcpFlags.Syn | TcpFlags.Rst, 1, null, false)]
    [InlineData(TcpFlags.Ack, 1, null, false)]
    [InlineData(TcpFlags.None, 1, 5001u, false)]
    public void MayBeReusedBy_OnlyANewerSyn(TcpFlags flags, int ahead, uint? tsVal, bool reused)
    {
        Packet packet = Segment(flags, ahead) with { HasTimestamps = tsVal.HasValue, TsVal = tsVal ?? 0 };
        Assert.Equal(reused, Record(SegmentBuilder.FlowV4).MayBeReusedBy(packet));
    }

    [Theory]
    [InlineData(1, true)]
    [InlineData(0, false)]
    public void MayBeReusedBy_ConnectionHadNoTimestamps_GoesByTheSequenceNumber(int ahead, bool reused)
    {
        Packet packet = Segment(TcpFlags.Syn, ahead) with { HasTimestamps = true, TsVal = 9999 };
        Assert.Equal(reused, Record(SegmentBuilder.FlowV4, timestamps: false).MayBeReusedBy(packet));
    }

    /// <summary>As Linux has it, 0 is no timestamp to be older than: some hosts send it in their SYN.</summary>
    [Theory]
    [InlineData(1, 0xffff_ffffu, true)]
    [InlineData(0, 0xffff_ffffu, false)]
    [InlineData(-1, 1u, true)]
    public void MayBeReusedBy_TheLastTimestampWasZero_GoesByTheSequenceNumberToo(int ahead, uint tsVal, bool reused)
    {
        Packet packet = Segment(TcpFlags.Syn, ahead) with { HasTimestamps = true, TsVal = tsVal };
        TimeWait record = Record(SegmentBuilder.FlowV4);
        record.TsRecent = 0;
        Assert.Equal(reused, record.MayBeReusedBy(packet));
    }

    [Fact]
    public void LowestSuccessorIss_IsAheadOfEverythingThatWasSent() =>
        Assert.Equal(new SeqNumber(SndNxt) + 65_535, Record(SegmentBuilder.FlowV4).LowestSuccessorIss);
}

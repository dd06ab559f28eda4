namespace Xdp.TcpLite.Tests;

public class SegmentOutputTests
{
    private const int Mss = 1000;

    private static readonly FlowKey s_flow = SegmentBuilder.FlowV4;

    private readonly PartRig _rig = new();
    private readonly Route _path = new(SegmentBuilder.Path);
    private SegmentOutput _output;
    private Receiver _receiver;
    private Sender _sender;
    private Timestamps _timestamps;
    private Ecn _ecn;

    public SegmentOutputTests()
    {
        _receiver = new Receiver(100_000, Mss, _rig.Now);
        _receiver.Start(new SeqNumber(4999), initialWindow: 60_000, shift: 0);
        _sender = new Sender(new SeqNumber(999), new NewReno());
        var options = new NegotiatedOptions { Sack = true, Timestamps = true, TsRecent = 77, TsOffset = 5 };
        _sender.Negotiate(options);
        _sender.StartMss(Mss);
        _sender.SendSyn();
        _sender.AckSyn();
        _sender.StartWindow(new Packet { Window = 60_000 }, scaled: false);
        _timestamps = new Timestamps(options, _rig.Now);
    }

    private SegmentSources Sources() => new(
        _rig.Environment, _rig.Environment.Options, _path, in s_flow, ref _receiver, ref _sender, in _timestamps,
        ref _ecn, _rig.Now);

    private void Write(int bytes, bool frame)
    {
        Block block = frame ? _rig.Environment.Frames.TryTakeForWriting()! : _rig.Environment.Blocks.Take();
        block.Length = bytes;
        for (int i = 0; i < bytes; i++)
            block.Bytes[i] = (byte)(i * 3);
        BlockQueue data = default;
        data.Enqueue(block);
        _sender.Write(ref data, _rig.Environment);
    }

    private WriteResult WriteNext(out Packet written, out TxPacket packet)
    {
        _sender.Next(_rig.Environment.Options, _timestamps, _rig.Counters, _rig.Now, out SendDecision next);
        WriteResult result = _output.WriteNext(Sources(), next, out packet);
        written = default;
        if (result == WriteResult.Written)
            written = Parse(packet);
        return result;
    }

    private static Packet Parse(in TxPacket packet)
    {
        ReadOnlySpan<byte> bytes = packet.Frame.Span.Slice(packet.Start, packet.Length);
        Assert.Equal(DropReason.None, PacketParser.Parse(bytes, acceptPartialChecksum: false, out Packet written));
        return written;
    }

    /// <summary>
    /// A payload in a frame goes out from there; one on the heap is copied to a frame that nobody keeps.
    /// </summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void WriteNext_NewData_CarriesThePayloadAndAcknowledges(bool frame)
    {
        Write(600, frame);
        int free = _rig.Environment.Frames.FreeCount;
        _receiver.Acks.Owe();
        Assert.Equal(WriteResult.Written, WriteNext(out Packet written, out TxPacket packet));
        Assert.Equal((1000u, 5000u, 600), (written.Seq.Value, written.Ack.Value, written.PayloadLength));
        Assert.Equal(TcpFlags.Ack | TcpFlags.Psh, written.Flags);
        Assert.Equal((true, TsClock.At(_rig.Now) + 5, 77u), (written.HasTimestamps, written.TsVal, written.TsEcr));
        for (int i = 0; i < 600; i++)
            Assert.Equal((byte)(i * 3), packet.Frame.Span[packet.Start + written.PayloadStart + i]);
        Assert.Equal((600, 600, 1u), (_sender.Outstanding, _rig.Counters.BytesOut, _output.Count));
        Assert.False(_receiver.Acks.IsDue);
        Assert.Equal(frame ? free : free - 1, _rig.Environment.Frames.FreeCount);
        _rig.Environment.Frames.Completed(packet.Frame);
        Assert.Equal(free, _rig.Environment.Frames.FreeCount);
        Assert.Equal(WriteResult.Nothing, WriteNext(out _, out _));
        _sender.ReturnFlight(_rig.Environment);
        Assert.Equal((4, 0), (_rig.Environment.Frames.FreeCount, _rig.Environment.Blocks.InUse));
    }

    /// <summary>PSH ends what was written, and marks what is no full segment; FIN follows the last byte.</summary>
    [Fact]
    public void WriteNext_Flags_TellTheEndOfTheData()
    {
        Write(2 * Mss, frame: false);
        _sender.Shutdown();
        WriteNext(out Packet first, out _);
        WriteNext(out Packet second, out _);
        Assert.Equal(TcpFlags.Ack, first.Flags);
        Assert.Equal(TcpFlags.Ack | TcpFlags.Psh | TcpFlags.Fin, second.Flags);
        Assert.Equal(2001, _sender.Outstanding);
    }

    [Fact]
    public void WriteNext_NoFrame_ChangesNothing()
    {
        Write(600, frame: false);
        var taken = new Stack<Block>();
        while (_rig.Environment.Frames.TryTakeForFill() is { } frame)
            taken.Push(frame);
        Assert.Equal(WriteResult.Starved, WriteNext(out _, out _));
        Assert.Equal((0, 600, 0u), (_sender.Outstanding, _sender.UnsentBytes, _output.Count));
        _receiver.Acks.Owe();
        Assert.Equal(WriteResult.Starved, _output.WriteAckIfDue(Sources(), out _));
        Assert.True(_receiver.Acks.IsDue);
        Block back = taken.Pop();
        _rig.Environment.Frames.Received(back);
        back.Return();
        Assert.Equal(WriteResult.Written, WriteNext(out Packet written, out _));
        Assert.Equal(600, written.PayloadLength);
    }

    /// <summary>A probe comes from before the window, so that the peer must answer it.</summary>
    [Fact]
    public void WriteNext_Probe_ThenTheAckThatIsDue()
    {
        _sender.ProbeIsDue = true;
        _receiver.Acks.Owe();
        WriteNext(out Packet probe, out _);
        Assert.Equal((999u, 0, false), (probe.Seq.Value, probe.PayloadLength, _sender.ProbeIsDue));
        // It acknowledges as well.
        Assert.Equal(WriteResult.Nothing, WriteNext(out _, out _));
        _receiver.Acks.Owe();
        Assert.Equal(WriteResult.Written, WriteNext(out Packet ack, out _));
        Assert.Equal(1000u, ack.Seq.Value);
    }

    /// <summary>Data has no room for SACK: a bare ACK follows it.</summary>
    [Fact]
    public void WriteNext_DuplicateToReport_TakesABareAck()
    {
        Write(600, frame: false);
        _receiver.Acks.OnDuplicate(new SeqNumber(4000), new SeqNumber(4100));
        _receiver.Acks.Owe();
        WriteNext(out Packet data, out _);
        Assert.Equal((600, 0), (data.PayloadLength, data.Sack.Count));
        WriteNext(out Packet ack, out _);
        Assert.Equal((0, 1), (ack.PayloadLength, ack.Sack.Count));
        Assert.Equal((new SeqNumber(4000), new SeqNumber(4100)), ack.Sack[0]);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void WriteSyn_CarriesTheOffer(bool answers)
    {
        var offer = new NegotiatedOptions { Sack = true, WindowScaling = true, RcvWndShift = 7 };
        var opening = new ActiveOpen(offer, TimeSpan.FromSeconds(1), _rig.Now);
        Assert.Equal(WriteResult.Written, _output.WriteSyn(Sources(), opening, answers, out TxPacket packet));
        Packet syn = Parse(packet);
        Assert.Equal(answers ? TcpFlags.Syn | TcpFlags.Ack : TcpFlags.Syn, syn.Flags);
        Assert.Equal((1000u, true, 7, true), (syn.Seq.Value, syn.SackPermitted, syn.WindowScale, syn.HasWindowScale));
        Assert.Equal((false, 1u), (opening.SynIsDue, _output.Count));
    }

    [Fact]
    public void AckWithinBatchAndReset_AreQueuedAsReplies()
    {
        _receiver.Acks.Owe();
        _output.AckWithinBatch(Sources());
        Packet ack = _rig.TakeReply();
        Assert.Equal((TcpFlags.Ack, 1000u, 5000u), (ack.Flags, ack.Seq.Value, ack.Ack.Value));
        Assert.Equal((false, 1u), (_receiver.Acks.IsDue, _output.Count));
        SegmentOutput.Reset(Sources());
        Packet reset = _rig.TakeReply();
        Assert.Equal((TcpFlags.Rst | TcpFlags.Ack, 1000u, 5000u), (reset.Flags, reset.Seq.Value, reset.Ack.Value));
        Assert.Equal((1, 1u), (_rig.Counters.RstsSent, _output.Count));
    }
}

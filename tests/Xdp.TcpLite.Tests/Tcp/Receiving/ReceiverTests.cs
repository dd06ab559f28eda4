namespace Xdp.TcpLite.Tests;

public class ReceiverTests
{
    private const int Buffer = 4000;
    private const int Mss = 536;

    private readonly PartRig _rig = new(new TcpStackOptions { ReceiveBufferMax = Buffer });
    private Receiver _receiver;

    /// <summary>A receiver whose next byte has this number.</summary>
    private void Start(uint rcvNxt, int window = Buffer, byte shift = 0)
    {
        _receiver = new Receiver(Buffer, sndMss: 1460, _rig.Now);
        _receiver.Start(new SeqNumber(rcvNxt) - 1, window, shift);
    }

    private Packet Segment(int offset, int length, TcpFlags flags = TcpFlags.Ack) =>
        PartRig.Segment(flags, (_receiver.RcvNxt + offset).Value) with { PayloadLength = length };

    /// <summary>
    /// Takes in payload that begins this far from RCV.NXT. Each byte is the lower half of its number.
    /// </summary>
    private bool Accept(int offset, int length, bool hasSack = true)
    {
        Block frame = _rig.Environment.Frames.TryTakeForFill()!;
        _rig.Environment.Frames.Received(frame);
        SeqNumber seq = _receiver.RcvNxt + offset;
        for (int i = 0; i < length; i++)
            frame.Span[100 + i] = (byte)(seq + i).Value;
        bool kept = _receiver.Accept(
            seq, frame, 100, length, hasSack, _rig.Environment.Options, _rig.Environment);
        if (!kept)
            frame.Return();
        return kept;
    }

    /// <summary>Takes everything and checks that it is the stream from <paramref name="from"/> on.</summary>
    private long ReadAll(SeqNumber from)
    {
        BlockQueue taken = _receiver.Take(long.MaxValue);
        long bytes = 0;
        while (taken.Dequeue() is { } block)
        {
            foreach (byte b in block.Bytes)
                Assert.Equal((byte)(from + (int)bytes++).Value, b);
            block.Return();
        }
        return bytes;
    }

    private void AssertNothingHeld()
    {
        Assert.Equal(_rig.Environment.Frames.FrameCount, _rig.Environment.Frames.FreeCount);
        Assert.Equal((0, 0), (_rig.Environment.Blocks.InUse, _rig.Environment.Frames.KeptAhead));
    }

    /// <summary>
    /// RFC 9293, section 3.10.7.4, the table of the first step. A bare segment at the right edge is taken, too.
    /// </summary>
    [Theory]
    [InlineData(0, 0, 0, true)]
    [InlineData(0, -1, 0, false)]
    [InlineData(0, 1, 0, false)]
    [InlineData(0, 0, 1, false)]
    [InlineData(1000, -1, 0, false)]
    [InlineData(1000, 0, 0, true)]
    [InlineData(1000, 999, 0, true)]
    [InlineData(1000, 1000, 0, true)]
    [InlineData(1000, 1001, 0, false)]
    [InlineData(1000, -10, 10, false)]
    [InlineData(1000, -10, 11, true)]
    [InlineData(1000, 999, 500, true)]
    [InlineData(1000, 1000, 500, false)]
    [InlineData(1000, -500, 5000, true)]
    public void IsAcceptable_FollowsTheTable(int window, int offset, int length, bool expected)
    {
        foreach (uint rcvNxt in new[] { 5000u, 0u, 0xffff_fe00u, 0x7fff_ff00u })
        {
            Start(rcvNxt, window);
            Assert.Equal(expected, _receiver.IsAcceptable(Segment(offset, length)));
        }
    }

    [Theory]
    [InlineData(0, 100, 0, 100)]
    [InlineData(-100, 300, 100, 200)]
    [InlineData(900, 300, 0, 100)]
    [InlineData(-5, 2000, 5, 1000)]
    [InlineData(-100, 100, 100, 0)]
    [InlineData(1000, 10, 0, 0)]
    public void TryTrim_CutsBothSides(int offset, int length, int skipped, int left)
    {
        foreach (uint rcvNxt in new[] { 5000u, 50u, 0xffff_ff80u })
        {
            Start(rcvNxt, window: 1000);
            bool any = _receiver.TryTrim(Segment(offset, length), out SeqNumber seq, out int cut, out int rest);
            Assert.Equal((left > 0, skipped), (any, cut));
            Assert.Equal(_receiver.RcvNxt + offset + skipped, seq);
            if (any)
                Assert.Equal(left, rest);
            // What came twice is reported; whatever was cut off whole is acknowledged at once.
            Assert.Equal((skipped > 0, skipped > 0 || left == 0), (_receiver.Acks.HasDuplicate, _receiver.Acks.IsDue));
        }
    }

    /// <summary>
    /// RFC 1122, section 4.2.3.3: the right edge moves by a full segment or half the buffer, never back.
    /// </summary>
    [Theory]
    [InlineData(Mss - 1, false)]
    [InlineData(Mss, true)]
    public void Announce_Crumbs_AreKeptBack(int examined, bool moves)
    {
        Start(1000);
        while (_receiver.AnnouncedWindow > 0)
            Accept(0, Math.Min(200, _receiver.AnnouncedWindow));
        Assert.Equal(0, _receiver.Announce(_rig.Environment.Memory));
        Assert.Equal(Buffer, ReadAll(new SeqNumber(1000)));
        Assert.Equal(
            moves, _receiver.Release(examined, kept: null, isOpen: true, TimeSpan.FromSeconds(1), _rig.Environment));
        Assert.Equal(moves ? examined : 0, _receiver.Announce(_rig.Environment.Memory));
        Assert.Equal(moves ? examined : 0, _receiver.AnnouncedWindow);
    }

    [Fact]
    public void Announce_Scaled_NeverMovesTheEdgeBack()
    {
        Start(0xffff_ff00, window: 1023, shift: 7);
        SeqNumber edge = _receiver.RcvNxt + 1023;
        for (int i = 0; i < 5; i++)
        {
            Accept(0, 77);
            _receiver.Announce(_rig.Environment.Memory);
            SeqNumber next = _receiver.RcvNxt + _receiver.AnnouncedWindow;
            Assert.True(next >= edge);
            edge = next;
        }
        Assert.Equal(5 * 77, ReadAll(new SeqNumber(0xffff_ff00)));
        AssertNothingHeld();
    }

    [Theory]
    [InlineData(1, 100)]
    [InlineData(2, 100)]
    [InlineData(3, 300)] // in frames, as long as they are plenty
    [InlineData(4, 300)]
    public void Accept_AnyOrderAndTwice_DeliversTheStreamOnce(int seed, int length)
    {
        const int segments = 12;
        var random = new Random(seed);
        uint first = 0u - (uint)(length * segments / 2);
        Start(first);
        int[] order = [.. Enumerable.Range(0, 2 * segments).Select(i => i % segments)];
        random.Shuffle(order);
        foreach (int i in order)
        {
            int offset = new SeqNumber(first) + i * length - _receiver.RcvNxt;
            if (offset >= 0)
                Accept(offset, length);
        }
        Assert.Equal((length * segments, length * segments), (_receiver.ReadableBytes, _receiver.BytesReceived));
        Assert.Equal(new SeqNumber(first) + length * segments, _receiver.RcvNxt);
        Assert.Equal(length * segments, ReadAll(new SeqNumber(first)));
        Assert.False(_receiver.OwesBareAck(hasSack: false));
        AssertNothingHeld();
    }

    /// <summary>RFC 2883, section 4: the duplicate comes first, then what lies ahead of the gap.</summary>
    [Fact]
    public void WriteSack_GapAndDuplicate_BothAreReported()
    {
        Start(0xffff_ffc0);
        SeqNumber start = _receiver.RcvNxt;
        Accept(100, 50);
        Accept(300, 50);
        Accept(300, 50);
        Assert.True(_receiver.OwesBareAck(hasSack: true));
        SegmentFields fields = default;
        _receiver.WriteSack(ref fields, most: 4);
        Assert.Equal(3, fields.Sack.Count);
        Assert.Equal((start + 300, start + 350), fields.Sack[0]);
        Assert.Equal((start + 300, start + 350), fields.Sack[1]);
        Assert.Equal((start + 100, start + 150), fields.Sack[2]);
        _receiver.Discard(_rig.Environment);
        AssertNothingHeld();
    }

    [Theory]
    [InlineData(5000u)]
    [InlineData(0xffff_fff0u)]
    public void TryTakeFin_OutOfOrder_WaitsForWhatIsBefore(uint rcvNxt)
    {
        Start(rcvNxt);
        _receiver.NoteFin(Segment(100, 0, TcpFlags.Fin | TcpFlags.Ack), isOpen: true);
        Accept(50, 50);
        Assert.False(_receiver.TryTakeFin(_rig.Environment));
        Accept(0, 50);
        Assert.True(_receiver.TryTakeFin(_rig.Environment));
        Assert.Equal(new SeqNumber(rcvNxt) + 101, _receiver.RcvNxt);
        _receiver.NoteFin(Segment(-1, 0, TcpFlags.Fin | TcpFlags.Ack), isOpen: true);
        Assert.False(_receiver.TryTakeFin(_rig.Environment));
        Assert.Equal(100, ReadAll(new SeqNumber(rcvNxt)));
        AssertNothingHeld();
    }

    [Theory]
    [InlineData(1001, true)] // behind the window
    [InlineData(0, false)] // in a state in which the peer has closed
    public void NoteFin_NotTheirs_IsPassedOver(int offset, bool isOpen)
    {
        Start(1000, window: 1000);
        _receiver.NoteFin(Segment(offset, 0, TcpFlags.Fin | TcpFlags.Ack), isOpen);
        while (_receiver.AnnouncedWindow > 0)
            Accept(0, 100);
        Assert.False(_receiver.TryTakeFin(_rig.Environment));
        Assert.True(_receiver.Acks.IsDue);
        _receiver.ReturnReceived();
    }

    [Fact]
    public void Discard_WhatComes_IsAcknowledgedAndNotKept()
    {
        Start(1000);
        Accept(0, 100);
        Accept(500, 300);
        _receiver.Discard(_rig.Environment);
        Accept(0, 300);
        Accept(200, 300);
        Assert.Equal((1400u, 0), (_receiver.RcvNxt.Value, _receiver.ReadableBytes));
        Assert.False(_receiver.Release(400, kept: null, isOpen: true, default, _rig.Environment));
        AssertNothingHeld();
    }

    /// <summary>Up to the minimum, payload in order is taken even then; beyond it is not acknowledged.</summary>
    [Theory]
    [InlineData(1000, 1)]
    [InlineData(0, 0)]
    public void Accept_NoMemory_TakesTheMinimum(int beyond, int drops)
    {
        var options = new TcpStackOptions { ReceiveMinimum = 4096 };
        Start(1000);
        var heap = new BlockPool(BlockPool.BlockSize);
        Block held = heap.TryTake()!;
        var frames = _rig.Environment.Frames;
        var environment = new StackEnvironment(options, frames, heap, PartRig.Secret, _rig.Now);
        Block payload = _rig.Environment.Blocks.Take();
        Accept(4000);
        Accept(96);
        if (beyond > 0)
            Accept(beyond);
        Assert.Equal((1000u + 4096, drops), (_receiver.RcvNxt.Value, environment.Counters[DropReason.NoMemory]));
        payload.Return();
        held.Return();
        _receiver.ReturnReceived();
        Assert.Equal(0, heap.InUse);

        void Accept(int length) => Assert.False(_receiver.Accept(
            _receiver.RcvNxt, payload, 0, length, hasSack: true, environment.Options, environment));
    }

    /// <summary>After close: no more is invited than is left, and what was announced before stays.</summary>
    [Fact]
    public void Invite_LessThanIsAnnounced_TheEdgeStaysAndIsNotRenewed()
    {
        Start(0xffff_ff00);
        _receiver.Discard(_rig.Environment);
        Assert.True(_receiver.Invite(5000));
        Assert.Equal(Buffer, _receiver.Announce(_rig.Environment.Memory));
        Accept(0, 1000);
        Assert.True(_receiver.Invite(4000));
        Assert.Equal(Buffer, _receiver.Announce(_rig.Environment.Memory));
        Accept(0, 1000);
        Assert.True(_receiver.Invite(3000));
        Assert.Equal(3000, _receiver.Announce(_rig.Environment.Memory));
        Accept(0, 1500);
        Accept(0, 1000);
        Assert.False(_receiver.Invite(500));
        Assert.Equal(500, _receiver.Announce(_rig.Environment.Memory));
        Accept(0, 500);
        Assert.False(_receiver.Invite(0));
        Assert.Equal(0, _receiver.Announce(_rig.Environment.Memory));
        AssertNothingHeld();
    }

    /// <summary>What the window field cannot tell is not invited.</summary>
    [Theory]
    [InlineData(0, Mss, true)]
    [InlineData(0, Mss - 1, false)]
    [InlineData(14, 16_384, true)]
    [InlineData(14, 16_383, false)]
    public void Invite_TooLittle_IsSaid(byte shift, long most, bool enough)
    {
        Start(1, shift: shift);
        _receiver.Discard(_rig.Environment);
        Assert.Equal(enough, _receiver.Invite(most));
    }
}

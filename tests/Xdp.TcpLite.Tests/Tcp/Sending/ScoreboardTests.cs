namespace Xdp.TcpLite.Tests;

public class ScoreboardTests
{
    private const int Mss = 100;

    private readonly PartRig _rig = new();
    private readonly SendQueue _queue = new();
    private Scoreboard _board;

    private void Send(uint first, int segments)
    {
        BlockQueue data = default;
        Block block = _rig.Environment.Blocks.Take();
        block.Length = segments * Mss;
        data.Enqueue(block);
        _queue.Append(ref data, _rig.Environment.Frames, Mss);
        var seq = new SeqNumber(first);
        _board.Start(seq);
        for (int i = 0; i < segments; i++)
            _queue.Cut(Mss, seq + i * Mss, fin: i == segments - 1, _rig.Now);
    }

    private void AssertSumsAreTheMarks()
    {
        long sacked = 0, lost = 0, again = 0, outstanding = 0;
        int sackedSegments = 0;
        for (int i = 0; i < _queue.Count; i++)
        {
            SentSegment segment = _queue[i];
            outstanding += segment.SequenceLength;
            sacked += segment.Has(SentFlags.Sacked) ? segment.SequenceLength : 0;
            sackedSegments += segment.Has(SentFlags.Sacked) ? 1 : 0;
            lost += segment.Has(SentFlags.Lost) ? segment.SequenceLength : 0;
            again += segment.Has(SentFlags.Retransmitted) ? segment.SequenceLength : 0;
        }
        Assert.Equal(
            (sacked, sackedSegments, lost, again),
            (_board.SackedBytes, _board.SackedSegments, _board.LostBytes, _board.RetransmittedBytes));
        Assert.Equal(outstanding - sacked - lost + again, _board.InFlight(outstanding));
        Assert.InRange(_board.InFlight(outstanding), 0, outstanding + again);
    }

    [Theory]
    [InlineData(1000u, 1)]
    [InlineData(0xffff_ff00u, 2)]
    [InlineData(0x7fff_ff00u, 3)]
    public void Marks_AnyOrder_SumsFollow(uint first, int seed)
    {
        var random = new Random(seed);
        Send(first, 30);
        SeqNumber sndNxt = new SeqNumber(first) + 30 * Mss + 1;
        for (int step = 0; step < 2000 && _queue.Count > 0; step++)
        {
            ref SentSegment segment = ref _queue[random.Next(_queue.Count)];
            bool isSacked = segment.Has(SentFlags.Sacked);
            switch (random.Next(20))
            {
                case < 6 when !isSacked:
                    _board.MarkLost(ref segment);
                    break;
                case < 8 when !isSacked:
                    _board.MarkSacked(ref segment, segment.EndSeq);
                    break;
                case < 15:
                    if (_board.FindLost(_queue, sndNxt) is >= 0 and var next)
                        _board.MarkRetransmitted(ref _queue[next]);
                    break;
                case 15:
                    _board.MarkAllLost(_queue);
                    break;
                case 16:
                    _board.ForgetLosses(_queue);
                    break;
                case 17:
                    int bytes = random.Next(1, _queue[0].SequenceLength + 1);
                    bool whole = bytes == _queue[0].SequenceLength;
                    SeqNumber una = _queue[0].Seq + bytes;
                    _board.Remove(_queue[0], bytes, whole);
                    _queue.Acknowledge(bytes);
                    _board.OnAcknowledged(una);
                    break;
            }
            if (_queue.Count > 0)
                AssertSumsAreTheMarks();
        }
        _queue.ReturnAll();
    }

    /// <summary>FindLost remembers where it was. A loss that is found before that place is seen all the same.</summary>
    [Theory]
    [InlineData(1000u)]
    [InlineData(0xffff_ffe0u)]
    public void FindLost_GivesEachLossOnceInOrder(uint first)
    {
        Send(first, 5);
        SeqNumber sndNxt = new SeqNumber(first) + 5 * Mss + 1;
        Assert.Equal(-1, _board.FindLost(_queue, sndNxt));
        _board.MarkLost(ref _queue[3]);
        Assert.Equal(3, _board.FindLost(_queue, sndNxt));
        _board.MarkLost(ref _queue[1]);
        Assert.Equal(1, _board.FindLost(_queue, sndNxt));
        _board.MarkRetransmitted(ref _queue[1]);
        Assert.Equal((3, true), (_board.FindLost(_queue, sndNxt), _board.HasUnrepairedLoss));
        _board.MarkRetransmitted(ref _queue[3]);
        Assert.Equal((-1, false), (_board.FindLost(_queue, sndNxt), _board.HasUnrepairedLoss));
        _board.MarkLost(ref _queue[1]); // its retransmission, too
        Assert.Equal(1, _board.FindLost(_queue, sndNxt));
        _queue.ReturnAll();
    }

    /// <summary>
    /// RFC 2018, section 8: a peer may drop what it has SACKed. Then the first segment is SACKed at a time-out.
    /// </summary>
    [Theory]
    [InlineData(0, 5)]
    [InlineData(1, 4)]
    public void MarkAllLost_FirstIsSacked_SacksAreForgotten(int sacked, int lost)
    {
        Send(0xffff_ff80, 5);
        _board.MarkSacked(ref _queue[sacked], _queue[sacked].EndSeq);
        _board.MarkAllLost(_queue);
        Assert.Equal((lost * Mss + 1, (5 - lost) * Mss), (_board.LostBytes, _board.SackedBytes));
        Assert.Equal(0, _board.FindLost(_queue, default));
        AssertSumsAreTheMarks();
        _queue.ReturnAll();
    }

    [Fact]
    public void MarkTooLarge_OnlyWhatIsLargerAndNotSacked()
    {
        Send(1, 3);
        _board.MarkSacked(ref _queue[1], _queue[1].EndSeq);
        Assert.False(_board.MarkTooLarge(_queue, Mss));
        Assert.True(_board.MarkTooLarge(_queue, Mss - 1));
        Assert.Equal(2 * Mss + 1, _board.LostBytes);
        _queue.ReturnAll();
    }
}

namespace Xdp.TcpLite.Tests;

public class HyStartTests
{
    private const int Mss = 1000;

    /// <summary>
    /// ACKs, each with the same round trip, and a round of so many in flight. Returns what the window gets of 1000
    /// bytes each.
    /// </summary>
    private static long Round(
        HyStart hyStart, double rtt, out bool isOver, int acks = 20, int round = 20, bool isPaced = false)
    {
        long growth = 0;
        isOver = false;
        for (int i = 0; i < acks && !isOver; i++)
        {
            var sample = new AckSample
            {
                AckedBytes = Mss,
                Rtt = TimeSpan.FromMilliseconds(rtt),
                Srtt = TimeSpan.FromMilliseconds(rtt),
                MinRtt = TimeSpan.FromMilliseconds(rtt),
                InFlight = round * Mss,
                CwndLimited = true,
                IsCwndFull = false,
                InFastRecovery = false,
                HasSack = true,
                MayGrow = true,
                IsPaced = isPaced,
                Now = default,
            };
            growth += hyStart.OnAck(sample, Mss, out isOver);
        }
        return growth;
    }

    /// <summary>RFC 9406, section 4.2: RttThresh is an eighth of the last round's least, from 4 to 16 ms.</summary>
    [Theory]
    [InlineData(8, 11.9, false)]
    [InlineData(8, 12.1, true)]
    [InlineData(80, 89.9, false)]
    [InlineData(80, 90.1, true)]
    [InlineData(400, 415.9, false)]
    [InlineData(400, 416.1, true)]
    public void OnAck_RoundTripGrows_SlowsDown(double first, double second, bool slower)
    {
        var hyStart = new HyStart();
        Round(hyStart, first, out _, acks: 1);
        Assert.Equal(20 * Mss, Round(hyStart, first, out _));
        long growth = Round(hyStart, second, out bool isOver);
        Assert.Equal(slower, growth < 20 * Mss);
        Assert.False(isOver);
    }

    /// <summary>
    /// A paced sender meets the queue at the end of a round. Eight samples in a row tell of it, one short one among
    /// them that it is not there.
    /// </summary>
    [Theory]
    [InlineData(true, 8, true)]
    [InlineData(true, 7, false)]
    [InlineData(false, 8, false)]
    public void OnAck_LateInTheRound_SlowsDownWhatIsPaced(bool isPaced, int slowAcks, bool slower)
    {
        var hyStart = new HyStart();
        Round(hyStart, 80, out _, acks: 1, round: 40);
        Round(hyStart, 80, out _, acks: 40, round: 40);
        int fastAcks = 24 - slowAcks;
        Round(hyStart, 80, out _, acks: fastAcks, round: 40, isPaced: isPaced);
        long growth = Round(hyStart, 100, out _, acks: slowAcks, round: 40, isPaced: isPaced);
        Assert.Equal(slower, growth < slowAcks * Mss);
    }

    /// <summary>Fewer than eight samples are no evidence.</summary>
    [Fact]
    public void OnAck_FewSamples_DoNotSlowDown()
    {
        var hyStart = new HyStart();
        Round(hyStart, 20, out _, acks: 1, round: 7);
        Round(hyStart, 20, out _, acks: 7, round: 7);
        Assert.Equal(7 * Mss, Round(hyStart, 100, out _, acks: 7, round: 7));
    }

    /// <summary>After five conservative rounds, at a quarter of the pace, slow start is over.</summary>
    [Fact]
    public void OnAck_FiveSlowRounds_AreTheEnd()
    {
        var hyStart = new HyStart();
        Round(hyStart, 20, out _, acks: 1);
        Round(hyStart, 20, out _);
        bool isOver = false;
        int rounds = 0;
        while (!isOver)
        {
            long growth = Round(hyStart, 40, out isOver);
            if (++rounds > 1 && !isOver)
                Assert.Equal(20 * Mss / 4, growth);
        }
        Assert.Equal(5, rounds);
    }

    /// <summary>The growth was chance: slow start goes on as before.</summary>
    [Fact]
    public void OnAck_RoundTripFallsAgain_Resumes()
    {
        var hyStart = new HyStart();
        Round(hyStart, 20, out _, acks: 1);
        Round(hyStart, 20, out _);
        Round(hyStart, 40, out _);
        Round(hyStart, 20, out _);
        Assert.Equal(20 * Mss, Round(hyStart, 20, out _));
    }
}

using System.Diagnostics;
using Xunit.Abstractions;

namespace Xdp.TcpLite.Tests.Hostile;

/// <summary>
/// A peer with a tiny MSS has thousands of segments in flight, and SACKs them so that each ACK costs as much work as
/// possible.
/// </summary>
[Collection(nameof(Alone))]
public class SackFloodTests
{
    private const int Acks = 20_000;
    private const int Batch = 1000;
    private const int Mss = 48;

    /// <summary>
    /// What such an ACK may cost, in plain ACKs. Walking everything in flight for each would cost a thousand and more.
    /// </summary>
    private const int MostOfPlain = 50;

    private readonly Rig _rig = new(frames: 2048);
    private readonly ITestOutputHelper _output;
    private readonly Peer _peer;
    private readonly TcpConnection _connection;

    public SackFloodTests(ITestOutputHelper output)
    {
        _output = output;
        _peer = new Peer(_rig) { Mss = Mss, WindowScale = 14 };
        _connection = _peer.Connect();
        for (int i = 0; i < 24; i++)
        {
            while (_connection.UnacknowledgedBytes < 4 << 20)
                _peer.Write(1 << 18);
            _rig.Milliseconds(10);
            _peer.Take();
            if (i < 23)
                _peer.AckUpTo(_connection.SndNxt);
        }
    }

    private void Measure(Func<int, (SeqNumber Left, SeqNumber Right)[]> sack)
    {
        int inFlight = Invariants.SegmentsInFlight(_connection);
        TimeSpan plain = CostOf(_ => []);
        TimeSpan each = CostOf(sack);
        string cost = $"{inFlight} segments in flight, {each.TotalNanoseconds:F0} ns an ACK, "
            + $"{plain.TotalNanoseconds:F0} ns a plain one";
        _output.WriteLine(cost);
        _rig.Emit();
        Invariants.CheckScoreboard(_connection);
        Assert.InRange(inFlight, 1000, 10_000);
        Assert.True(each < MostOfPlain * plain, cost);
    }

    private TimeSpan CostOf(Func<int, (SeqNumber Left, SeqNumber Right)[]> sack)
    {
        // Made beforehand and answered by nobody: what is measured is the ACK.
        byte[][] frames = new byte[Acks][];
        SeqNumber una = _connection.SndUna;
        for (int i = 0; i < Acks; i++)
        {
            SegmentFields fields = _peer.Fields(TcpFlags.Ack) with { Ack = una };
            foreach ((SeqNumber left, SeqNumber right) in sack(i))
                fields.Sack.Add(left, right);
            frames[i] = _peer.Build(fields);
        }
        // The best of several batches: others use the machine too.
        TimeSpan least = TimeSpan.MaxValue;
        foreach (byte[][] batch in frames.Chunk(Batch))
        {
            long start = Stopwatch.GetTimestamp();
            foreach (byte[] frame in batch)
                _rig.DeliverSilently(frame);
            TimeSpan took = Stopwatch.GetElapsedTime(start) / batch.Length;
            least = took < least ? took : least;
        }
        return least;
    }

    [Fact]
    public void Sack_OfAllButTheFirst_AgainAndAgain()
    {
        SeqNumber una = _connection.SndUna, nxt = _connection.SndNxt;
        Measure(i => i % 2 == 0 ? [(una + Mss, nxt)] : [(una + Mss * 5, una + Mss * 6)]);
    }

    [Fact]
    public void Sack_OfTheLastOne_WhileAllOthersWait()
    {
        SeqNumber nxt = _connection.SndNxt;
        Measure(_ => [(nxt - Mss, nxt)]);
    }

    [Fact]
    public void Sack_OneMoreEachTime_FromTheEnd()
    {
        SeqNumber nxt = _connection.SndNxt;
        int count = Invariants.SegmentsInFlight(_connection) - 2;
        Measure(i => [(nxt - Mss * (1 + i % count), nxt)]);
    }

    [Fact]
    public void Sack_EveryOther()
    {
        SeqNumber una = _connection.SndUna;
        int count = Invariants.SegmentsInFlight(_connection) / 2 - 2;
        Measure(i =>
        {
            SeqNumber at = una + Mss + 2 * Mss * (i * 7 % count);
            return [(at, at + Mss), (at + 2 * Mss, at + 3 * Mss), (at + 4 * Mss, at + 5 * Mss)];
        });
    }

    [Fact]
    public void Sack_OfTheRestFromEverywhere()
    {
        SeqNumber una = _connection.SndUna, nxt = _connection.SndNxt;
        int count = Invariants.SegmentsInFlight(_connection) - 2;
        Measure(i => [(una + Mss * (1 + i * 13 % count), nxt)]);
    }
}

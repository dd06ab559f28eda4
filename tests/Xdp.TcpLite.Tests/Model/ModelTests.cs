using System.Globalization;
using Xdp.TcpLite.Tests.Hostile;

namespace Xdp.TcpLite.Tests.Model;

/// <summary>
/// Random segments and calls go to the model and to the stack. The two must agree on the state, RCV.NXT, SND.UNA, what
/// was delivered, and whether a segment is answered. A disagreement is shrunk to the fewest steps that show it.
/// MODEL_SEEDS runs more.
/// </summary>
public class ModelTests
{
    private const int StepsPerRun = 40;

    private static readonly int s_runs =
        int.Parse(Environment.GetEnvironmentVariable("MODEL_SEEDS") ?? "1000", CultureInfo.InvariantCulture);

    private enum Call
    {
        Segment,
        Write,
        Read,
        Shutdown,
        Close,
        Abort,
        Wait,
    }

    /// <summary>One step. Numbers of a segment are relative to what the connection expects when it comes.</summary>
    private readonly record struct Step(
        Call Call, int Count = 0, int SeqOff = 0, bool AckFromUna = false, int AckOff = 0,
        TcpFlags Flags = TcpFlags.None, int Window = 0)
    {
        public override string ToString() => Call == Call.Segment
            ? $"segment {Flags} SEQ=RCV.NXT{SeqOff:+#;-#;+0} "
                + $"ACK={(AckFromUna ? "SND.UNA" : "SND.NXT")}{AckOff:+#;-#;+0} length {Count} window {Window}"
            : $"{Call} {Count}";
    }

    [Fact]
    public void RandomStepsOnModelAndStack_Agree()
    {
        for (int seed = 0; seed < s_runs; seed++)
        {
            List<Step> steps = Make(seed);
            if (Disagreement(steps, seed) is null)
                continue;
            List<Step> fewest = Shrink(steps, seed);
            Assert.Fail($"seed {seed}: {Disagreement(fewest, seed)}\n{string.Join('\n', fewest)}");
        }
    }

    [Fact]
    public void Shrink_AFailureThatNeedsTwoSteps_LeavesTwo()
    {
        List<Step> steps = Make(1);
        steps.Insert(5, new Step(Call.Wait, 12345));
        steps.Insert(20, new Step(Call.Wait, 54321));
        List<Step> fewest = Shrink(steps, list => list.Any(s => s.Count == 12345) && list.Any(s => s.Count == 54321));
        Assert.Equal([new Step(Call.Wait, 12345), new Step(Call.Wait, 54321)], fewest);
    }

    private static List<Step> Make(int seed)
    {
        var random = new Random(seed);
        var steps = new List<Step>();
        for (int i = 0; i < StepsPerRun; i++)
        {
            steps.Add(random.Next(20) switch
            {
                < 13 => new Step(
                    Call.Segment,
                    Count: random.Next(3) switch { 0 => 0, 1 => random.Next(5), _ => random.Next(1460) },
                    SeqOff: Offset(random),
                    AckFromUna: random.Next(2) == 0,
                    AckOff: random.Next(4) == 0 ? Offset(random) : 0,
                    Flags: RandomFlags(random),
                    Window: random.Next(4) switch { 0 => 0, 1 => random.Next(100), _ => random.Next(65536) }),
                13 or 14 => new Step(Call.Write, 1 + random.Next(3000)),
                15 or 16 => new Step(Call.Read),
                17 => new Step(random.Next(3) == 0 ? Call.Shutdown : Call.Read),
                18 => new Step(random.Next(12) switch { 0 => Call.Abort, 1 or 2 => Call.Close, _ => Call.Wait }, 500),
                _ => new Step(Call.Wait, 500),
            });
        }
        return steps;
    }

    private static int Offset(Random random) => random.Next(12) switch
    {
        0 => 1,
        1 => -1,
        2 => random.Next(2000),
        3 => -random.Next(2000),
        4 => 4096,
        5 => random.Next(4000, 4200),
        6 => random.Next(3) == 0 ? random.Next(int.MinValue, int.MaxValue) : 0,
        7 => random.Next(3) == 0 ? int.MinValue : 0,
        _ => 0,
    };

    private static TcpFlags RandomFlags(Random random) => random.Next(30) switch
    {
        0 => TcpFlags.Rst,
        1 => TcpFlags.Rst | TcpFlags.Ack,
        2 => TcpFlags.Syn,
        3 => TcpFlags.Syn | TcpFlags.Ack,
        4 => TcpFlags.Psh,
        5 => TcpFlags.Fin,
        < 9 => TcpFlags.Fin | TcpFlags.Ack,
        _ => TcpFlags.Ack,
    };

    private static List<Step> Shrink(List<Step> steps, int seed) =>
        Shrink(steps, list => Disagreement(list, seed) is not null);

    /// <summary>Leaves steps out, many at a time and then one by one, as long as it still fails.</summary>
    private static List<Step> Shrink(List<Step> steps, Func<List<Step>, bool> fails)
    {
        for (int size = steps.Count / 2; size > 0; size /= 2)
        {
            for (int at = 0; at + size <= steps.Count;)
            {
                List<Step> fewer = [.. steps[..at], .. steps[(at + size)..]];
                if (fails(fewer))
                    steps = fewer;
                else
                    at += size;
            }
        }
        return steps;
    }

    /// <summary>What model and stack do not agree on; null when they do.</summary>
    private static string? Disagreement(List<Step> steps, int seed)
    {
        var run = new Run(seed);
        for (int i = 0; i < steps.Count && !run.Over; i++)
        {
            try
            {
                run.Take(steps[i]);
            }
            catch (Exception e)
            {
                return $"step {i} ({steps[i]}): {e.GetType().Name}: {e.Message}";
            }
        }
        return null;
    }

    /// <summary>Model and stack side by side.</summary>
    private sealed class Run
    {
        private static readonly TimeSpan s_never = TimeSpan.FromDays(10);

        private readonly Rig _rig;
        private readonly Peer _peer;
        private readonly TcpConnection _connection;
        private readonly TcpModel _model;
        private int _read;

        internal Run(int seed)
        {
            // Retransmission has its own tests: here nothing is sent but for a reason the model knows.
            var options = new TcpStackOptions
            {
                ReceiveBufferInitial = 4096,
                ReceiveBufferMax = ushort.MaxValue,
                InitialRto = s_never,
                MinRto = s_never,
                MaxRto = s_never,
                UserTimeout = s_never,
                FinWait2 = s_never,
                ForceHeap = seed % 2 == 0,
                AfterCloseBytes = 3000 * (seed % 4),
                AfterCloseSilence = TimeSpan.FromSeconds(2),
                AfterCloseTime = TimeSpan.FromSeconds(4),
            };
            _rig = new Rig(options, frames: 64, heap: 1 << 20);
            _peer = new Peer(_rig, iss: seed % 3 == 0 ? uint.MaxValue - 1000 : (uint)seed * 1_000_003)
            {
                Sack = false,
                WindowScale = seed % 2 == 0 ? 0 : null,
            };
            _connection = _peer.Connect();
            _model = new TcpModel(_peer.Iss, _peer.Ack, _peer.Iss + 1 + 4096, _peer.Nxt, _peer.Ack, ushort.MaxValue)
            {
                FirstByte = _peer.Ack,
                Options = options,
            };
            _rig.Milliseconds(1000);
        }

        internal bool Over => _model.Over;

        internal void Take(Step step)
        {
            Answer expected = Answer.Perhaps;
            // Three duplicates make the stack send again what is in flight.
            bool more = _model.HasMoreToSend || _model.SndUna != _model.SndNxt;
            switch (step.Call)
            {
                case Call.Segment:
                    expected = Segment(step);
                    break;
                case Call.Write:
                    if (!_model.Shut && _model.State is TcpState.Established or TcpState.CloseWait)
                    {
                        for (int i = 0; i < step.Count; i++)
                            _model.Written.Add(Simulation.SimApplication.Pattern(2, _model.Written.Count));
                    }
                    _peer.Write(step.Count);
                    break;
                case Call.Read:
                    Read();
                    break;
                case Call.Shutdown:
                    _model.Shutdown();
                    _connection.Shutdown();
                    break;
                case Call.Close:
                    Read();
                    _model.Close();
                    _connection.Close();
                    break;
                case Call.Abort:
                    _model.Abort();
                    _connection.Abort();
                    break;
                case Call.Wait:
                    _rig.Milliseconds(step.Count);
                    break;
            }
            Settle(expected, more);
        }

        private Answer Segment(Step step)
        {
            SegmentFields fields = _peer.Fields(step.Flags) with
            {
                Seq = _model.RcvNxt + step.SeqOff,
                Ack = (step.Flags & TcpFlags.Ack) == 0
                    ? default
                    : (step.AckFromUna ? _model.SndUna : _model.SndNxt) + step.AckOff,
                Window = (ushort)step.Window,
            };
            int from = fields.Seq - _peer.Iss - 1;
            byte[] payload = new byte[step.Count];
            for (int i = 0; i < payload.Length; i++)
                payload[i] = Simulation.SimApplication.Pattern(1, unchecked(from + i));
            Answer answer = _model.Receive(fields.Seq, fields.Ack, step.Flags, payload, step.Window, _rig.Now);
            _rig.DeliverSilently(_peer.Build(fields, payload));
            return answer;
        }

        /// <summary>The stack sends what it will, delayed ACKs included; then both must be in the same place.</summary>
        private void Settle(Answer expected, bool hadMore)
        {
            _rig.Emit();
            _rig.Milliseconds(50);
            if (_model.Pass(_rig.Now))
                expected = Answer.Must;
            List<Seen> sent = _peer.Take();
            foreach (Seen seen in sent)
                _model.Sent(seen.Seq, seen.Payload, seen.Flags, seen.Ack, seen.Packet.Window);
            TcpState state = _connection.State == TcpState.Closed && _rig.Stack.Owns(_peer.Flow)
                ? TcpState.TimeWait
                : _connection.State;
            Same(_model.State, state, "state");
            if (_model.State != TcpState.Closed)
            {
                Same(_model.RcvNxt, _connection.RcvNxt, "RCV.NXT");
                Same(_model.SndUna, _connection.SndUna, "SND.UNA");
                Same(_model.SndNxt, _connection.SndNxt, "SND.NXT");
            }
            if (!_model.Over)
            {
                Same(_model.SndWnd, _connection.GetInfo(default).SndWnd, "SND.WND");
                Same(_model.Delivered.Count - _read, _connection.ReadableBytes, "readable bytes");
            }
            if (expected == Answer.Must)
                Same(true, sent.Count > 0, "the segment is answered");
            else if (expected == Answer.MustNot && !hadMore && !_model.HasMoreToSend)
                Same(0, sent.Count, "segments in answer");
            _rig.AssertFramesAddUp();
            Invariants.CheckScoreboard(_connection);
        }

        private void Read()
        {
            BlockQueue taken = _connection.TakeReceived(long.MaxValue);
            long bytes = taken.Bytes;
            while (taken.Dequeue() is { } block)
            {
                foreach (byte actual in block.Bytes)
                    Same(_model.Delivered[_read++], actual, $"byte {_read}");
                block.Return();
            }
            if (bytes > 0)
                _connection.ReleaseWindow(bytes);
        }

        private static void Same<T>(T model, T stack, string what)
        {
            if (!EqualityComparer<T>.Default.Equals(model, stack))
                throw new DisagreementException($"{what}: {model} says the model, {stack} the stack");
        }
    }
}

using System.Globalization;
using System.Text;
using Xdp.TcpLite.Tests.Simulation;

namespace Xdp.TcpLite.Tests.Conformance;

/// <summary>
/// Plays a script against a stack on virtual time. The peer's segments and the application's calls come when the script
/// says, the stack's timers when they are due. Every segment that the stack sends must be the script's next one, at its
/// time. At the end everything must have come home.
/// </summary>
internal sealed class ScriptRunner
{
    private static readonly LinkPath s_path = new(0x02_00_00_00_00_01, 0x02_00_00_00_00_02);

    private readonly Script _script;
    private readonly SimHost _host;
    private readonly bool _ipv6;
    private readonly Instant _start;
    private readonly Dictionary<FlowKey, ScriptFlow> _flows = [];
    private readonly Queue<(Instant At, ScriptFlow Flow, ScriptSegment Segment)> _sent = new();
    private readonly StringBuilder _trace = new();
    private Instant _now;

    /// <summary>The script's time, which segments that come late within the tolerance do not shift.</summary>
    private Instant _scriptTime;
    private bool _listening;

    private readonly bool _frames;

    private ScriptRunner(Script script, bool ipv6, bool frames)
    {
        _script = script;
        _ipv6 = ipv6;
        _frames = frames;
        // The same MSS for both: the scripts' numbers hold for either.
        TcpStackOptions options = script.StackOptions;
        if (ipv6)
            options = options with { Mtu = options.Mtu + 20 };
        _host = new SimHost("host", Address(1), s_path.LocalMac, options, frames: 512)
        {
            CompletionLag = frames ? 3 : 0,
        };
        _start = StartFor(script.Iss);
        _now = _scriptTime = _start;
    }

    /// <param name="script">What to play.</param>
    /// <param name="ipv6">Over which IP.</param>
    /// <param name="frames">
    /// The application writes into frames, and the driver keeps those that were sent last for a while. Otherwise the
    /// application writes into heap blocks.
    /// </param>
    public static void Run(Script script, bool ipv6, bool frames = false) =>
        new ScriptRunner(script, ipv6, frames).Run();

    private IpAddr Address(int host) =>
        IpAddr.From(System.Net.IPAddress.Parse(_ipv6 ? $"fd00::{host}" : $"10.0.0.{host}"));

    private FlowKey KeyOf(int flow) => new(Address(1), Address(2), 80, (ushort)(40000 + flow));

    private static IsnGenerator Generator()
    {
        byte[] secret = new byte[16];
        Array.Fill(secret, (byte)1);
        return new IsnGenerator(secret);
    }

    /// <summary>An ISN is a hash and a clock: when it is to be a given one, the clock must be.</summary>
    private Instant StartFor(uint? iss)
    {
        var start = new Instant(TimeSpan.TicksPerHour);
        if (iss is not { } wanted)
            return start;
        uint ahead = unchecked(wanted - Generator().Next(KeyOf(1), start).Value);
        return new Instant(start.Ticks + 4L * TimeSpan.TicksPerMicrosecond * ahead);
    }

    private ScriptFlow FlowOf(int number)
    {
        FlowKey key = KeyOf(number);
        if (!_flows.TryGetValue(key, out ScriptFlow? flow))
        {
            uint timestampBase = unchecked(Generator().TimestampOffset(key) + TsClock.At(_start));
            _flows.Add(key, flow = new ScriptFlow(number, key, s_path, _script.PeerIsn, timestampBase));
        }
        return flow;
    }

    private void Run()
    {
        ScriptStep? current = null;
        try
        {
            for (int i = 0; i < _script.Steps.Count; i++)
            {
                current = _script.Steps[i];
                bool turnEnds = i + 1 == _script.Steps.Count || !_script.Steps[i + 1].SameTurn;
                Play(current, turnEnds);
            }
            current = null;
            ExpectNothingSent("at the end of the script");
            Settle();
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            throw new Xunit.Sdk.XunitException(Report(current, e));
        }
    }

    private void Play(ScriptStep step, bool turnEnds)
    {
        _scriptTime = step.IsRelative ? _scriptTime + step.At : _start + step.At;
        if (step.Verb == ">")
        {
            Expect(step);
            return;
        }
        Advance(_scriptTime);
        ScriptFlow flow = FlowOf(step.Flow);
        if (step.Verb == "=")
        {
            Trace($"= {step.Text}");
            string[] words = step.Text.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            string actual = Observe(flow, words[0], words[1..^1]);
            ScriptCheck.That(actual == words[^1], $"{step.Text}: it is {actual}");
            return;
        }
        ExpectNothingSent("where the script has none");
        if (step.Segment is { } segment)
        {
            Trace($"< {Prefix(flow)}{segment}");
            _host.Deliver(flow.Encode(segment), _now);
        }
        else
        {
            Trace($"{Prefix(flow)}{step.Verb} {step.Text}");
            Call(flow, step.Verb, step.Text);
        }
        if (turnEnds)
            Turn();
    }

    // ---- time

    /// <summary>Runs the timers that are due by then.</summary>
    private void Advance(Instant to)
    {
        while (_host.Stack.NextDeadline is var next && next <= to)
            Tick(next);
        _now = Instant.Max(_now, to);
    }

    private void Tick(Instant at)
    {
        _now = Instant.Max(_now, at);
        _host.Stack.OnDeadline(_now);
        Turn();
    }

    private void Turn()
    {
        while (_host.Stack.TryTakeReady(out TcpConnection connection))
            FlowOf(connection.Flow).Events |= connection.TakeEvents();
        _host.Emit(_now, packet =>
        {
            ScriptFlow flow = FlowOf(packet);
            ScriptSegment segment = flow.Decode(packet);
            Trace($"> {Prefix(flow)}{segment}");
            _sent.Enqueue((_now, flow, segment));
        });
    }

    private ScriptFlow FlowOf(in FlowKey key) => FlowOf(key.RemotePort - 40000);

    private ScriptFlow FlowOf(byte[] packet)
    {
        int tcp = 14 + (_ipv6 ? 40 : 20);
        return FlowOf((packet[tcp + 2] << 8 | packet[tcp + 3]) - 40000);
    }

    private void Expect(ScriptStep step)
    {
        while (_sent.Count == 0)
        {
            Instant next = _host.Stack.NextDeadline;
            ScriptCheck.That(
                next <= _scriptTime + _script.Tolerance,
                $"expected at {Time(_scriptTime)}: {step.Segment}\n  actual: nothing");
            Tick(next);
        }
        (Instant at, ScriptFlow flow, ScriptSegment segment) = _sent.Dequeue();
        TimeSpan late = at - _scriptTime;
        bool inTime = late <= _script.Tolerance && -late <= _script.Tolerance;
        ScriptCheck.That(
            inTime && flow.Number == step.Flow && step.Segment!.Matches(segment),
            $"expected at {Time(_scriptTime)}: {(step.Flow == 1 ? "" : $"#{step.Flow} ")}{step.Segment}\n"
            + $"  actual at   {Time(at)}: {Prefix(flow)}{segment}");
        _now = Instant.Max(_now, _scriptTime);
    }

    private void ExpectNothingSent(string where)
    {
        if (_sent.TryPeek(out var sent))
            throw new ScriptException(
                $"a segment {where}\n  actual at   {Time(sent.At)}: {Prefix(sent.Flow)}{sent.Segment}");
    }

    // ---- calls

    private void Call(ScriptFlow flow, string verb, string argument)
    {
        switch (verb)
        {
            case "listen":
                _host.Stack.Listen(default, 80, null);
                _listening = true;
                break;
            case "unlisten":
                _host.Stack.StopListening(default, 80);
                _listening = false;
                break;
            case "accept":
                ScriptCheck.That(
                    _host.Stack.TryAccept(out TcpConnection? accepted), "there is no connection to accept");
                FlowOf(accepted!.Flow).Connection = accepted;
                break;
            case "connect":
                flow.Connection = _host.Stack.Connect(flow.Key, s_path, _now);
                ScriptCheck.That(flow.Connection is not null, "the 4-tuple is taken");
                break;
            case "write":
                Write(flow, int.Parse(argument, CultureInfo.InvariantCulture));
                break;
            case "read":
                Read(flow, int.Parse(argument, CultureInfo.InvariantCulture));
                break;
            case "nodelay":
                Connection(flow).NoDelay = argument == "on";
                break;
            case "cork":
                Connection(flow).Cork = argument == "on";
                break;
            case "too_big" or "icmp":
                _host.Deliver(flow.EncodeError(Address(3), verb, argument), _now);
                break;
            case "shutdown":
                Connection(flow).Shutdown();
                break;
            case "close":
                Connection(flow).Close();
                break;
            case "abort":
                Connection(flow).Abort();
                break;
            case "quiet":
                break;
            default:
                throw new ScriptException($"no call '{verb}'");
        }
    }

    private static TcpConnection Connection(ScriptFlow flow) =>
        flow.Connection ?? throw new ScriptException($"flow {flow.Number} has not been accepted or connected");

    private void Write(ScriptFlow flow, int count)
    {
        BlockQueue data = default;
        while (count > 0)
        {
            Block block = (_frames ? _host.Frames.TryTakeForWriting() : null) ?? _host.Blocks.Take();
            block.Length = Math.Min(count, block.IsFrame ? Connection(flow).EffectiveMss : block.Room);
            foreach (ref byte b in block.Bytes)
                b = ScriptFlow.Pattern(1 + flow.Written++);
            count -= block.Length;
            data.Enqueue(block);
        }
        Connection(flow).Write(ref data);
    }

    private void Read(ScriptFlow flow, int count)
    {
        BlockQueue blocks = Connection(flow).TakeReceived(count - flow.Taken.Count);
        while (blocks.Dequeue() is { } block)
        {
            foreach (byte b in block.Bytes)
                flow.Taken.Enqueue(b);
            block.Return();
        }
        ScriptCheck.That(flow.Taken.Count >= count, $"there are only {flow.Taken.Count} bytes to read");
        for (int i = 0; i < count; i++)
            ScriptCheck.That(
                flow.Taken.Dequeue() == ScriptFlow.Pattern(1 + flow.Read++),
                $"byte {flow.Read - 1} that was read is not what the peer sent");
        Connection(flow).ReleaseWindow(count);
    }

    // ---- assertions

    private string Observe(ScriptFlow flow, string what, string[] arguments)
    {
        TcpStack stack = _host.Stack;
        switch (what)
        {
            case "state":
                return StateOf(flow);
            case "drops":
                return Text(stack.Counters[Enum.Parse<DropReason>(arguments[0])]);
            case "counter":
                return Text((long)typeof(TcpStackCounters).GetField(arguments[0])!.GetValue(stack.Counters)!);
            case "halfopen":
                return Text(stack.HalfOpenCount);
            case "timewait":
                return Text(stack.TimeWaitCount);
            case "connections":
                return Text(stack.ConnectionCount);
            case "accept":
                return stack.TryAccept(out _) ? "some" : "none";
            case "event":
                return (flow.Events & Enum.Parse<TcpEvents>(arguments[0])) != 0 ? "yes" : "no";
            case "iss_ahead":
                uint least = unchecked(
                    flow.PreviousIss!.Value + (uint)int.Parse(arguments[0], CultureInfo.InvariantCulture));
                return unchecked((int)(flow.Iss!.Value - least)) > 0 ? "yes" : "no";
        }
        TcpConnection connection = Connection(flow);
        TcpConnectionInfo info = connection.GetInfo(_now);
        return what switch
        {
            "cwnd" => Text(info.Cwnd / info.SndMss),
            "cwnd_bytes" => Text(info.Cwnd),
            "ssthresh" => info.Ssthresh >= LossBasedControl.Unlimited ? "unlimited" : Text(info.Ssthresh / info.SndMss),
            "mss" => Text(info.SndMss),
            "snd_wnd" => Text(info.SndWnd),
            "unacked" => Text(info.Unacked),
            "sacked" => Text(info.Sacked),
            "lost" => Text(info.Lost),
            "unsent" => Text(info.Unsent),
            "retransmits" => Text(info.TotalRetransmits),
            "spurious" => Text(info.SpuriousRetransmits),
            "backoff" => Text(info.Backoff),
            "reordering" => info.ReorderingSeen ? "yes" : "no",
            "reordering_window" => Milliseconds(info.ReorderingWindow),
            "ca_state" => info.CaState.ToString(),
            "delivered" => Text(info.Delivered),
            "busy" => Milliseconds(info.BusyTime),
            "rwnd_limited" => Milliseconds(info.RwndLimited),
            "sndbuf_limited" => Milliseconds(info.SndbufLimited),
            "last_data_recv" => Milliseconds(info.LastDataReceived),
            "last_data_sent" => Milliseconds(info.LastDataSent),
            "last_ack_recv" => Milliseconds(info.LastAckReceived),
            "rto" => Text(info.Rto.TotalMilliseconds),
            "srtt" => Text(info.Srtt.TotalMilliseconds),
            "readable" => Text(connection.ReadableBytes + flow.Taken.Count),
            _ => throw new ScriptException($"nothing is called '{what}'"),
        };
    }

    private string StateOf(ScriptFlow flow)
    {
        TcpStack stack = _host.Stack;
        if (flow.Connection is { State: not TcpState.Closed } connection)
            return NameOf(connection.State);
        if (!stack.Owns(flow.Key))
            return _listening ? "LISTEN" : "CLOSED";
        return stack.TimeWaitCount > 0 ? "TIME_WAIT" : stack.HalfOpenCount > 0 ? "SYN_RECEIVED" : "ESTABLISHED";
    }

    internal static string NameOf(TcpState state) => state switch
    {
        TcpState.SynSent => "SYN_SENT",
        TcpState.SynReceived => "SYN_RECEIVED",
        TcpState.FinWait1 => "FIN_WAIT_1",
        TcpState.FinWait2 => "FIN_WAIT_2",
        TcpState.CloseWait => "CLOSE_WAIT",
        TcpState.LastAck => "LAST_ACK",
        TcpState.TimeWait => "TIME_WAIT",
        _ => state.ToString().ToUpperInvariant(),
    };

    // ---- the end

    /// <summary>Ends what still lives, lets every timer run out, and checks that memory and tables are empty.</summary>
    private void Settle()
    {
        TcpStack stack = _host.Stack;
        stack.StopListening(default, 80);
        while (stack.TryAccept(out TcpConnection? connection))
            FlowOf(connection.Flow).Connection ??= connection;
        foreach (ScriptFlow flow in _flows.Values)
        {
            flow.Connection?.Abort();
            flow.Connection?.TakeReceived(long.MaxValue).ReturnAll();
        }
        Turn();
        Advance(_now + TimeSpan.FromHours(1));
        _host.Complete(0);
        ScriptCheck.That(stack.ConnectionCount == 0, $"{stack.ConnectionCount} connections are left");
        ScriptCheck.That(stack.HalfOpenCount == 0, $"{stack.HalfOpenCount} half-open records are left");
        ScriptCheck.That(stack.TimeWaitCount == 0, $"{stack.TimeWaitCount} TIME-WAIT records are left");
        ScriptCheck.That(stack.NextDeadline == Instant.Never, "a timer is left");
        ScriptCheck.That(
            _host.Frames.FreeCount == _host.Frames.FrameCount,
            $"{_host.Frames.FrameCount - _host.Frames.FreeCount} frames did not come home");
        ScriptCheck.That(_host.Blocks.InUse == 0, $"{_host.Blocks.InUse} heap blocks did not come home");
    }

    // ---- reports

    private void Trace(string text) => _trace.Append(CultureInfo.InvariantCulture, $"  {Time(_now)} {text}\n");

    private string Report(ScriptStep? step, Exception e)
    {
        var text = new StringBuilder();
        string place = step is null ? "at its end" : $"line {step.Line}: {_script.Lines[step.Line - 1].Trim()}";
        text.Append(CultureInfo.InvariantCulture, $"{_script.Name} over {(_ipv6 ? "IPv6" : "IPv4")}, {place}\n  ");
        text.Append(e is ScriptException ? e.Message : e.ToString());
        text.Append(CultureInfo.InvariantCulture, $"\ntrace:\n{_trace}script:\n");
        for (int i = 0; i < _script.Lines.Count; i++)
            text.Append(
                CultureInfo.InvariantCulture, $"{(step?.Line == i + 1 ? "->" : "  ")}{i + 1,3} {_script.Lines[i]}\n");
        return text.ToString();
    }

    private static string Prefix(ScriptFlow flow) => flow.Number == 1 ? "" : $"#{flow.Number} ";

    private string Time(Instant at) => (at - _start).TotalSeconds.ToString("0.0000", CultureInfo.InvariantCulture);

    private static string Milliseconds(TimeSpan? span) => span is { } s ? Text(s.TotalMilliseconds) : "never";

    private static string Text(long value) => value.ToString(CultureInfo.InvariantCulture);

    private static string Text(double value) => value.ToString("0.###", CultureInfo.InvariantCulture);
}

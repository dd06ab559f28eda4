using System.Diagnostics;
using System.Globalization;
using System.Text;
using Xdp.TcpLite.Tests.Conformance;
using static Xdp.TcpLite.LinuxTests.Kernel.LinuxNative;

namespace Xdp.TcpLite.LinuxTests.Kernel;

/// <summary>How a script ended that a kernel played.</summary>
/// <param name="Difference">Where the kernel did otherwise, with a trace; null where it did not.</param>
/// <param name="IsTiming">The difference may come from a machine that was busy.</param>
internal sealed record Played(string? Difference, bool IsTiming);

/// <summary>
/// Plays a script against the kernel of this machine, in real time. The test is the peer; the application's calls are
/// made on kernel sockets. What is compared, and how exactly, is in <c>Conformance/README.md</c>.
/// </summary>
internal sealed class LinuxPlayer : IDisposable
{
    private const int Port = 80, FirstPeerPort = 40000;
    private const int EPIPE = 32, ECONNRESET = 104, ETIMEDOUT = 110, ECONNREFUSED = 111;

    /// <summary>
    /// So much may a segment be early or late; above that a seventh of the time since the step before. The kernel's
    /// timers have jiffies of up to 10 ms, and are late by up to an eighth (kernel/time/timer.c). The shortest that are
    /// to be told apart are 0 and 40 ms.
    /// </summary>
    private static readonly TimeSpan s_tolerance = TimeSpan.FromMilliseconds(16);

    /// <summary>A step of the test that came so late may have changed what the kernel did next.</summary>
    private static readonly TimeSpan s_tooLate = TimeSpan.FromMilliseconds(4);

    private readonly Script _script;
    private readonly bool _ipv6;
    private readonly LinuxHost _host;
    private readonly long _start = Stopwatch.GetTimestamp();
    private readonly Dictionary<int, ScriptFlow> _flows = [];
    private readonly Dictionary<int, LinuxSocket> _sockets = [];
    private readonly Queue<(TimeSpan At, ScriptFlow Flow, ScriptSegment Segment)> _sent = new();
    private readonly StringBuilder _trace = new();
    private LinuxSocket? _listener;

    /// <summary>The script's time at the last step, and the real time at which that step was taken.</summary>
    private TimeSpan _scriptTime, _realTime;

    /// <summary>The real time at the script's start.</summary>
    private TimeSpan _begin;
    private bool _wasLate, _timeDiffers;

    private LinuxPlayer(Script script, bool ipv6)
    {
        _script = script;
        _ipv6 = ipv6;
        // The same MSS for both, as where our stack plays.
        _host = new LinuxHost(ipv6, script.StackOptions.Mtu + (ipv6 ? 20 : 0));
    }

    /// <summary>The calling thread is in a new network namespace afterwards.</summary>
    /// <param name="script">What to play.</param>
    /// <param name="ipv6">Over which IP.</param>
    /// <param name="atEnd">Looks at the kernel when the script has been played.</param>
    internal static Played Play(Script script, bool ipv6, Action<LinuxHost>? atEnd = null)
    {
        using var player = new LinuxPlayer(script, ipv6);
        Played played = player.Play();
        atEnd?.Invoke(player._host);
        return played;
    }

    public void Dispose()
    {
        foreach (LinuxSocket socket in _sockets.Values)
            socket.Dispose();
        _listener?.Dispose();
        _host.Dispose();
    }

    private TimeSpan Now => Stopwatch.GetElapsedTime(_start);

    private Played Play()
    {
        ScriptStep? current = null;
        try
        {
            Configure();
            _begin = _realTime = Now;
            foreach (ScriptStep step in _script.Steps)
            {
                current = step;
                Play(step);
            }
            current = null;
            ExpectNothingSent("at the end of the script");
            return new Played(null, IsTiming: false);
        }
        catch (ScriptException e)
        {
            return new Played(Report(current, e.Message), _wasLate || _timeDiffers);
        }
    }

    private void Configure()
    {
        TcpStackOptions options = _script.StackOptions, defaults = new();
        // In a new namespace this comes from the host, and is no default of the kernel's.
        LinuxHost.Sysctl("tcp_rmem", "4096 131072 6291456");
        // A write of a script is always taken whole.
        LinuxHost.Sysctl("tcp_wmem", "4096 4194304 4194304");
        // One connection of a script must not learn from another.
        LinuxHost.Sysctl("tcp_no_metrics_save", "1");
        if (options.OrphanRetries != defaults.OrphanRetries)
            LinuxHost.Sysctl("tcp_orphan_retries", Text(options.OrphanRetries));
        if (options.FinWait2 != defaults.FinWait2)
            LinuxHost.Sysctl("tcp_fin_timeout", Text(options.FinWait2.TotalSeconds));
        if (options.MaxRto != defaults.MaxRto)
            LinuxHost.Sysctl("tcp_rto_max_ms", Text(options.MaxRto.TotalMilliseconds));
        foreach ((string name, string value) in _script.Sysctls)
            LinuxHost.Sysctl(name, value);
    }

    /// <summary>What a listener hands on to its connections.</summary>
    private LinuxSocket NewSocket()
    {
        TcpStackOptions options = _script.StackOptions, defaults = new();
        LinuxSocket socket = LinuxSocket.Create(_ipv6);
        // A sysctl will not do: a namespace may not choose what the host restricts to root.
        socket.Set(TCP_CONGESTION, options.CongestionControl == CongestionAlgorithm.NewReno ? "reno" : "cubic");
        if (options.NoDelay)
            socket.Set(IPPROTO_TCP, TCP_NODELAY, 1);
        if (options.UserTimeout != defaults.UserTimeout)
            socket.Set(IPPROTO_TCP, TCP_USER_TIMEOUT, (int)options.UserTimeout.TotalMilliseconds);
        if (options.ReceiveBufferInitial != defaults.ReceiveBufferInitial)
            socket.Set(SOL_SOCKET, SO_RCVBUF, options.ReceiveBufferInitial);
        if (options.KeepAlive is { } idle)
        {
            socket.Set(IPPROTO_TCP, TCP_KEEPIDLE, (int)idle.TotalSeconds);
            socket.Set(IPPROTO_TCP, TCP_KEEPINTVL, (int)options.KeepAliveInterval.TotalSeconds);
            socket.Set(IPPROTO_TCP, TCP_KEEPCNT, options.KeepAliveCount);
            socket.Set(SOL_SOCKET, SO_KEEPALIVE, 1);
        }
        socket.Bind(LinuxHost.SocketAddress(LinuxHost.Address(_ipv6, 1), Port));
        return socket;
    }

    private ScriptFlow FlowOf(int number)
    {
        if (!_flows.TryGetValue(number, out ScriptFlow? flow))
        {
            IpAddr Address(int host) => IpAddr.From(LinuxHost.Address(_ipv6, host));
            var key = new FlowKey(Address(1), Address(2), Port, (ushort)(FirstPeerPort + number));
            _flows.Add(number, flow = new ScriptFlow(number, key, default, _script.PeerIsn, timestampBase: null));
        }
        return flow;
    }

    // ---- steps

    private void Play(ScriptStep step)
    {
        TimeSpan scriptTime = step.IsRelative ? _scriptTime + step.At : step.At;
        TimeSpan since = scriptTime - _scriptTime;
        _scriptTime = scriptTime;
        TimeSpan due = _realTime + since;
        if (step.Verb == ">")
        {
            Expect(step, due, s_tolerance + since / 7);
            return;
        }
        Collect(due);
        ScriptFlow flow = FlowOf(step.Flow);
        if (step.Verb == "=")
        {
            Assert(flow, step.Text);
            return;
        }
        ExpectNothingSent("where the script has none");
        _realTime = TimeSpan.FromTicks(Math.Max(due.Ticks, Now.Ticks));
        _wasLate |= _realTime - due > s_tooLate;
        if (step.Segment is { } segment)
        {
            Trace($"< {Prefix(flow)}{segment}");
            if (!_script.LinuxQuickAcks && _sockets.TryGetValue(step.Flow, out LinuxSocket? socket) && socket.IsOpen)
                DelayAcks(socket);
            _host.Send(flow.Encode(segment));
        }
        else
        {
            Trace($"{Prefix(flow)}{step.Verb} {step.Text}");
            Call(flow, step.Verb, step.Text);
        }
        Collect(TimeSpan.Zero);
    }

    /// <summary>Takes what the kernel sends until then.</summary>
    private void Collect(TimeSpan until)
    {
        while (_host.TryReceive(until - Now) is { } packet)
            Take(packet);
    }

    private void Take(byte[] packet)
    {
        TimeSpan at = Now;
        int tcp = 14 + (_ipv6 ? 40 : 20);
        ScriptFlow flow = FlowOf((packet[tcp + 2] << 8 | packet[tcp + 3]) - FirstPeerPort);
        ScriptSegment segment = flow.Decode(packet, (int)(at - _begin).TotalMilliseconds);
        Trace($"> {Prefix(flow)}{segment}");
        _sent.Enqueue((at, flow, segment));
    }

    /// <summary>The milliseconds by which the kernel's clock is ahead of the script's.</summary>
    private int Lag(TimeSpan now) => (int)(now - _begin - _scriptTime).TotalMilliseconds;

    private void Expect(ScriptStep step, TimeSpan due, TimeSpan tolerance)
    {
        while (_sent.Count == 0 && Now < due + tolerance)
        {
            if (_host.TryReceive(due + tolerance - Now) is { } packet)
                Take(packet);
        }
        ScriptCheck.That(_sent.Count > 0, $"expected at {Time(due)}: {step.Segment}\n  actual: nothing");
        (TimeSpan at, ScriptFlow flow, ScriptSegment segment) = _sent.Dequeue();
        bool sameSegment = flow.Number == step.Flow && step.Segment!.Matches(Lenient(step.Segment, segment, at));
        bool inTime = (at - due).Duration() <= tolerance;
        _timeDiffers |= sameSegment && !inTime;
        ScriptCheck.That(
            sameSegment && inTime,
            $"expected at {Time(due)}: {(step.Flow == 1 ? "" : $"#{step.Flow} ")}{step.Segment}\n"
            + $"  actual at   {Time(at)}: {Prefix(flow)}{segment}");
        flow.NameTimestamp((int)_scriptTime.TotalMilliseconds);
        _realTime = at;
    }

    /// <summary>
    /// The kernel's segment with the script's values where they are as good as the same: a window that is open, and a
    /// timestamp of about that time.
    /// </summary>
    private ScriptSegment Lenient(ScriptSegment expected, ScriptSegment actual, TimeSpan at)
    {
        if (expected.Window is { } window && window == 0 == (actual.Window == 0))
            actual = actual with { Window = window };
        int lag = Lag(at);
        return actual with
        {
            Flags = actual.Flags & ~TcpFlags.Psh | expected.Flags & TcpFlags.Psh,
            Options = [.. actual.Options.Select((option, i) =>
                i < expected.Options.Count ? LenientOption(expected.Options[i], option, lag) : option)],
        };
    }

    private static string LenientOption(string expected, string actual, int lag)
    {
        string[] left = expected.Split(' '), right = actual.Split(' ');
        if (left[0] != "TS" || right[0] != "TS" || left[2] == "*")
            return actual;
        // It was sent after the script's time, and before it was read.
        double ahead = Number(right[2]) - Number(left[2]);
        double tolerance = s_tolerance.TotalMilliseconds;
        if (ahead >= Math.Min(0, lag) - tolerance && ahead <= Math.Max(0, lag) + tolerance)
            right[2] = left[2];
        return string.Join(' ', right);
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
                _listener = NewSocket();
                // A kernel takes one more than it is told.
                _listener.Listen(_script.StackOptions.Backlog - 1);
                break;
            case "unlisten":
                _listener!.Dispose();
                _listener = null;
                break;
            case "accept":
                (LinuxSocket Socket, int Port)? accepted = _listener!.TryAccept();
                ScriptCheck.That(accepted is not null, "there is no connection to accept");
                _sockets[accepted!.Value.Port - FirstPeerPort] = accepted.Value.Socket;
                break;
            case "connect":
                _sockets[flow.Number] = NewSocket();
                _sockets[flow.Number].Connect(
                    LinuxHost.SocketAddress(LinuxHost.Address(_ipv6, 2), FirstPeerPort + flow.Number));
                break;
            case "write":
                byte[] data = new byte[int.Parse(argument, CultureInfo.InvariantCulture)];
                foreach (ref byte b in data.AsSpan())
                    b = ScriptFlow.Pattern(1 + flow.Written++);
                SocketOf(flow).Write(data);
                break;
            case "read":
                foreach (byte b in SocketOf(flow).Read(int.Parse(argument, CultureInfo.InvariantCulture)))
                    ScriptCheck.That(
                        b == ScriptFlow.Pattern(1 + flow.Read++),
                        $"byte {flow.Read - 1} that was read is not what the peer sent");
                break;
            case "nodelay":
                SocketOf(flow).Set(IPPROTO_TCP, TCP_NODELAY, argument == "on" ? 1 : 0);
                break;
            case "cork":
                SocketOf(flow).Set(IPPROTO_TCP, TCP_CORK, argument == "on" ? 1 : 0);
                break;
            case "too_big" or "icmp":
                _host.Send(flow.EncodeError(IpAddr.From(LinuxHost.Address(_ipv6, 3)), verb, argument));
                break;
            case "shutdown":
                SocketOf(flow).Shutdown();
                break;
            case "close":
                SocketOf(flow).Dispose();
                break;
            case "abort":
                SocketOf(flow).Abort();
                break;
            case "quiet":
                break;
            default:
                throw new ScriptException($"no call '{verb}'");
        }
    }

    /// <summary>
    /// A kernel decides by what has happened whether ACKs are delayed: at a connection's start they are not, in an
    /// exchange of requests and answers they are. Ours are always, so the kernel is told that this is such an exchange.
    /// Otherwise most scripts would show this difference and no other.
    /// </summary>
    private static void DelayAcks(LinuxSocket socket) => socket.Set(IPPROTO_TCP, TCP_QUICKACK, 0);

    private LinuxSocket SocketOf(ScriptFlow flow) => _sockets.TryGetValue(flow.Number, out LinuxSocket? socket)
        ? socket : throw new ScriptException($"flow {flow.Number} has not been accepted or connected");

    // ---- assertions

    private void Assert(ScriptFlow flow, string text)
    {
        string[] words = text.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        string expected = words[^1];
        if (Observe(flow, words[0], words[1..^1]) is not { } actual)
            return;
        Trace($"= {text}: {actual}");
        bool isTime = words[0] is "rto" or "srtt";
        bool holds = isTime
            ? Math.Abs(Number(actual) - Number(expected)) <= s_tolerance.TotalMilliseconds + Number(expected) / 10
            : actual == expected;
        _timeDiffers |= isTime && !holds;
        ScriptCheck.That(holds, $"{text}: it is {actual}");
    }

    /// <summary>Null for what a kernel does not tell.</summary>
    private string? Observe(ScriptFlow flow, string what, string[] arguments)
    {
        int peerPort = FirstPeerPort + flow.Number;
        switch (what)
        {
            case "state":
                int[] states = [.. _host.Table().Where(row => row.Local == Port && row.Remote == peerPort)
                    .Select(row => row.State)];
                return NameOf(states.FirstOrDefault(_listener is null ? 7 : 10));
            case "halfopen":
                return Text(_host.Table().Count(row => row.State == 3));
            case "timewait":
                return Text(_host.Table().Count(row => row.State == 6));
            case "accept":
                return _listener!.TryAccept() is null ? "none" : "some";
            case "event":
                int error = SocketOf(flow).Error;
                return arguments[0] switch
                {
                    "Reset" => error is ECONNRESET or EPIPE or ECONNREFUSED ? "yes" : "no",
                    "TimedOut" => error == ETIMEDOUT ? "yes" : "no",
                    _ => null,
                };
        }
        if (!_sockets.TryGetValue(flow.Number, out LinuxSocket? socket) || !socket.IsOpen)
            return null;
        LinuxSocket.TcpInfo info = socket.Info();
        return what switch
        {
            "cwnd" => Text(info.SndCwnd),
            "cwnd_bytes" => Text(info.SndCwnd * info.SndMss),
            "ssthresh" => info.SndSsthresh >= int.MaxValue ? "unlimited" : Text(info.SndSsthresh),
            "mss" => Text(info.SndMss),
            "snd_wnd" => Text(info.SndWnd),
            "unacked" => Text(socket.Unacknowledged - info.NotSentBytes),
            "sacked" => Text(info.Sacked * info.SndMss),
            "lost" => Text(info.Lost * info.SndMss),
            "unsent" => Text(info.NotSentBytes),
            "retransmits" => Text(info.TotalRetrans),
            "backoff" => Text(info.Backoff),
            "reordering" => info.ReordSeen > 0 ? "yes" : "no",
            "rto" => Text(info.Rto / 1000.0),
            "srtt" => Text(info.Rtt / 1000.0),
            "readable" => Text(socket.Readable),
            _ => null,
        };
    }

    private static string NameOf(int state) => state switch
    {
        1 => "ESTABLISHED",
        2 => "SYN_SENT",
        3 => "SYN_RECEIVED",
        4 => "FIN_WAIT_1",
        5 => "FIN_WAIT_2",
        6 => "TIME_WAIT",
        7 => "CLOSED",
        8 => "CLOSE_WAIT",
        9 => "LAST_ACK",
        10 => "LISTEN",
        11 => "CLOSING",
        12 => "SYN_RECEIVED",
        _ => Text(state),
    };

    // ---- reports

    private void Trace(string text) => _trace.Append(CultureInfo.InvariantCulture, $"  {Time(Now)} {text}\n");

    private string Report(ScriptStep? step, string message)
    {
        var text = new StringBuilder();
        string place = step is null ? "at its end" : $"line {step.Line}: {_script.Lines[step.Line - 1].Trim()}";
        text.Append(CultureInfo.InvariantCulture, $"{_script.Name} over {(_ipv6 ? "IPv6" : "IPv4")}, {place}\n  ");
        text.Append(CultureInfo.InvariantCulture, $"{message}\ntrace:\n{_trace}");
        return text.ToString();
    }

    private static string Prefix(ScriptFlow flow) => flow.Number == 1 ? "" : $"#{flow.Number} ";

    private static string Time(TimeSpan at) => at.TotalSeconds.ToString("0.0000", CultureInfo.InvariantCulture);

    private static string Text(double value) => value.ToString("0.###", CultureInfo.InvariantCulture);

    private static double Number(string text) => double.Parse(text, CultureInfo.InvariantCulture);
}

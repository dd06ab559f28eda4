using Xdp.TcpLite.Tests.Hostile;

namespace Xdp.TcpLite.Tests.Fuzz;

/// <summary>
/// One stack with connections in all states, and frames that nearly fit: built from what each connection expects, then
/// bent. A world is deterministic given its seed. A connection that nobody touches must go on working through it all.
/// </summary>
internal sealed class FrameFuzzer
{
    internal const string Kind = "frames";
    internal const int FramesPerWorld = 2000;
    private const int TargetCount = 6;
    private const int CheckEvery = 64;

    private static readonly IpAddr s_server = IpAddr.FromIPv4(0x0a000002);
    private static readonly IpAddr s_client = IpAddr.FromIPv4(0x0a000001);
    private static readonly LinkPath s_path = new(0x02_00_00_00_00_02, 0x02_00_00_00_00_01);

    private readonly Random _random;
    private readonly Mutator _mutator;
    private readonly FuzzHost _host;
    private readonly Canary _canary;
    private readonly Target[] _targets = new Target[TargetCount];
    private readonly byte[] _frame = new byte[2048];
    private Instant _now = new(TimeSpan.TicksPerHour);
    private ushort _nextPort = 20000;

    private sealed class Target
    {
        internal FlowKey Flow;
        internal TcpConnection? Connection;
        internal SeqNumber Iss;
        internal SeqNumber RcvNxt;
        internal bool IsSynchronised;
        internal uint TsVal = 1000;
    }

    private FrameFuzzer(int seed)
    {
        _random = new Random(seed);
        _mutator = new Mutator(_random);
        // By the seed: one more random number here would make other worlds of the corpus.
        TcpStackOptions options = RandomOptions(_random) with { AfterCloseBytes = seed % 3 == 0 ? 3000 : 16 << 20 };
        _host = new FuzzHost(s_server, s_path.LocalMac, options, (byte)seed, _now)
        {
            CompletionLag = _random.Next(8),
        };
        _host.Stack.Listen(default, 80, null);
        _canary = new Canary(_host, seed, ref _now);
    }

    internal static TcpStackOptions RandomOptions(Random random) => new()
    {
        ForceHeap = random.Next(4) == 0,
        NoDelay = random.Next(4) != 0,
        Backlog = random.Next(4) == 0 ? 2 : 64,
        ReceiveBufferInitial = random.Next(3) == 0 ? 4096 : 128 << 10,
        ReceiveBufferMax = random.Next(2) == 0 ? 256 << 10 : 6 << 20,
        KeepAlive = random.Next(4) == 0 ? TimeSpan.FromSeconds(20) : null,
        UserTimeout = random.Next(2) == 0 ? TimeSpan.FromSeconds(30) : TimeSpan.FromMinutes(15),
        MaxTimeWait = random.Next(3) == 0 ? 2 : 65536,
        FramesPerConnection = random.Next(3) == 0 ? 4 : 64,
    };

    /// <summary>Runs one world; throws <see cref="FuzzException"/> at the first broken invariant.</summary>
    internal static void Run(int seed, int frames = FramesPerWorld)
    {
        long step = -1;
        FrameFuzzer? fuzzer = null;
        try
        {
            fuzzer = new FrameFuzzer(seed);
            for (step = 0; step < frames; step++)
                fuzzer.Step(step);
            fuzzer.End();
        }
        catch (Exception e)
        {
            throw new FuzzException(
                Kind, seed, step, e, fuzzer is null ? [] : [.. fuzzer._targets.Select(target => target?.Connection)]);
        }
    }

    private void Step(long step)
    {
        int slot = _random.Next(TargetCount);
        Target target = _targets[slot] is { } there && !IsGone(there) ? there : _targets[slot] = NewTarget();
        bool isIcmp = target.Connection is not null && _random.Next(40) == 0;
        int length = isIcmp ? BuildTooBig(target.Connection!) : BuildFrame(target);
        if (_random.Next(isIcmp ? 16 : 3) == 0)
            length = _mutator.Mutate(_frame, length);
        else
            _mutator.Remember(_frame.AsSpan(0, length));
        int copies = _random.Next(50) == 0 ? _random.Next(20) : 1;
        for (int i = 0; i < copies; i++)
            _host.Deliver(_frame.AsSpan(0, length), _now);
        if (_random.Next(4) == 0)
            Act(target);
        PassTime();
        Settle(deep: step % CheckEvery == 0);
        _canary.OnDeadline(_now);
        if (step % CheckEvery == 0)
            _canary.Exchange(ref _now);
    }

    private bool IsGone(Target target) => target.Connection is { State: TcpState.Closed }
        && (_random.Next(8) == 0 || !_host.Stack.Owns(target.Flow));

    private Target NewTarget()
    {
        var target = new Target
        {
            Flow = new FlowKey(s_server, s_client, 80, _nextPort++),
            Iss = new SeqNumber(
                _random.Next(2) == 0 ? uint.MaxValue - (uint)_random.Next(3000) : (uint)_random.NextInt64(1L << 32)),
        };
        if (_nextPort == 60000)
            _nextPort = 20000;
        target.RcvNxt = target.Iss;
        if (_random.Next(6) == 0)
        {
            target.Flow = target.Flow with { LocalPort = 81 };
            target.Connection = _host.Stack.Connect(target.Flow, s_path, _now);
        }
        return target;
    }

    private static FlowKey Turned(in FlowKey flow) => new(flow.Remote, flow.Local, flow.RemotePort, flow.LocalPort);

    /// <summary>The next segment to a target: mostly one that advances it, else one that is a little off.</summary>
    private int BuildFrame(Target target)
    {
        TcpConnection? connection = target.Connection;
        var fields = new SegmentFields
        {
            Window = (ushort)(_random.Next(4) == 0 ? _random.Next(4) : _random.Next(65536)),
        };
        int payload = 0;
        if (connection is null || connection.State == TcpState.SynSent || _random.Next(40) == 0)
        {
            bool answers = connection is { State: TcpState.SynSent } && _random.Next(4) != 0;
            fields.Flags = answers ? TcpFlags.Syn | TcpFlags.Ack : TcpFlags.Syn;
            fields.Seq = target.Iss;
            if (connection is not null)
                fields.Ack = connection.SndNxt;
            fields.Mss = (ushort)(_random.Next(3) == 0 ? _random.Next(100) : 1460);
            fields.SackPermitted = _random.Next(4) != 0;
            fields.HasWindowScale = _random.Next(3) != 0;
            fields.WindowScale = (byte)_random.Next(16);
            fields.HasTimestamps = _random.Next(2) == 0;
            fields.TsVal = target.TsVal;
            if (_random.Next(8) == 0)
                fields.Flags |= TcpFlags.Ece | TcpFlags.Cwr;
            if (connection is null && _host.Stack.Owns(target.Flow) && _random.Next(2) == 0)
            {
                // Half-open: complete it, with the SYN-ACK's number, that the target has kept.
                fields = new SegmentFields
                {
                    Flags = TcpFlags.Ack,
                    Seq = target.Iss + 1,
                    Ack = target.RcvNxt,
                    Window = 5000,
                    HasTimestamps = fields.HasTimestamps,
                    TsVal = target.TsVal,
                };
                payload = _random.Next(2) * _random.Next(100);
            }
        }
        else
        {
            payload = BuildInConnection(target, connection, ref fields);
        }
        _random.NextBytes(_frame.AsSpan(300, Math.Min(payload, 8)));
        int start = SegmentWriter.Write(
            _frame, 300, payload, new LinkPath(s_path.RemoteMac, s_path.LocalMac), Turned(target.Flow), fields);
        int length = 300 + payload - start;
        _frame.AsSpan(start, length).CopyTo(_frame);
        return length;
    }

    private int BuildInConnection(Target target, TcpConnection connection, ref SegmentFields fields)
    {
        fields.Flags = TcpFlags.Ack;
        fields.Seq = connection.RcvNxt + Offset();
        long flight = connection.SndNxt - connection.SndUna;
        fields.Ack = _random.Next(8) switch
        {
            0 => connection.SndUna,
            1 => connection.SndNxt + _random.Next(3),
            2 => connection.SndUna - _random.Next(70000),
            3 => connection.SndUna + Offset(),
            4 => connection.SndUna + (int)(_random.NextDouble() * flight),
            _ => connection.SndNxt,
        };
        switch (_random.Next(40))
        {
            case 0:
                fields.Flags |= TcpFlags.Fin;
                break;
            case 1:
                fields.Flags = TcpFlags.Rst;
                break;
            case 2:
                fields.Flags |= TcpFlags.Syn;
                break;
            case 3:
                fields.Flags |= TcpFlags.Ece | TcpFlags.Urg;
                break;
        }
        target.TsVal += (uint)_random.Next(3);
        fields.HasTimestamps = _random.Next(8) != 0;
        fields.TsVal = _random.Next(16) == 0 ? target.TsVal - (uint)_random.Next() : target.TsVal;
        fields.TsEcr = _random.Next(4) == 0 ? (uint)_random.Next() : (uint)(_now.Ticks / TimeSpan.TicksPerMillisecond);
        if (flight > 0 && _random.Next(2) == 0)
        {
            int blocks = 1 + _random.Next(3);
            for (int i = 0; i < blocks; i++)
            {
                SeqNumber left = connection.SndUna + (int)(_random.NextDouble() * flight);
                SeqNumber right = left + (int)(_random.NextDouble() * (connection.SndNxt - left));
                if (_random.Next(8) == 0)
                    right += Offset();
                if (_random.Next(16) == 0)
                    (left, right) = (right, left);
                fields.Sack.Add(left, right);
            }
        }
        return _random.Next(3) switch { 0 => 0, 1 => _random.Next(4), _ => _random.Next(1400) };
    }

    /// <summary>"Fragmentation needed", quoting a segment that is in flight, or nearly.</summary>
    private int BuildTooBig(TcpConnection connection)
    {
        const int quoteLength = 28;
        Span<byte> frame = _frame.AsSpan(0, 42 + quoteLength);
        frame.Clear();
        int inFlight = connection.SndNxt - connection.SndUna;
        int offset = _random.Next(4) == 0 ? Offset() : (int)(_random.NextDouble() * inFlight);
        var quoted = new SegmentFields { Seq = connection.SndUna + offset };
        int start = SegmentWriter.Write(_frame, 300, 0, s_path, connection.Flow, quoted);
        _frame.AsSpan(start + 14, quoteLength).CopyTo(frame[42..]);
        (s_path with { LocalMac = s_path.RemoteMac, RemoteMac = s_path.LocalMac }).Write(frame, IpHeader.EtherTypeIPv4);
        Span<byte> ip = frame[14..34];
        ((ReadOnlySpan<byte>)[0x45, 0, 0, 28 + quoteLength, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 77, 10, 0, 0, 2])
            .CopyTo(ip);
        SegmentBuilder.Put(ip[10..], (ushort)~Checksum.Fold(Checksum.Sum(ip)));
        Span<byte> icmp = frame[34..];
        icmp[0] = 3;
        icmp[1] = 4;
        SegmentBuilder.Put(icmp[6..], (ushort)(_random.Next(4) == 0 ? _random.Next(65536) : 500 + _random.Next(1000)));
        SegmentBuilder.Put(icmp[2..], (ushort)~Checksum.Fold(Checksum.Sum(icmp)));
        return frame.Length;
    }

    private int Offset() => _random.Next(10) switch
    {
        0 => 1,
        1 => -1,
        2 => _random.Next(3000),
        3 => -_random.Next(3000),
        4 => _random.Next(200_000),
        5 => _random.Next(100) == 0 ? int.MinValue : _random.Next(int.MinValue, int.MaxValue),
        _ => 0,
    };

    /// <summary>What an application might do.</summary>
    private void Act(Target target)
    {
        if (target.Connection is not { } connection)
            return;
        switch (_random.Next(40))
        {
            case < 20:
                if (connection.UnacknowledgedBytes < 60_000)
                    Write(connection, _random.Next(4) == 0 ? _random.Next(20_000) : _random.Next(300));
                break;
            case < 34:
                Read(connection, _random.Next(3) == 0 ? _random.Next(2000) : long.MaxValue);
                break;
            case < 36:
                connection.Shutdown();
                break;
            case < 38:
                connection.Close();
                break;
            case 38:
                connection.Cork = _random.Next(2) == 0;
                break;
            case 39 when _random.Next(4) == 0:
                Endings.Abort(connection);
                break;
        }
    }

    private void Write(TcpConnection connection, int count)
    {
        BlockQueue data = default;
        while (count > 0)
        {
            Block block = (_random.Next(2) == 0 ? _host.Frames.TryTakeForWriting() : null) ?? _host.Blocks.Take();
            block.Length = Math.Min(
                count, block.IsFrame ? Math.Min(block.Room, Math.Max(1, connection.EffectiveMss)) : block.Room);
            count -= block.Length;
            data.Enqueue(block);
        }
        connection.Write(ref data);
    }

    private static void Read(TcpConnection connection, long max)
    {
        BlockQueue taken = connection.TakeReceived(max);
        long bytes = taken.Bytes;
        taken.ReturnAll();
        if (bytes > 0)
            connection.ReleaseWindow(bytes);
    }

    private void PassTime()
    {
        int kind = _random.Next(200);
        if (kind > 60)
            return;
        _now += kind switch
        {
            0 => TimeSpan.FromSeconds(_random.Next(100)),
            < 5 => TimeSpan.FromMilliseconds(_random.Next(3000)),
            < 20 => TimeSpan.FromMilliseconds(_random.Next(60)),
            _ => TimeSpan.FromMicroseconds(_random.Next(1000)),
        };
        _host.Stack.OnDeadline(_now);
    }

    private void Settle(bool deep)
    {
        int inFlight = 0;
        foreach (Target? target in _targets)
        {
            if (target?.Connection is { } connection)
                inFlight += Invariants.SegmentsInFlight(connection) + (int)(connection.UnsentBytes / 36);
        }
        int limit = 128 + 2 * inFlight;
        TakeEvents();
        _host.Emit(_now, Learn, limit);
        foreach (Target? target in _targets)
        {
            if (target?.Connection is not { } connection)
                continue;
            Invariants.Check(connection);
            if (connection.State is not (TcpState.SynSent or TcpState.Closed))
            {
                Invariants.Hold(
                    !target.IsSynchronised || connection.RcvNxt >= target.RcvNxt, connection, "RCV.NXT moved back");
                target.RcvNxt = connection.RcvNxt;
                target.IsSynchronised = true;
            }
            if (deep)
                Invariants.CheckScoreboard(connection);
        }
        if (deep)
            Invariants.CheckFrames(_host.Frames);
    }

    /// <summary>A SYN-ACK's number is what a half-open target needs to go on.</summary>
    private void Learn(ReadOnlySpan<byte> frame)
    {
        _canary.Take(frame);
        if ((frame[47] & 0x12) != 0x12)
            return;
        ushort port = System.Buffers.Binary.BinaryPrimitives.ReadUInt16BigEndian(frame[36..]);
        foreach (Target? target in _targets)
        {
            if (target is { Connection: null } && target.Flow.RemotePort == port)
                target.RcvNxt =
                    new SeqNumber(System.Buffers.Binary.BinaryPrimitives.ReadUInt32BigEndian(frame[38..])) + 1;
        }
    }

    private void TakeEvents()
    {
        while (_host.Stack.TryAccept(out TcpConnection? accepted))
        {
            Target? target = Array.Find(_targets, t => t is { Connection: null } && t.Flow == accepted.Flow);
            if (target is null)
            {
                Endings.Abort(accepted);
                continue;
            }
            target.Connection = accepted;
            target.RcvNxt = accepted.RcvNxt;
        }
        while (_host.Stack.TryTakeReady(out TcpConnection connection))
            Endings.TakeEvents(connection);
    }

    /// <summary>Everything ends, and everything comes home.</summary>
    private void End()
    {
        _canary.Exchange(ref _now);
        _canary.Close(ref _now);
        foreach (Target? target in _targets)
        {
            if (target?.Connection is { } connection)
                Endings.Abort(connection);
        }
        TakeEvents();
        _host.CompletionLag = 0;
        for (int i = 0; i < 100_000; i++)
        {
            _host.Emit(_now, null, 2000);
            if (_host.Stack.NextDeadline == Instant.Never)
                break;
            _now = _host.Stack.NextDeadline;
            _host.Stack.OnDeadline(_now);
            TakeEvents();
        }
        _host.CheckEmpty();
    }
}

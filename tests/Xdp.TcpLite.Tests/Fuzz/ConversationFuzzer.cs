using Xdp.TcpLite.Tests.Hostile;

namespace Xdp.TcpLite.Tests.Fuzz;

/// <summary>
/// Two stacks that talk over a hostile network. It drops, duplicates, delays, splices and bends segments, and an
/// attacker who sees nothing injects guesses. A second connection between the two is left alone and must work
/// throughout, and at the end both stacks must be empty.
/// </summary>
internal sealed class ConversationFuzzer
{
    internal const string Kind = "conversations";
    internal const int ConversationsPerWorld = 50;

    /// <summary>Things that happen in a conversation after which the network turns kind.</summary>
    private const int HostileEvents = 60;

    /// <summary>Things that happen until all is over, at the very most.</summary>
    private const int MaxEvents = 20_000;

    private readonly Random _random;
    private readonly Mutator _mutator;
    private readonly FuzzHost _client, _server;
    private readonly Canary _canary;
    private readonly PriorityQueue<(bool ToServer, byte[] Packet), (Instant At, long Order)> _wire = new();
    private readonly byte[] _frame = new byte[2048];
    private Instant _now = new(TimeSpan.TicksPerHour);
    private long _order;
    private int _events;
    private bool _hostile;
    private ushort _port = 30000;
    private End? _near, _far;

    /// <summary>One end of the conversation: what its application still wants.</summary>
    private sealed class End(TcpConnection connection)
    {
        internal readonly TcpConnection Connection = connection;
        internal int ToWrite;
        internal bool Closed;
        internal SeqNumber RcvNxt;
        internal bool IsSynchronised;
    }

    private ConversationFuzzer(int seed)
    {
        _random = new Random(seed);
        _mutator = new Mutator(_random);
        _client = new FuzzHost(
            IpAddr.FromIPv4(0x0a000001), 0x02_00_00_00_00_01, FrameFuzzer.RandomOptions(_random), (byte)seed, _now,
            frames: 128);
        _server = new FuzzHost(
            IpAddr.FromIPv4(0x0a000002), 0x02_00_00_00_00_02, FrameFuzzer.RandomOptions(_random), (byte)(seed + 1),
            _now, frames: 128);
        _server.Stack.Listen(default, 80, null);
        _canary = new Canary(_server, seed, ref _now);
    }

    /// <summary>Runs one world; throws <see cref="FuzzException"/> at the first broken invariant.</summary>
    internal static void Run(int seed, int conversations = ConversationsPerWorld)
    {
        long step = -1;
        ConversationFuzzer? fuzzer = null;
        try
        {
            fuzzer = new ConversationFuzzer(seed);
            for (step = 0; step < conversations; step++)
                fuzzer.Converse();
            fuzzer._canary.Close(ref fuzzer._now);
            fuzzer.Drain();
            fuzzer._server.CheckEmpty();
        }
        catch (Exception e)
        {
            throw new FuzzException(Kind, seed, step, e, fuzzer?._near?.Connection, fuzzer?._far?.Connection);
        }
    }

    private void Converse()
    {
        _client.CompletionLag = _server.CompletionLag = _random.Next(6);
        var flow = new FlowKey(_client.Address, _server.Address, _port++, 80);
        if (_port == 60000)
            _port = 30000;
        TcpConnection? opened = _client.Stack.Connect(flow, new LinkPath(_client.Mac, _server.Mac), _now);
        if (opened is null)
            return;
        _near = new End(opened) { ToWrite = Size() };
        _far = null;
        _events = 0;
        _hostile = true;
        while (_events++ < HostileEvents)
            Happen();
        _hostile = false;
        Finish(_near);
        Finish(_far);
        Drain();
        _canary.Exchange(ref _now);
        _client.CheckEmpty();
        Invariants.CheckFrames(_server.Frames);
    }

    private int Size() =>
        _random.Next(4) switch { 0 => 0, 1 => _random.Next(100), 2 => _random.Next(3000), _ => _random.Next(30_000) };

    /// <summary>Lets all that is under way end.</summary>
    private void Drain()
    {
        while (_client.Stack.NextDeadline != Instant.Never || _client.Stack.WantsToEmit
            || _client.Stack.ConnectionCount > 0 || _server.Stack.ConnectionCount > 1
            || _server.Stack.HalfOpenCount + _server.Stack.TimeWaitCount > 0 || _wire.Count > 0)
        {
            if (_events++ > MaxEvents)
            {
                string next = _wire.Count > 0 ? Convert.ToHexString(_wire.Peek().Packet) : "";
                throw new InvariantException(
                    $"{MaxEvents} events, and it goes on at {_now}: {_wire.Count} packets on their way, "
                    + $"{Describe(_client)} and {Describe(_server)}, next {next}");
            }
            if (_far is null || _far.Connection.State != TcpState.Closed)
                Finish(_far);
            Happen();
        }
    }

    private static string Describe(FuzzHost host) =>
        $"{host.Stack.ConnectionCount} connections, {host.Stack.HalfOpenCount} half-open, "
        + $"{host.Stack.TimeWaitCount} in TIME-WAIT, deadline {host.Stack.NextDeadline}";

    private void Finish(End? end)
    {
        if (end is null || end.Closed)
            return;
        end.Closed = true;
        end.ToWrite = 0;
        if (_random.Next(3) == 0)
            Endings.Abort(end.Connection);
        else
            end.Connection.Close();
    }

    /// <summary>
    /// The next thing happens: a packet arrives or a timer fires; the applications and the stacks react.
    /// </summary>
    private void Happen()
    {
        Instant next = Instant.Min(_client.Stack.NextDeadline, _server.Stack.NextDeadline);
        if (_wire.TryPeek(out _, out var first) && first.At <= next)
        {
            (bool toServer, byte[] packet) = _wire.Dequeue();
            _now = Instant.Max(_now, first.At);
            (toServer ? _server : _client).Deliver(packet, _now);
        }
        else if (next != Instant.Never)
        {
            _now = Instant.Max(_now, next);
        }
        if (_hostile && _random.Next(6) == 0)
            Inject();
        _client.Stack.OnDeadline(_now);
        _server.Stack.OnDeadline(_now);
        TakeEvents();
        Act(_near!);
        if (_far is not null)
            Act(_far);
        _client.Emit(_now, frame => Carry(frame, toServer: true), 1000);
        _server.Emit(_now, frame => Carry(frame, toServer: false), 1000);
        _canary.OnDeadline(_now);
        Check(_near!);
        if (_far is not null)
            Check(_far);
    }

    private static void Check(End end)
    {
        TcpConnection connection = end.Connection;
        Invariants.Check(connection);
        if (connection.State is TcpState.SynSent or TcpState.Closed)
            return;
        Invariants.CheckScoreboard(connection);
        Invariants.Hold(!end.IsSynchronised || connection.RcvNxt >= end.RcvNxt, connection, "RCV.NXT moved back");
        end.RcvNxt = connection.RcvNxt;
        end.IsSynchronised = true;
    }

    private void TakeEvents()
    {
        while (_server.Stack.TryAccept(out TcpConnection? accepted))
        {
            if (_far is null && accepted.Flow.RemotePort == _near!.Connection.Flow.LocalPort)
            {
                _far = new End(accepted) { ToWrite = _hostile ? Size() : 0 };
                continue;
            }
            Endings.Abort(accepted);
        }
        while (_client.Stack.TryTakeReady(out TcpConnection connection))
            Endings.TakeEvents(connection);
        while (_server.Stack.TryTakeReady(out TcpConnection connection))
            Endings.TakeEvents(connection);
    }

    private void Act(End end)
    {
        TcpConnection connection = end.Connection;
        if (!_hostile || _random.Next(3) != 0)
        {
            BlockQueue taken = connection.TakeReceived(long.MaxValue);
            long bytes = taken.Bytes;
            taken.ReturnAll();
            if (bytes > 0)
                connection.ReleaseWindow(bytes);
        }
        if (end.ToWrite > 0 && connection.State != TcpState.SynSent && _random.Next(2) == 0)
        {
            int count = Math.Min(end.ToWrite, 1 + _random.Next(8000));
            end.ToWrite -= count;
            FuzzHost host = ReferenceEquals(end, _near) ? _client : _server;
            BlockQueue data = default;
            while (count > 0)
            {
                Block block = (_random.Next(2) == 0 ? host.Frames.TryTakeForWriting() : null) ?? host.Blocks.Take();
                block.Length =
                    Math.Min(count, block.IsFrame ? Math.Min(block.Room, connection.EffectiveMss) : block.Room);
                count -= block.Length;
                data.Enqueue(block);
            }
            connection.Write(ref data);
        }
        if (end.ToWrite == 0 && !end.Closed && _random.Next(12) == 0)
        {
            end.Closed = true;
            switch (_random.Next(3))
            {
                case 0:
                    connection.Shutdown();
                    end.Closed = false;
                    break;
                case 1:
                    connection.Close();
                    break;
                default:
                    Endings.Abort(connection);
                    break;
            }
        }
    }

    /// <summary>The network's way with a segment.</summary>
    private void Carry(ReadOnlySpan<byte> frame, bool toServer)
    {
        if (!toServer && frame[33] == 0xfe)
        {
            _canary.Take(frame);
            return;
        }
        Instant at = _now + TimeSpan.FromMilliseconds(1);
        if (!_hostile)
        {
            _wire.Enqueue((toServer, frame.ToArray()), (at, _order++));
            return;
        }
        int kind = _random.Next(16);
        if (kind == 0)
            return;
        if (kind == 1)
            at += TimeSpan.FromMilliseconds(_random.Next(300));
        byte[] packet;
        if (kind is 2 or 3)
        {
            frame.CopyTo(_frame);
            int length = _mutator.Mutate(_frame, frame.Length);
            packet = _frame[..length];
        }
        else
        {
            packet = frame.ToArray();
            _mutator.Remember(packet);
        }
        int copies = kind == 4 ? 1 + _random.Next(4) : 1;
        for (int i = 0; i < copies; i++)
            _wire.Enqueue((toServer, packet), (at, _order++));
    }

    /// <summary>
    /// A segment from somebody who knows addresses and ports, and guesses the rest well enough to be a danger.
    /// </summary>
    private void Inject()
    {
        bool toServer = _random.Next(2) == 0;
        TcpConnection? to = toServer ? _far?.Connection : _near!.Connection;
        FlowKey mine = _near!.Connection.Flow;
        FlowKey flow = toServer ? mine : new FlowKey(mine.Remote, mine.Local, mine.RemotePort, mine.LocalPort);
        LinkPath path = toServer ? new LinkPath(_client.Mac, _server.Mac) : new LinkPath(_server.Mac, _client.Mac);
        var fields = new SegmentFields
        {
            Seq = (to?.RcvNxt ?? default) + Guess(),
            Ack = (to?.SndNxt ?? default) + Guess(),
            Flags = (TcpFlags)_random.Next(64),
            Window = (ushort)_random.Next(65536),
            HasTimestamps = _random.Next(2) == 0,
            TsVal = (uint)_random.Next(),
            TsEcr = (uint)_random.Next(),
        };
        int payload = _random.Next(3) == 0 ? _random.Next(1000) : 0;
        int start = SegmentWriter.Write(_frame, 300, payload, path, flow, fields);
        (toServer ? _server : _client).Deliver(_frame.AsSpan(start, 300 + payload - start), _now);
    }

    private int Guess() => _random.Next(5) switch
    {
        0 => 0,
        1 => _random.Next(-3, 4),
        2 => _random.Next(-2000, 2000),
        3 => _random.Next(-100_000, 100_000),
        _ => _random.Next(),
    };
}

using System.Runtime.CompilerServices;
using Xdp.TcpLite.Tests.Simulation;

namespace Xdp.TcpLite.Tests.Hostile;

/// <summary>A segment that the stack has sent, as its receiver sees it.</summary>
internal sealed record Seen(Packet Packet, byte[] Payload, Instant At)
{
    internal SeqNumber Seq => Packet.Seq;
    internal SeqNumber Ack => Packet.Ack;
    internal TcpFlags Flags => Packet.Flags;
}

/// <summary>
/// A stack under test and peers made by hand, on virtual time. Invariants are checked after each step.
/// </summary>
internal sealed class Rig
{
    internal const ushort Port = 80;
    internal static readonly IpAddr ServerAddress = IpAddr.FromIPv4(0x0a000002);
    internal static readonly LinkPath Path = new(0x02_00_00_00_00_02, 0x02_00_00_00_00_01);

    private readonly Dictionary<FlowKey, List<Seen>> _sent = [];

    internal Rig(
        TcpStackOptions? options = null, int frames = 512, long heap = 256 << 20, IRoutes? routes = null)
    {
        Host = new SimHost("server", ServerAddress, Path.LocalMac, options ?? new TcpStackOptions(), frames, secret: 9,
            receiveReserve: frames / 8, heap: heap, routes: routes);
        Stack.Listen(default, Port, null);
        Stack.OnDeadline(Now);
    }

    internal SimHost Host { get; }
    internal TcpStack Stack => Host.Stack;
    internal TcpStackCounters Counters => Stack.Counters;
    internal Instant Now { get; private set; } = new(TimeSpan.TicksPerHour);

    /// <summary>Segments that the stack has sent, over its life.</summary>
    internal long Emitted { get; private set; }

    /// <summary>Connections whose invariants are checked after each step.</summary>
    internal List<TcpConnection> Watched { get; } = [];

    /// <summary>Delivers one frame; what the stack answers is kept for the peers.</summary>
    internal void Deliver(ReadOnlySpan<byte> frame)
    {
        Host.Deliver(frame, Now);
        Emit();
    }

    /// <summary>Delivers without giving the stack its turn to answer.</summary>
    internal void DeliverSilently(ReadOnlySpan<byte> frame) => Host.Deliver(frame, Now);

    internal void Emit()
    {
        Host.Emit(Now, Keep);
        Host.Complete(0);
        // A deadline that has passed may stand, since the caller has not yet called OnDeadline. But no new one may be
        // in the past.
        Assert.True(
            Stack.NextDeadline > Now || Stack.NextDeadline == _overdue, $"deadline {Stack.NextDeadline} at {Now}");
        foreach (TcpConnection connection in Watched)
            Invariants.Check(connection);
    }

    private Instant _overdue = Instant.Never;

    private void Keep(byte[] frame)
    {
        Emitted++;
        // What another link carries begins with IP.
        LinkType link = frame[0] >> 4 is 4 or 6 ? LinkType.Ip : LinkType.Ethernet;
        DropReason reason = PacketParser.Parse(frame, false, out Packet packet, link);
        Assert.Equal(DropReason.None, reason);
        if (!_sent.TryGetValue(packet.Flow, out List<Seen>? list))
            _sent[packet.Flow] = list = [];
        list.Add(new Seen(packet, frame.AsSpan(packet.PayloadStart, packet.PayloadLength).ToArray(), Now));
    }

    /// <summary>Segments sent to the flow (seen from the peer) since the last call.</summary>
    internal List<Seen> Take(in FlowKey peer) => _sent.Remove(peer, out List<Seen>? list) ? list : [];

    /// <summary>Time passes; timers fire when they are due.</summary>
    internal void Advance(TimeSpan span)
    {
        Instant end = Now + span;
        while (Stack.NextDeadline <= end)
        {
            Now = Instant.Max(Now, Stack.NextDeadline);
            Stack.OnDeadline(Now);
            Emit();
        }
        Now = end;
        Stack.OnDeadline(Now);
    }

    /// <summary>Time passes and nobody looks, as in a pause of the whole process.</summary>
    internal void Freeze(TimeSpan span)
    {
        Now += span;
        _overdue = Stack.NextDeadline;
    }

    internal void RunTimers()
    {
        Stack.OnDeadline(Now);
        _overdue = Instant.Never;
        Emit();
    }

    internal void Milliseconds(double count) => Advance(TimeSpan.FromMilliseconds(count));

    internal void AssertFramesAddUp() => Invariants.CheckFrames(Host.Frames);

    /// <summary>Nothing is left: no connection, no frame, no block.</summary>
    internal void AssertEmpty()
    {
        Assert.Equal((0, 0, 0), (Stack.ConnectionCount, Stack.HalfOpenCount, Stack.TimeWaitCount));
        Assert.Equal(0, Host.Outstanding);
    }
}

/// <summary>The other end of a connection, by hand: sends exactly what it is told to.</summary>
internal sealed class Peer
{
    private readonly Rig _rig;

    internal Peer(Rig rig, ushort port = 40000, uint address = 0x0a000001, uint iss = 1000)
    {
        _rig = rig;
        Flow = new FlowKey(Rig.ServerAddress, IpAddr.FromIPv4(address), Rig.Port, port);
        Iss = new SeqNumber(iss);
        Nxt = Iss;
    }

    /// <summary>Seen from the stack.</summary>
    internal FlowKey Flow { get; init; }
    internal SeqNumber Iss { get; }

    /// <summary>The sequence number of the next segment, unless it says otherwise.</summary>
    internal SeqNumber Nxt { get; set; }

    /// <summary>The acknowledgement that segments carry, unless they say otherwise.</summary>
    internal SeqNumber Ack { get; set; }
    internal ushort Window { get; set; } = ushort.MaxValue;
    internal bool Timestamps { get; set; }
    internal uint TsVal { get; set; } = 5000;
    internal uint TsEcr { get; set; }
    internal bool Sack { get; init; } = true;
    internal ushort Mss { get; init; } = 1460;
    internal byte? WindowScale { get; init; } = 7;
    internal TcpConnection? Connection { get; private set; }

    internal FlowKey Mine => new(Flow.Remote, Flow.Local, Flow.RemotePort, Flow.LocalPort);

    internal List<Seen> Take() => _rig.Take(Mine);

    internal SegmentFields Fields(TcpFlags flags) => new()
    {
        Seq = Nxt,
        Ack = (flags & TcpFlags.Ack) != 0 ? Ack : default,
        Flags = flags,
        Window = Window,
        HasTimestamps = Timestamps,
        TsVal = TsVal,
        TsEcr = TsEcr,
    };

    internal SegmentFields Syn() => Fields(TcpFlags.Syn) with
    {
        Seq = Iss,
        Mss = Mss,
        HasWindowScale = WindowScale is not null,
        WindowScale = WindowScale ?? 0,
        SackPermitted = Sack,
    };

    internal byte[] Build(in SegmentFields fields, byte[]? payload = null) =>
        new SegmentBuilder { Flow = Flow, Link = Rig.Path, Fields = fields, Payload = payload ?? [] }.Build();

    internal void Send(in SegmentFields fields, byte[]? payload = null) => _rig.Deliver(Build(fields, payload));

    internal void Send(TcpFlags flags, byte[]? payload = null) => Send(Fields(flags), payload);

    /// <summary>
    /// Bytes <paramref name="from"/> to <paramref name="to"/> of this peer's pattern, counted from its first byte.
    /// </summary>
    internal void Data(int from, int to, TcpFlags flags = TcpFlags.Ack | TcpFlags.Psh) =>
        Send(Fields(flags) with { Seq = Iss + 1 + from }, Pattern(from, to));

    internal static byte[] Pattern(int from, int to)
    {
        byte[] bytes = new byte[to - from];
        for (int i = from; i < to; i++)
            bytes[i - from] = SimApplication.Pattern(1, i);
        return bytes;
    }

    /// <summary>The three-way handshake; the connection is accepted, and what it raised is taken.</summary>
    internal TcpConnection Connect()
    {
        Send(Syn());
        Seen synAck = Assert.Single(Take());
        Assert.Equal(TcpFlags.Syn | TcpFlags.Ack, synAck.Flags & (TcpFlags.Syn | TcpFlags.Ack | TcpFlags.Rst));
        Nxt = Iss + 1;
        Ack = synAck.Seq + 1;
        TsEcr = synAck.Packet.TsVal;
        Send(TcpFlags.Ack);
        Assert.True(_rig.Stack.TryAccept(out TcpConnection? connection));
        Assert.Equal(Flow, connection.Flow);
        _rig.Watched.Add(connection);
        return Connection = connection;
    }

    /// <summary>The stack opens the connection; its SYN is on its way.</summary>
    internal TcpConnection Open()
    {
        Connection = _rig.Stack.Connect(Flow, Rig.Path, _rig.Now)!;
        _rig.Watched.Add(Connection);
        _rig.Emit();
        return Connection;
    }

    /// <summary>What the stack's application has written is acknowledged up to here.</summary>
    internal void AckUpTo(SeqNumber ack, params (SeqNumber Left, SeqNumber Right)[] sack)
    {
        SegmentFields fields = Fields(TcpFlags.Ack) with { Ack = ack };
        foreach ((SeqNumber left, SeqNumber right) in sack)
            fields.Sack.Add(left, right);
        Send(fields);
    }

    /// <summary>The application writes <paramref name="count"/> bytes.</summary>
    internal void Write(int count)
    {
        BlockQueue data = default;
        int written = 0;
        while (written < count)
        {
            Block block = _rig.Host.Blocks.Take();
            int length = Math.Min(block.Capacity, count - written);
            block.Length = length;
            for (int i = 0; i < length; i++)
                block.Span[i] = SimApplication.Pattern(2, _written + i);
            _written += length;
            written += length;
            data.Enqueue(block);
        }
        Connection!.Write(ref data);
        _rig.Emit();
    }

    private long _written;
    private long _read;

    /// <summary>The application takes and checks all there is.</summary>
    internal int Read(bool release = true)
    {
        BlockQueue received = Connection!.TakeReceived(long.MaxValue);
        int count = 0;
        while (received.Dequeue() is { } block)
        {
            foreach (byte actual in block.Bytes)
            {
                Assert.Equal(SimApplication.Pattern(1, _read++), actual);
                count++;
            }
            block.Return();
        }
        if (release && count > 0)
            Connection.ReleaseWindow(count);
        _rig.Emit();
        return count;
    }
}

/// <summary>What must hold of every connection and pool after every step, whatever came in.</summary>
internal static class Invariants
{
    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_snd")]
    private static extern ref Sender SenderOf(TcpConnection connection);

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_rcv")]
    private static extern ref Receiver ReceiverOf(TcpConnection connection);

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_reassembly")]
    private static extern ref ReassemblyQueue? ReassemblyOf(ref Receiver receiver);

    /// <summary>Segments between SND.UNA and SND.NXT.</summary>
    internal static int SegmentsInFlight(TcpConnection connection) => SenderOf(connection).Flight?.Queue.Count ?? 0;

    internal static void Check(TcpConnection connection)
    {
        CheckBorrowed(connection);
        if (connection.State == TcpState.Closed)
            return;
        TcpConnectionInfo info = connection.GetInfo(default);
        Hold(connection.SndUna <= connection.SndNxt, connection, "SND.UNA is beyond SND.NXT");
        Hold(info.Cwnd >= info.SndMss, connection, "the congestion window is below one segment");
        Hold(connection.ReadableBytes >= 0 && connection.UnsentBytes >= 0, connection, "a count is negative");
    }

    /// <summary>A connection with nothing in flight has no flight, and one without a gap no reassembly queue.</summary>
    private static void CheckBorrowed(TcpConnection connection)
    {
        Flight? flight = SenderOf(connection).Flight;
        if (connection.State is not (TcpState.SynSent or TcpState.SynReceived))
        {
            bool idle = connection.State == TcpState.Closed
                || (connection.SndUna == connection.SndNxt
                    && connection.UnsentBytes == 0
                    && flight?.Recovery.Probe.EndSeq is null);
            Hold(
                idle == flight is null,
                connection,
                idle ? "nothing is in flight, and a flight is held" : "there is no flight for what is in flight");
        }
        Hold(
            ReassemblyOf(ref ReceiverOf(connection)) is not { IsEmpty: true },
            connection,
            "an empty reassembly queue is held");
    }

    /// <summary>The scoreboard's sums against the scoreboard: costs a walk.</summary>
    internal static void CheckScoreboard(TcpConnection connection)
    {
        if (connection.State is TcpState.Closed or TcpState.SynSent or TcpState.SynReceived)
            return;
        if (SenderOf(connection).Flight is not { } flight)
            return;
        SendQueue queue = flight.Queue;
        Scoreboard board = flight.Recovery.Board;
        long sacked = 0, lost = 0, retransmitted = 0;
        int sackedSegments = 0;
        SeqNumber next = connection.SndUna;
        for (int i = 0; i < queue.Count; i++)
        {
            ref SentSegment segment = ref queue[i];
            Hold(segment.Seq == next, connection, "the scoreboard has a gap");
            next = segment.EndSeq;
            if (segment.Has(SentFlags.Sacked))
            {
                sacked += segment.SequenceLength;
                sackedSegments++;
            }
            if (segment.Has(SentFlags.Lost))
                lost += segment.SequenceLength;
            if (segment.Has(SentFlags.Retransmitted))
                retransmitted += segment.SequenceLength;
        }
        Hold(next == connection.SndNxt, connection, "the scoreboard does not end at SND.NXT");
        Hold(
            sacked == board.SackedBytes && sackedSegments == board.SackedSegments,
            connection,
            $"{board.SackedBytes} bytes SACKed by count, {sacked} by flags");
        Hold(lost == board.LostBytes, connection, $"{board.LostBytes} bytes lost by count, {lost} by flags");
        Hold(
            retransmitted == board.RetransmittedBytes,
            connection,
            $"{board.RetransmittedBytes} bytes retransmitted by count, {retransmitted} by flags");
    }

    internal static void CheckFrames(FramePool frames)
    {
        int[] states = frames.CountByState();
        int sum = 0;
        foreach (int count in states)
            sum += count;
        int free = states[(int)FrameState.Free];
        if (sum != frames.FrameCount || free != frames.FreeCount)
            throw new InvariantException(
                $"{sum} frames by state of {frames.FrameCount}; {free} in state free, {frames.FreeCount} on the stack");
    }

    internal static void Hold(bool holds, TcpConnection connection, string what)
    {
        if (!holds)
            throw new InvariantException($"{what}: {connection.GetInfo(default)}");
    }
}

/// <summary>Tests that measure time or memory of the process: no other runs meanwhile.</summary>
[CollectionDefinition(nameof(Alone), DisableParallelization = true)]
public class Alone;

internal sealed class InvariantException(string message) : Exception(message);

namespace Xdp.TcpLite;

/// <summary>A segment to be sent: <see cref="Length"/> bytes from <see cref="Start"/> of a frame that is the kernel's until <see cref="FramePool.Completed"/>.</summary>
public struct TxPacket
{
    public Block Frame;
    public int Start;
    public int Length;
}

public enum ReceiveResult
{
    /// <summary>The stack is done with the frame; the caller returns it.</summary>
    Done,

    /// <summary>The stack keeps the frame.</summary>
    Kept,

    /// <summary>
    /// No connection of this stack's has the segment's 4-tuple, and it opens none. Nothing was answered: the caller passes it to the
    /// stack that owns the flow, or calls <see cref="TcpStack.Refuse"/>.
    /// </summary>
    UnknownFlow,
}

/// <summary>
/// A TCP/IP stack without threads, clock, sockets or randomness of its own: deterministic given its inputs. The caller serialises
/// all calls (any thread, one at a time). A turn is: <see cref="Receive"/> for each packet, <see cref="OnDeadline"/> when
/// <see cref="NextDeadline"/> has come, <see cref="TryAccept"/> and <see cref="TryTakeReady"/> until they say no, calls on connections, and
/// <see cref="Emit"/> until it returns less than it was given room for.
/// </summary>
public sealed partial class TcpStack
{
    /// <summary>
    /// Segments that one connection may emit before the others have their turn: enough to amortise the switch, little enough that a bulk sender
    /// does not hold up a small answer.
    /// </summary>
    private const int EmitBurst = 32;

    private readonly FlowTable _flows;
    private readonly IsnGenerator _isn;
    private readonly ReplyQueue _replies = new();
    private readonly ConnectionQueue _ready = new();
    private readonly ConnectionQueue _toEmit = new();

    /// <param name="options">Settings.</param>
    /// <param name="frames">The queue's UMEM.</param>
    /// <param name="blocks">Heap memory.</param>
    /// <param name="secret">32 random bytes; stacks that may see each other's flows share them.</param>
    /// <param name="now">The present.</param>
    public TcpStack(TcpStackOptions options, FramePool frames, BlockPool blocks, ReadOnlySpan<byte> secret, Instant now)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(frames);
        ArgumentNullException.ThrowIfNull(blocks);
        ArgumentOutOfRangeException.ThrowIfLessThan(secret.Length, 32);
        Options = options;
        Frames = frames;
        Blocks = blocks;
        Now = now;
        Wheel = new TimerWheel(now);
        _flows = new FlowTable(secret[..16]);
        _isn = new IsnGenerator(secret[16..32]);
        _cookies = new SynCookies(secret[..32]);
    }

    public TcpStackOptions Options { get; }
    public TcpStackCounters Counters { get; } = new();
    internal FramePool Frames { get; }
    internal BlockPool Blocks { get; }
    internal LendingPool<Flight> Flights { get; } = new(Flight.MostSpare);
    internal LendingPool<ReassemblyQueue> Reassemblies { get; } = new(ReassemblyQueue.MostSpare);
    internal PathCache Paths { get; } = new();
    internal TimerWheel Wheel { get; }

    /// <summary>The time of the call that is being carried out, or of the last one that said.</summary>
    internal Instant Now { get; private set; }

    /// <summary>Connections in any state but TIME-WAIT, half-open ones not counted.</summary>
    public int ConnectionCount { get; private set; }

    public int HalfOpenCount { get; private set; }

    public int TimeWaitCount { get; private set; }

    /// <summary>Is there a connection (half-open and TIME-WAIT included) with this 4-tuple?</summary>
    public bool Owns(in FlowKey flow) => _flows.Find(flow) is not null;

    /// <summary>
    /// Handles one packet: <paramref name="length"/> bytes from <paramref name="start"/> of <paramref name="frame"/>, which is in state
    /// <see cref="FrameState.Rx"/>, or a heap block.
    /// </summary>
    /// <param name="frame">Where the packet lies.</param>
    /// <param name="start">Offset of its first byte.</param>
    /// <param name="length">Its bytes.</param>
    /// <param name="now">The present.</param>
    /// <param name="flow">The segment's 4-tuple; default when it has none.</param>
    public ReceiveResult Receive(Block frame, int start, int length, Instant now, out FlowKey flow)
    {
        Now = now;
        Counters.SegmentsIn++;
        DropReason reason = PacketParser.Parse(frame.Span.Slice(start, length), Options.AcceptPartialChecksum, out Packet packet, Options.Link);
        flow = packet.Flow;
        if (reason == DropReason.NotTcp)
            return ReceiveIcmp(frame.Span.Slice(start, length), now, out flow);
        if (reason != DropReason.None)
        {
            Drop(reason);
            return ReceiveResult.Done;
        }
        Counters.BytesIn += packet.PayloadLength;
        switch (_flows.Find(packet.Flow))
        {
            case TcpConnection connection:
                return connection.Receive(packet, frame, start, now) ? ReceiveResult.Kept : ReceiveResult.Done;
            case HalfOpen half:
                return ReceiveHalfOpen(half, packet, frame, start, now);
            case TimeWait timeWait:
                ReceiveTimeWait(timeWait, packet, now);
                return ReceiveResult.Done;
            default:
                return ReceiveUnknown(packet, frame, start, now);
        }
    }

    private ReceiveResult ReceiveIcmp(ReadOnlySpan<byte> packet, Instant now, out FlowKey flow)
    {
        DropReason reason = PacketParser.ParseIcmp(packet, out IcmpTooBig news, Options.Link);
        flow = news.Flow;
        if (reason != DropReason.None)
        {
            Drop(reason);
            return ReceiveResult.Done;
        }
        if (_flows.Find(flow) is not TcpConnection connection)
            return ReceiveResult.UnknownFlow;
        connection.ReceiveTooBig(news, now);
        return ReceiveResult.Done;
    }

    /// <summary>
    /// Answers the segment that <see cref="Receive"/> called <see cref="ReceiveResult.UnknownFlow"/> as RFC 9293, section 3.10.7.1 has it for CLOSED:
    /// with a RST, rate-limited.
    /// </summary>
    public void Refuse(Block frame, int start, int length, Instant now)
    {
        Now = now;
        DropReason reason = PacketParser.Parse(frame.Span.Slice(start, length), Options.AcceptPartialChecksum, out Packet packet, Options.Link);
        Drop(reason == DropReason.None ? DropReason.NoListener : reason);
        // LISTEN drops what has neither SYN nor ACK (section 3.10.7.2).
        if (reason == DropReason.None && (packet.IsAck || FindListener(packet.Flow) is null))
            Reset(packet);
    }

    /// <summary>When <see cref="OnDeadline"/> wants to be called next; <see cref="Instant.Never"/> when it does not.</summary>
    public Instant NextDeadline => Wheel.NextDeadline;

    /// <summary>Runs every timer that has come due.</summary>
    public void OnDeadline(Instant now)
    {
        Now = now;
        while (Wheel.TakeExpired(now) is { } entry)
        {
            switch (entry)
            {
                case TcpConnection connection:
                    connection.OnDeadline(now);
                    break;
                case HalfOpen half:
                    OnHalfOpenDeadline(half, now);
                    break;
                case TimeWait timeWait:
                    ForgetTimeWait(timeWait);
                    break;
            }
        }
    }

    /// <summary>The next connection with events to take. A connection is given once, however many events it has.</summary>
    public bool TryTakeReady(out TcpConnection connection)
    {
        if (_ready.IsEmpty)
        {
            connection = null!;
            return false;
        }
        connection = _ready.Dequeue();
        connection.IsReady = false;
        return true;
    }

    /// <summary>Is there something to <see cref="Emit"/>?</summary>
    public bool WantsToEmit => !_toEmit.IsEmpty || _replies.Count > 0;

    /// <summary>
    /// Writes the next segments to be sent and returns how many. Less than <paramref name="packets"/> has room for means
    /// that there is nothing more to send now, or no frame to send it in. Each frame counts as in the kernel from here on.
    /// </summary>
    public int Emit(Span<TxPacket> packets, Instant now)
    {
        Now = now;
        int count = 0;
        while (count < packets.Length && _replies.Count > 0)
        {
            if (!_replies.TryWriteNext(this, out packets[count]))
            {
                Counters.EmitStarved++;
                return count;
            }
            count++;
        }
        while (count < packets.Length && !_toEmit.IsEmpty)
        {
            TcpConnection connection = _toEmit.First;
            int burst = Math.Min(packets.Length - count, EmitBurst);
            bool starved = false;
            int emitted = 0;
            while (emitted < burst && connection.TryEmit(now, out packets[count], out starved))
            {
                emitted++;
                count++;
            }
            if (starved)
            {
                Counters.EmitStarved++;
                return count;
            }
            _toEmit.Dequeue();
            connection.IsToEmit = false;
            if (emitted == burst)
                MarkToEmit(connection);
        }
        return count;
    }

    // ---- for connections

    internal void Drop(DropReason reason) => Counters[reason]++;

    internal void MarkReady(TcpConnection connection)
    {
        if (connection.IsReady)
            return;
        connection.IsReady = true;
        _ready.Enqueue(connection);
    }

    internal void MarkToEmit(TcpConnection connection)
    {
        if (connection.IsToEmit)
            return;
        connection.IsToEmit = true;
        _toEmit.Enqueue(connection);
    }

    internal TxPacket Submit(Block frame, int start, int length)
    {
        Frames.Submitted(frame);
        Counters.SegmentsOut++;
        return new TxPacket { Frame = frame, Start = start, Length = length };
    }

    /// <summary>The connection has ended: its 4-tuple is free.</summary>
    internal void Forget(TcpConnection connection)
    {
        _flows.Remove(connection.Key);
        Wheel.Cancel(connection);
        ConnectionCount--;
        Counters.ConnectionsClosed++;
    }

    /// <returns>False when too many wait already; the segment is dropped then.</returns>
    internal bool Reply(in LinkPath path, in FlowKey flow, in SegmentFields fields)
    {
        if ((fields.Flags & TcpFlags.Rst) != 0)
            Counters.RstsSent++;
        return _replies.TryEnqueue(path, flow, fields);
    }

    /// <summary>TSval's clock: milliseconds, as Linux's.</summary>
    internal static uint TimestampClock(Instant now) => (uint)(now.Ticks / TimeSpan.TicksPerMillisecond);

    internal int MssFor(in FlowKey flow) => Math.Min(Options.Mtu - (flow.Local.IsIPv4 ? 40 : 60), Frames.PayloadCapacity);
}

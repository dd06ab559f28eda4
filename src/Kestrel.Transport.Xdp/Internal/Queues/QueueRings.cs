using Kestrel.Transport.Xdp.Internal.Options;
using Xdp.Sockets;
using Xdp.Sockets.Net;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Queues;

/// <summary>
/// A queue's AF_XDP socket and its frames: what goes through the four rings. Owns what has to be done again because the
/// kernel had no room, or the pool no frame. The turn's, except what is marked "any thread".
/// </summary>
internal sealed class QueueRings : ITransmitRing, IDisposable
{
    /// <summary>Packets that a turn receives before it answers: one to two hundred microseconds of work.</summary>
    internal const int ReceiveBudget = 256;

    // Segments written between two looks at the TX ring.
    private const int EmitBatch = 64;

    // Packets that the kernel sends by itself, one system call each, in one pass.
    private const int MostByKernel = 64;

    // Rounds of emit and kick in a turn, when the TX ring is full in between.
    private const int EmitRounds = 8;

    // FILL is refilled in batches: a few frames at a time would cost a pass over the pool for each packet.
    private const int SmallestRefill = 32;

    // When the kernel had no room for a packet. Nothing tells when it has.
    private static readonly TimeSpan s_kickAgainAfter = TimeSpan.FromMicroseconds(200);
    private static readonly TimeSpan s_kickAgainAfterLinkDown = TimeSpan.FromMilliseconds(20);

    private readonly QueueSettings _settings;
    private readonly QueueCounters _counters;
    private readonly Umem _umem;
    private readonly Xsk _xsk;
    private readonly PacketChain _chain = new();
    private readonly TxPacket[] _packets = new TxPacket[EmitBatch];
    private readonly XdpDescriptor[] _descriptors = new XdpDescriptor[EmitBatch];
    private readonly SegmentRuns _runs;
    private bool _linkDown;
    private bool _fillStarved;

    /// <summary>
    /// Opens the socket, with its frames. To be bound.
    /// </summary>
    /// <exception cref="XdpException">The kernel refused; says why.</exception>
    internal QueueRings(QueueSettings settings, QueueCounters counters)
    {
        _settings = settings;
        _counters = counters;
        _umem = Umem.Create(new UmemOptions { FrameCount = settings.FrameCount, FrameSize = QueueSettings.FrameSize });
        Frames = new FramePool(_umem.Memory, QueueSettings.FrameSize, settings.FrameCount, settings.ReceiveReserve)
        {
            Poison = EnvironmentSwitches.PoisonsMemory,
        };
        _xsk = Xsk.Create(_umem, settings.ToXskOptions());
        _runs = new SegmentRuns(this, counters);
    }

    internal FramePool Frames { get; }

    internal bool IsZeroCopy => _xsk.IsZeroCopy;

    /// <summary>For the program's map.</summary>
    internal int SocketDescriptor => _xsk.FileDescriptor;

    /// <summary>Binds the socket, with FILL full. No packet arrives before the program knows the socket.</summary>
    /// <exception cref="XdpException">The kernel refused; says why.</exception>
    internal void Bind()
    {
        Refill(all: true);
        _xsk.Bind();
    }

    /// <summary>Packets that have arrived and were not received. Any thread.</summary>
    internal uint RxWaiting => _xsk.Rx.Available;

    /// <summary>FILL is nearly empty, because the pool has no frames. Any thread.</summary>
    /// <remarks>With FILL empty no packet comes that could wake anybody: those who give frames back must.</remarks>
    internal bool IsFillStarved => Volatile.Read(ref _fillStarved);

    /// <summary>The pool has frames for a starved FILL. Any thread.</summary>
    internal bool CanRefill => IsFillStarved && Frames.FreeCount > 0;

    /// <summary>The kernel would not take all that was to be sent.</summary>
    internal bool MustKickAgain { get; private set; }

    /// <summary>When to kick again, if <see cref="MustKickAgain"/> or the stack waits for frames.</summary>
    internal TimeSpan KickAgainAfter => _linkDown ? s_kickAgainAfterLinkDown : s_kickAgainAfter;

    /// <summary>The stack has more to send than the last turn could.</summary>
    internal bool HasMoreToEmit { get; private set; }

    /// <summary>Why the socket is of no use any more; null while it is.</summary>
    internal string? Failure { get; private set; }

    // For statistics. Any thread.
    internal long FillPending => _xsk.Fill.Pending;

    internal long TransmitPending => _xsk.Tx.Pending;

    internal XskStatistics Statistics => _xsk.GetStatistics();

    /// <summary>Sleeps until packets, the event, or the end of the time. The worker's.</summary>
    internal WaitResult Wait(EventFd wake, TimeSpan timeout) => _xsk.Wait(wake, timeout);

    /// <summary>Frames that the kernel has sent come back.</summary>
    internal void ReapCompletions()
    {
        uint count = _xsk.Completion.Peek(uint.MaxValue, out uint index);
        for (uint i = 0; i < count; i++)
            Frames.Completed(Frames.FromAddress(_xsk.Completion[unchecked(index + i)], out _));
        if (count > 0)
            _xsk.Completion.Release(count);
    }

    /// <summary>Gives the kernel frames to receive into, if many are missing.</summary>
    internal void Refill(bool all = false)
    {
        FillRing fill = _xsk.Fill;
        int wanted = _settings.FillTarget - (int)fill.Pending;
        if (wanted < (all ? 1 : Math.Min(SmallestRefill, _settings.FillTarget / 8)))
        {
            Volatile.Write(ref _fillStarved, false);
            return;
        }
        uint granted = fill.Reserve((uint)wanted, out uint index);
        uint filled = 0;
        while (filled < granted && Frames.TryTakeForFill() is { } frame)
        {
            fill[unchecked(index + filled)] = Frames.AddressOf(frame, 0);
            filled++;
        }
        if (filled < granted)
            fill.Cancel(granted - filled);
        if (filled > 0)
        {
            fill.Submit(filled);
            if (fill.NeedsWakeup && _xsk.IsBound)
                _xsk.KickFill();
        }
        Volatile.Write(ref _fillStarved, fill.Pending < _settings.FillTarget / 4);
    }

    /// <summary>
    /// Hands received packets to the stack, and those that it cannot use to the forwarder.
    /// </summary>
    internal void Receive(uint count, TcpStack stack, FlowForwarder forwarder, Instant now)
    {
        if (count == 0)
            return;
        RxRing rx = _xsk.Rx;
        count = rx.Peek(count, out uint index);
        uint continued = 0;
        for (uint i = 0; i < count; i++)
        {
            ref readonly XdpDescriptor descriptor = ref rx[unchecked(index + i)];
            Block frame = Frames.FromAddress(descriptor.Address, out int start);
            int length = (int)descriptor.Length;
            if ((uint)length > (uint)(QueueSettings.FrameSize - start))
                FailFast(descriptor);
            _counters.BytesReceived += length;
            Frames.Received(frame);
            bool continues = (descriptor.Options & XdpDescriptor.Continued) != 0;
            if (continues || _chain.IsOpen)
            {
                if (_chain.Add(frame, start, length, continues, _counters, out BlockQueue packet))
                    ReceiveChained(ref packet, stack, forwarder, now);
                if (continues)
                    continued++;
                continue;
            }
            ReceiveResult result = stack.Receive(frame, start, length, now, out FlowKey flow);
            if (result == ReceiveResult.Done)
                frame.Return();
            else if (result != ReceiveResult.Kept)
                forwarder.Handle(result, frame, start, length, flow, now);
        }
        rx.Release(count);
        _counters.PacketsReceived += count - continued;
    }

    private static void ReceiveChained(ref BlockQueue packet, TcpStack stack, FlowForwarder forwarder, Instant now)
    {
        ReceiveResult result = stack.ReceiveChain(ref packet, now, out FlowKey flow);
        forwarder.Handle(result, ref packet, flow, visited: 1, now);
    }

    /// <summary>
    /// Puts what the stack has to send on TX. Where the ring fills up, the kernel takes it in between. What another
    /// interface carries, the kernel sends by itself.
    /// </summary>
    internal void Emit(TcpStack stack, IQueueOwner owner, Instant now)
    {
        for (int round = 0; round < EmitRounds; round++)
        {
            if (FillTransmitRing(stack, owner, now))
            {
                HasMoreToEmit = false;
                return;
            }
            Kick();
            ReapCompletions();
            if (MustKickAgain || Failure is not null)
                break;
        }
        HasMoreToEmit = Failure is null;
    }

    /// <summary>A socket for <see cref="UseRunSocket"/>. On a thread in the interface's network namespace.</summary>
    /// <exception cref="XdpException">The kernel refused; says why.</exception>
    internal IRunSocket OpenRunSocket() => new RunSocket(new GsoSocket(_umem, _settings.InterfaceIndex));

    /// <inheritdoc cref="SegmentRuns.Use"/>
    internal void UseRunSocket(IRunSocket? socket) => _runs.Use(socket);

    void ITransmitRing.Put(ReadOnlySpan<XdpDescriptor> packets)
    {
        TxRing tx = _xsk.Tx;
        uint granted = tx.Reserve((uint)packets.Length, out uint index);
        if (granted != packets.Length)
            throw new InvalidOperationException("The TX ring has less room than it had.");
        for (int i = 0; i < packets.Length; i++)
            tx[unchecked(index + (uint)i)] = packets[i];
        if (granted > 0)
            tx.Submit(granted);
    }

    void ITransmitRing.Completed(in XdpDescriptor packet) =>
        Frames.Completed(Frames.FromAddress(packet.Address, out _));

    bool ITransmitRing.TryEmpty()
    {
        Kick();
        return _xsk.Tx.Pending == 0;
    }

    /// <summary>Has the kernel send what is on TX.</summary>
    internal void Kick()
    {
        if (Failure is not null)
            return;
        if (_xsk.Tx.Pending == 0)
        {
            MustKickAgain = false;
            return;
        }
        _counters.Kicks++;
        KickStatus status = _xsk.Kick();
        // In zero copy the device takes packets in its own time: a ring that is still full is one to come back to, not
        // one to spin on.
        MustKickAgain = status != KickStatus.Ok || _xsk.Tx.Free == 0;
        _linkDown = status == KickStatus.LinkDown;
        if (status == KickStatus.Ok)
            return;
        _counters.KickFailures++;
        if (status is KickStatus.DeviceGone)
            Failure = "the device is gone";
        else if (status is KickStatus.Stuck)
            Failure = $"the kernel refuses a packet (errno {_xsk.LastKickErrno})";
    }

    public void Dispose()
    {
        _chain.Clear();
        _runs.Dispose();
        _xsk.Dispose();
    }

    // False when the ring is full, or as much has gone past it as it takes.
    private bool FillTransmitRing(TcpStack stack, IQueueOwner owner, Instant now)
    {
        TxRing tx = _xsk.Tx;
        int byKernel = 0, past = 0;
        while (byKernel < MostByKernel && past < tx.Size && (int)Math.Min(tx.Free, EmitBatch) is > 0 and int room)
        {
            int count = stack.Emit(_packets.AsSpan(0, room), now);
            int onLink = 0;
            for (int i = 0; i < count; i++)
            {
                ref TxPacket packet = ref _packets[i];
                _counters.BytesSent += packet.Length;
                if (packet.LinkHeaderLength == 0)
                {
                    byKernel++;
                    SendByKernel(packet, owner);
                }
                else
                {
                    _descriptors[onLink++] = new XdpDescriptor
                    {
                        Address = Frames.AddressOf(packet.Frame, packet.Start),
                        Length = (uint)packet.Length,
                    };
                }
                packet.Frame = null!;
            }
            past += _runs.Send(_descriptors.AsSpan(0, onLink));
            _counters.PacketsSent += count;
            if (count < room)
                return true;
        }
        return false;
    }

    private void SendByKernel(in TxPacket packet, IQueueOwner owner)
    {
        _counters.SentByKernel++;
        if (!owner.SendByKernel(packet.Frame.Span.Slice(packet.Start, packet.Length)))
            _counters.SentByKernelDropped++;
        Frames.Completed(packet.Frame);
    }

    // The kernel says something that cannot be: no byte of the frames is to be trusted any more.
    private void FailFast(in XdpDescriptor descriptor) => Environment.FailFast(
        $"Kestrel.Transport.Xdp: {_settings.InterfaceName}, queue {_settings.QueueId}: a packet of {descriptor.Length} "
        + $"bytes at 0x{descriptor.Address:x} does not lie in one frame. "
        + $"Frames by state: {string.Join(' ', Frames.CountByState())}");
}

using Xdp.Sockets;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal;

// The stages of a turn. Nothing here allocates per packet, blocks, or runs application code outside of Deliver.
internal sealed partial class XdpQueue
{
    // Packets a turn receives before it answers: one to two hundred microseconds of work.
    private const int ReceiveBudget = 256;

    // Segments written between two looks at the TX ring.
    private const int EmitBatch = 64;

    // The kernel had no room for a packet; nothing tells when it has.
    private static readonly TimeSpan KickAgainAfter = TimeSpan.FromMicroseconds(200);
    private static readonly TimeSpan KickAgainAfterLinkDown = TimeSpan.FromMilliseconds(20);

    // Rounds of emit and kick in a turn when the TX ring is full in between.
    private const int EmitRounds = 8;

    private readonly TxPacket[] _packets = new TxPacket[EmitBatch];
    private Instant _now;
    private long _turnStarted;
    private long _timerDebt = -1;
    private readonly List<XdpConnection> _undelivered = [];
    private int _delivered;
    private bool _emitPending;
    private bool _kickAgain;
    private bool _linkDown;
    private bool _fillStarved;

    /// <summary>Runs a turn. The caller has the token.</summary>
    TurnReport ITurns.Run(TurnKind kind)
    {
        _delivered = 0;
        if (_closed)
        {
            ApplyAfterClose();
            return default;
        }
        Turn(kind);
        if (_closed)
            return default;
        return new TurnReport
        {
            Now = _now,
            DueAt = DueAt(),
            Delivered = _delivered,
            RxWaiting = _xsk.Rx.Available > 0,
            MustKickAgain = _kickAgain,
            HasConnections = _stack.ConnectionCount > 0,
        };
    }

    private void Turn(TurnKind kind)
    {
        _now = Clock.Now;
        Volatile.Write(ref _turnStarted, _now.Ticks);
        Counters.Turns++;
        if (kind == TurnKind.Pool)
            Counters.PoolTurns++;
        else if (kind == TurnKind.Poster)
            Counters.PosterTurns++;
        try
        {
            ReapCompletions();
            if (kind != TurnKind.Poster)
            {
                uint waiting = _xsk.Rx.Available;
                RefillFill();
                Receive(Math.Min(waiting, ReceiveBudget));
                ReceiveMoved();
                RunTimers(waiting);
            }
            ApplyDirty();
            TakeReady();
            Deliver(kind);
            ApplyDirty();
            Emit();
            RefillFill();
            Kick();
            if (_closed)
                return;
            // Sending makes room for writers that wait: they are told now, not at the next packet. What they write is for the next turn.
            TakeReady();
            Deliver(kind);
        }
        catch (Exception e)
        {
            Fail(e);
        }
        finally
        {
            Volatile.Write(ref _turnStarted, 0);
        }
    }

    // When the queue wants the next turn, if nothing happens before.
    private Instant DueAt()
    {
        if ((_emitPending && !_kickAgain) || _undelivered.Count > 0)
            return _now;
        Instant due = _stack.NextDeadline;
        if (_kickAgain || _stack.WantsToEmit)
            due = Instant.Min(due, _now + (_linkDown ? KickAgainAfterLinkDown : KickAgainAfter));
        return due;
    }

    private void ReapCompletions()
    {
        uint count = _xsk.Completion.Peek(uint.MaxValue, out uint index);
        for (uint i = 0; i < count; i++)
            _frames.Completed(_frames.FromAddress(_xsk.Completion[unchecked(index + i)], out _));
        if (count > 0)
            _xsk.Completion.Release(count);
    }

    private void RefillFill(bool all = false)
    {
        FillRing fill = _xsk.Fill;
        int wanted = Settings.FillTarget - (int)fill.Pending;
        // A few at a time would cost a pass over the pool for each packet.
        if (wanted < (all ? 1 : Math.Min(32, Settings.FillTarget / 8)))
        {
            _fillStarved = false;
            return;
        }
        uint granted = fill.Reserve((uint)wanted, out uint index);
        uint filled = 0;
        while (filled < granted && _frames.TryTakeForFill() is { } frame)
        {
            fill[unchecked(index + filled)] = _frames.AddressOf(frame, 0);
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
        // With FILL empty no packet comes that could wake anybody: those who give frames back must.
        Volatile.Write(ref _fillStarved, fill.Pending < Settings.FillTarget / 4);
    }

    private void Receive(uint count)
    {
        if (count == 0)
            return;
        RxRing rx = _xsk.Rx;
        count = rx.Peek(count, out uint index);
        for (uint i = 0; i < count; i++)
        {
            ref readonly XdpDescriptor descriptor = ref rx[unchecked(index + i)];
            Block frame = _frames.FromAddress(descriptor.Address, out int start);
            int length = (int)descriptor.Length;
            if ((uint)length > (uint)(QueueSettings.FrameSize - start))
                FailFast($"a packet of {length} bytes at 0x{descriptor.Address:x} does not lie in one frame");
            Counters.BytesReceived += length;
            _frames.Received(frame);
            switch (_stack.Receive(frame, start, length, _now, out FlowKey flow))
            {
                case ReceiveResult.Done:
                    frame.Return();
                    break;
                case ReceiveResult.UnknownFlow:
                    PassOn(frame, start, length, flow, visited: 1);
                    break;
            }
        }
        rx.Release(count);
        Counters.PacketsReceived += count;
    }

    // A deadline counts once everything has been received that had arrived when it was found due: what a pause of this process kept from
    // being received must not look lost.
    private void RunTimers(uint waitingBefore)
    {
        if (_stack.NextDeadline > _now)
        {
            _timerDebt = -1;
            return;
        }
        _timerDebt = (_timerDebt < 0 ? waitingBefore : _timerDebt) - Math.Min(waitingBefore, ReceiveBudget);
        if (_timerDebt > 0)
            return;
        _timerDebt = -1;
        _stack.OnDeadline(_now);
    }

    private void ApplyDirty()
    {
        XdpConnection? connection = _dirty.TakeAll();
        while (connection is not null)
        {
            // Once its work is taken the connection may be pushed again, by anybody.
            XdpConnection? next = connection.Work.NextDirty;
            connection.Work.NextDirty = null;
            connection.ApplyWork(connection.TakeWork());
            _undelivered.Add(connection);
            connection = next;
        }
    }

    private void TakeReady()
    {
        while (_stack.TryAccept(out TcpConnection? accepted))
            Accept(accepted);
        while (_stack.TryTakeReady(out TcpConnection? ready))
        {
            TcpEvents events = ready.TakeEvents();
            // Connections that ended before they were accepted have no host's side.
            if (ready.Owner is not XdpConnection connection)
                continue;
            connection.OnEvents(events);
            _undelivered.Add(connection);
            if ((events & TcpEvents.PathSuspect) != 0)
                SuspectPath(connection);
            if ((events & TcpEvents.Closed) != 0)
                Ended(connection);
            else if ((events & TcpEvents.AllAcknowledged) != 0 && ready.State == TcpState.FinWait2)
                Delivered(connection);
        }
    }

    // The stack is not on the call stack here: inline application code may do as it likes. Inline means on the worker, so another thread leaves it to
    // the worker.
    private void Deliver(TurnKind kind)
    {
        if (_undelivered.Count == 0 || (Settings.Inline && kind != TurnKind.Worker))
            return;
        foreach (XdpConnection connection in _undelivered)
        {
            if (connection.Deliver())
                _delivered++;
        }
        _undelivered.Clear();
        if (Settings.Inline)
            _now = Clock.Now;
    }

    private void Emit()
    {
        TxRing tx = _xsk.Tx;
        for (int round = 0; round < EmitRounds; round++)
        {
            while (true)
            {
                uint room = tx.Reserve(EmitBatch, out uint index);
                if (room == 0)
                    break;
                int count = _stack.Emit(_packets.AsSpan(0, (int)room), _now);
                for (int i = 0; i < count; i++)
                {
                    ref TxPacket packet = ref _packets[i];
                    tx[unchecked(index + (uint)i)] = new XdpDescriptor { Address = _frames.AddressOf(packet.Frame, packet.Start), Length = (uint)packet.Length };
                    Counters.BytesSent += packet.Length;
                    packet.Frame = null!;
                }
                if (count < room)
                    tx.Cancel(room - (uint)count);
                if (count > 0)
                    tx.Submit((uint)count);
                Counters.PacketsSent += count;
                if (count < room)
                {
                    _emitPending = false;
                    return;
                }
            }
            // The ring is full: let the kernel take it, then go on.
            Kick();
            ReapCompletions();
            if (_kickAgain || _closed)
                break;
        }
        _emitPending = !_closed;
    }

    private void Kick()
    {
        if (_xsk.Tx.Pending == 0)
        {
            _kickAgain = false;
            return;
        }
        Counters.Kicks++;
        KickStatus status = _xsk.Kick();
        // In zero copy the device takes packets in its own time: a ring that is still full is one to come back to, not one to spin on.
        _kickAgain = status != KickStatus.Ok || _xsk.Tx.Free == 0;
        _linkDown = status == KickStatus.LinkDown;
        if (status == KickStatus.Ok)
            return;
        Counters.KickFailures++;
        if (status is KickStatus.DeviceGone)
            Fail("the device is gone");
        else if (status is KickStatus.Stuck)
            Fail($"the kernel refuses a packet (errno {_xsk.LastKickErrno})");
    }
}

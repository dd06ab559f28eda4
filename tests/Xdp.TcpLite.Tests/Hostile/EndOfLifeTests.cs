namespace Xdp.TcpLite.Tests.Hostile;

/// <summary>
/// Who owns a connection's bytes at its end: every way to end, in every state, wherever the bytes lie. When it is over,
/// the stack has none of them.
/// </summary>
public class EndOfLifeTests
{
    private static readonly TimeSpan s_longerThanAnyTimer = TimeSpan.FromHours(2);

    /// <summary>Where bytes lie when the connection ends.</summary>
    [Flags]
    public enum Data
    {
        None = 0,

        /// <summary>
        /// Received in order, not taken by the application: one payload that stays in its frame, and a small one.
        /// </summary>
        Received = 1,

        /// <summary>Received ahead of a gap.</summary>
        Ahead = 2,

        /// <summary>Taken by the application, which returns it after the end.</summary>
        Taken = 4,

        /// <summary>Sent, and not acknowledged.</summary>
        Sent = 8,

        /// <summary>Sent, and the driver has not reported that it is done with the frame.</summary>
        InKernel = 16,

        /// <summary>Written, and not sent, for want of a window.</summary>
        Unsent = 32,

        /// <summary>
        /// Being written by the application, into a frame that it never flushes and returns after the end.
        /// </summary>
        Writing = 64,
    }

    /// <summary>How it ends.</summary>
    public enum End
    {
        /// <summary>The application aborts.</summary>
        Abort,

        /// <summary>The application closes, and then aborts.</summary>
        CloseThenAbort,

        /// <summary>The application shuts down, and then aborts.</summary>
        ShutdownThenAbort,

        /// <summary>More data arrives in the turn in which the application aborts.</summary>
        DataThenAbort,

        /// <summary>The application closes, and the peer says nothing any more.</summary>
        Close,

        /// <summary>The application closes, and the peer goes on sending until its connection is gone.</summary>
        CloseThenData,

        /// <summary>The application closes, and the peer sends until its connection is reset for that.</summary>
        CloseThenTooMuchData,

        /// <summary>The application closes, and there are too many such connections.</summary>
        CloseUnderPressure,

        /// <summary>The peer resets.</summary>
        PeerReset,

        /// <summary>The peer is silent. A time-out ends the connection: retransmission, persist or keepalive.</summary>
        TimeOut,
    }

    public static TheoryData<TcpState, End, bool> Cases()
    {
        var cases = new TheoryData<TcpState, End, bool>();
        foreach (TcpState state in s_states)
        {
            foreach (End end in Enum.GetValues<End>())
            {
                cases.Add(state, end, false);
                cases.Add(state, end, true);
            }
        }
        return cases;
    }

    private static readonly TcpState[] s_states =
    [
        TcpState.SynSent, TcpState.SynReceived, TcpState.Established, TcpState.FinWait1, TcpState.FinWait2,
        TcpState.CloseWait, TcpState.Closing, TcpState.LastAck,
    ];

    [Theory]
    [MemberData(nameof(Cases))]
    public void Ended_WithBytesAnywhere_AllAreHome(TcpState state, End end, bool forceHeap)
    {
        foreach (Data data in Places(state))
            new Scene(state, end, data, forceHeap).Play();
    }

    /// <summary>Every combination of places that the state can have.</summary>
    private static IEnumerable<Data> Places(TcpState state)
    {
        // Where our FIN has been acknowledged, so is all that was sent before it.
        bool sends = state is TcpState.Established or TcpState.CloseWait or TcpState.FinWait1 or TcpState.Closing
            or TcpState.LastAck;
        bool receives = state is not (TcpState.SynSent or TcpState.SynReceived);
        // With a gap, the peer's FIN would not count.
        bool hasGap = state is TcpState.Established or TcpState.FinWait1 or TcpState.FinWait2;
        // Our FIN goes out behind the last byte.
        bool keepsUnsent = state is TcpState.SynSent or TcpState.SynReceived or TcpState.Established
            or TcpState.CloseWait;
        for (Data data = Data.None; data < (Data)128; data++)
        {
            if (!receives && (data & (Data.Received | Data.Taken)) != 0)
                continue;
            if (!hasGap && (data & Data.Ahead) != 0)
                continue;
            if (!sends && (data & (Data.Sent | Data.InKernel)) != 0)
                continue;
            if (!keepsUnsent && (data & Data.Unsent) != 0)
                continue;
            yield return data;
        }
    }

    /// <summary>One connection, brought into its state with bytes where they are wanted, and to its end.</summary>
    private sealed class Scene
    {
        private readonly Rig _rig;
        private readonly Peer _peer;
        private readonly TcpState _state;
        private readonly End _end;
        private readonly Data _data;
        private readonly string _name;
        private TcpConnection _connection = null!;
        private BlockQueue _taken;
        private Block? _writing;

        internal Scene(TcpState state, End end, Data data, bool forceHeap)
        {
            (_state, _end, _data) = (state, end, data);
            _name = $"{state}, {end}, {data}, heap {forceHeap}";
            _rig = new Rig(new TcpStackOptions
            {
                ForceHeap = forceHeap,
                KeepAlive = TimeSpan.FromMinutes(1),
                UserTimeout = TimeSpan.FromMinutes(5),
                AfterCloseBytes = 5000,
                MaxOrphans = end == End.CloseUnderPressure ? 0 : 10,
            });
            _peer = new Peer(_rig);
        }

        internal void Play()
        {
            Begin();
            if (Has(Data.Writing))
                _writing = _rig.Host.Frames.TryTakeForWriting();
            PlaceReceived();
            PlaceSent();
            EnterState();
            Assert.True(_connection.State == _state, $"{_name}: got to {_connection.State}");
            Finish();
            ReturnTheApplications();
            _rig.Host.Complete(0);
            _rig.Advance(s_longerThanAnyTimer);
            _rig.Host.Complete(0);
            Assert.Equal((0, 0L), (_rig.Stack.OrphanCount, _rig.Stack.OrphanMemory));
            Assert.True(
                _rig.Host.Outstanding == 0,
                $"{_name}: {_rig.Host.Outstanding} frames and blocks are not home; "
                + string.Join(' ', _rig.Host.Frames.CountByState()));
            _rig.AssertEmpty();
        }

        private bool Has(Data data) => (_data & data) != 0;

        private void Begin()
        {
            if (_state is not (TcpState.SynSent or TcpState.SynReceived))
            {
                _connection = _peer.Connect();
                return;
            }
            _connection = _peer.Open();
            if (_state == TcpState.SynReceived)
            {
                // A simultaneous open.
                _peer.Send(_peer.Syn());
                _peer.Nxt = _peer.Iss + 1;
                _peer.Ack = _connection.SndUna + 1;
            }
        }

        private void PlaceReceived()
        {
            int next = 0;
            if (Has(Data.Taken))
            {
                _peer.Data(next, next += 1000);
                _taken = _connection.TakeReceived(long.MaxValue);
            }
            if (Has(Data.Received))
            {
                _peer.Data(next, next += 1200);
                _peer.Data(next, next += 10);
            }
            _peer.Nxt = _peer.Iss + 1 + next;
            if (Has(Data.Ahead))
            {
                _peer.Data(next + 100, next + 1300);
                _peer.Data(next + 1400, next + 1410);
            }
        }

        private void PlaceSent()
        {
            if (Has(Data.Sent))
                _peer.Write(3000);
            if (Has(Data.InKernel))
            {
                Write(3000);
                _rig.Host.Emit(_rig.Now, static _ => { });
            }
            if (!Has(Data.Unsent))
                return;
            if (_state is not (TcpState.SynSent or TcpState.SynReceived))
            {
                _peer.Window = 0;
                _peer.Send(_peer.Fields(TcpFlags.Ack));
                _peer.Ack = _connection.SndNxt;
            }
            Write(3000);
        }

        private void Write(int count)
        {
            BlockQueue data = default;
            for (int i = 0; i < count / 1000; i++)
            {
                // Frames that were written into, as a host's writers give them, and heap blocks.
                Block block = (i % 2 == 0 ? _rig.Host.Frames.TryTakeForWriting() : null) ?? _rig.Host.Blocks.Take();
                block.Length = 1000;
                data.Enqueue(block);
            }
            _connection.Write(ref data);
        }

        private void EnterState()
        {
            switch (_state)
            {
                case TcpState.FinWait1:
                    Shutdown();
                    break;
                case TcpState.FinWait2:
                    Shutdown();
                    _peer.AckUpTo(_connection.SndNxt);
                    break;
                case TcpState.CloseWait:
                    PeerCloses();
                    break;
                case TcpState.Closing:
                    Shutdown();
                    PeerCloses();
                    break;
                case TcpState.LastAck:
                    PeerCloses();
                    Shutdown();
                    break;
            }
        }

        private void Shutdown()
        {
            _connection.Shutdown();
            Emit();
        }

        private void PeerCloses()
        {
            _peer.Send(_peer.Fields(TcpFlags.Fin | TcpFlags.Ack) with { Ack = _connection.SndUna });
            _peer.Nxt += 1;
        }

        private void Finish()
        {
            switch (_end)
            {
                case End.Abort:
                    _connection.Abort();
                    break;
                case End.CloseThenAbort:
                    _connection.Close();
                    Emit();
                    _connection.Abort();
                    break;
                case End.ShutdownThenAbort:
                    _connection.Shutdown();
                    Emit();
                    _connection.Abort();
                    break;
                case End.DataThenAbort:
                    SegmentFields more = _peer.Fields(TcpFlags.Ack) with { Ack = _connection.SndUna };
                    _rig.DeliverSilently(_peer.Build(more, new byte[1400]));
                    _connection.Abort();
                    break;
                case End.Close:
                    _connection.Close();
                    break;
                case End.CloseThenData:
                    _connection.Close();
                    for (int i = 0; i < 10; i++)
                    {
                        _peer.Send(_peer.Fields(TcpFlags.Ack) with { Ack = _connection.SndUna }, new byte[1400]);
                        _peer.Nxt += 1400;
                    }
                    break;
                case End.CloseThenTooMuchData:
                    _connection.Close();
                    for (int i = 0; i < 10 && _connection.State != TcpState.Closed; i++)
                    {
                        _peer.Send(_peer.Fields(TcpFlags.Ack) with { Ack = _connection.SndUna }, new byte[1400]);
                        _peer.Nxt += 1400;
                    }
                    _rig.Advance(TimeSpan.FromSeconds(30));
                    break;
                case End.CloseUnderPressure:
                    _connection.Close();
                    Assert.Equal((TcpState.Closed, 1L), (_connection.State, _rig.Counters.OrphansReset));
                    break;
                case End.PeerReset:
                    SeqNumber ack = _state == TcpState.SynSent ? _connection.SndNxt : _connection.SndUna;
                    _peer.Send(_peer.Fields(TcpFlags.Rst | TcpFlags.Ack) with { Ack = ack });
                    break;
                case End.TimeOut:
                    _rig.Advance(s_longerThanAnyTimer);
                    break;
            }
            Emit();
        }

        private void Emit()
        {
            if (Has(Data.InKernel))
                _rig.Host.Emit(_rig.Now, static _ => { });
            else
                _rig.Emit();
        }

        private void ReturnTheApplications()
        {
            _taken.ReturnAll();
            _writing?.Return();
        }
    }
}

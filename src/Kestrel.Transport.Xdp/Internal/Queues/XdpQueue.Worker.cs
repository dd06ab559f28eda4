using Xdp.Sockets;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal;

// Who runs turns, and when: the worker's loop and sleep, and the threads that find it asleep.
internal sealed partial class XdpQueue
{
    // A thread other than the worker arms timers while the worker sleeps. It wakes the worker only for those that come before the end of its sleep,
    // and this bound makes that rare: delayed ACKs (40 ms) aside, no timer of a connection is shorter than 200 ms.
    private static readonly TimeSpan LongestSleep = TimeSpan.FromMilliseconds(30);

    // Without connections only the accept path arms timers, and that runs on the worker.
    private static readonly TimeSpan LongestIdleSleep = TimeSpan.FromSeconds(1);

    // The kernel had no room for a packet; nothing tells when it has.
    private static readonly TimeSpan KickAgainAfter = TimeSpan.FromMicroseconds(200);
    private static readonly TimeSpan KickAgainAfterLinkDown = TimeSpan.FromMilliseconds(20);

    // Turns in a row that a thread other than the worker runs before it leaves the rest to the worker.
    private const int PosterPasses = 2;

    private long _wakesAt;
    private long _lastWork;

    /// <summary>Any thread. The connection's work word went from zero to something.</summary>
    public override void Post(XdpConnection connection)
    {
        _dirty.Push(connection);
        if (_token.IsMine)
            return;
        bool last = _gatherer.Answered();
        switch (_gate.State)
        {
            case WorkerState.Awake:
                // It looks at the list before it sleeps. When it is closed nobody does.
                if (_closed)
                    RunTurns(TurnKind.Transmit);
                break;
            case WorkerState.Gathering:
                if (last || _gatherer.Outstanding <= 0)
                    RunTurns(TurnKind.Full);
                break;
            case WorkerState.Sleeping:
                RunTurns(TurnKind.Transmit);
                break;
        }
    }

    /// <summary>Any thread. The application gave frames back.</summary>
    public override void FramesReturned()
    {
        if (Volatile.Read(ref _fillStarved) && _gate.State != WorkerState.Awake)
            _gate.Signal();
    }

    private void RunTurns(TurnKind kind)
    {
        for (int pass = 1; ; pass++)
        {
            // Whoever has the token looks at the list once more after giving it back.
            if (!_token.TryEnter())
                return;
            bool wake;
            try
            {
                Turn(kind);
                wake = !_closed && WorkerIsNeeded(kind);
            }
            finally
            {
                _token.Exit();
            }
            WorkerState state = _gate.State;
            if (wake && state != WorkerState.Awake)
                _gate.Signal();
            bool more = !_dirty.IsEmpty && (state != WorkerState.Gathering || _gatherer.Outstanding <= 0);
            if (!more || (state == WorkerState.Awake && !_closed))
                return;
            if (pass == PosterPasses)
            {
                _gate.Signal();
                return;
            }
        }
    }

    // In a turn that is not the worker's: is there anything that only the sleeping worker will do?
    private bool WorkerIsNeeded(TurnKind kind)
    {
        if (_kickAgain || _emitPending || _undelivered.Count > 0 || _stack.NextDeadline.Ticks < Volatile.Read(ref _wakesAt))
            return true;
        // It does not watch RX while it gathers. With answers outstanding the last of them looks there.
        return kind == TurnKind.Full && _gatherer.Outstanding <= 0;
    }

    private void Work()
    {
        CurrentThread.TrySetTimerSlack(TimeSpan.FromMicroseconds(1));
        while (!_stopping && !_closed)
        {
            WorkerState sleep;
            TimeSpan wait;
            _token.Enter();
            try
            {
                Turn(TurnKind.Worker);
                sleep = PlanSleep(out wait);
            }
            finally
            {
                _token.Exit();
            }
            if (sleep != WorkerState.Awake)
                Sleep(sleep, wait);
        }
    }

    // In the worker's turn, at its end.
    private WorkerState PlanSleep(out TimeSpan wait)
    {
        wait = default;
        if (_closed || _undelivered.Count > 0 || _xsk.Rx.Available > 0 || (_emitPending && !_kickAgain))
            return WorkerState.Awake;

        TimeSpan untilDeadline = _stack.NextDeadline == Instant.Never ? LongestIdleSleep : _stack.NextDeadline - Clock.Now;
        if (untilDeadline <= TimeSpan.Zero)
            return WorkerState.Awake;

        if (Settings.BusySpin > TimeSpan.Zero)
        {
            if (_delivered > 0 || !_dirty.IsEmpty)
                _lastWork = _now.Ticks;
            if (_now.Ticks - _lastWork < Settings.BusySpin.Ticks)
                return WorkerState.Awake;
        }

        if (!Settings.Inline && !_kickAgain && _gatherer.Wants(_delivered))
        {
            wait = AnswerGatherer.WaitFor(untilDeadline);
            return WorkerState.Gathering;
        }

        wait = _stack.ConnectionCount > 0 ? LongestSleep : LongestIdleSleep;
        if (_kickAgain)
            wait = _linkDown ? KickAgainAfterLinkDown : KickAgainAfter;
        if (untilDeadline < wait)
            wait = untilDeadline;
        return WorkerState.Sleeping;
    }

    private void Sleep(WorkerState kind, TimeSpan wait)
    {
        Volatile.Write(ref _wakesAt, Clock.Now.Ticks + wait.Ticks);
        _gate.Announce(kind);
        bool gathering = kind == WorkerState.Gathering;
        if (!HasWork(gathering))
        {
            if (gathering)
            {
                _gatherer.Wait(_gate.Event, wait);
            }
            else
            {
                _xsk.Wait(_gate.Event, wait);
            }
            Counters.Wakes++;
        }
        _gate.Woke();
    }

    // What others publish. RX is not among it: waiting looks at it.
    private bool HasWork(bool gathering) =>
        _stopping
        || (!_dirty.IsEmpty && (!gathering || _gatherer.Outstanding <= 0))
        || !_moved.IsEmpty
        || (Volatile.Read(ref _fillStarved) && _frames.FreeCount > 0);
}

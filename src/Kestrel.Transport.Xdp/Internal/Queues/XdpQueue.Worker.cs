using Xdp.Sockets;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal;

// Who runs turns, and when: the worker's loop and sleep, and the threads that find it asleep.
internal sealed partial class XdpQueue
{
    // A thread other than the worker arms timers while the worker sleeps. It wakes the worker only for those that come before the end of its sleep,
    // and this bound makes that rare: delayed ACKs (40 ms) aside, no timer of a connection is shorter than 200 ms.
    private static readonly TimeSpan LongestSleep = TimeSpan.FromMilliseconds(30);

    // Without connections no other thread has a reason to run a turn.
    private static readonly TimeSpan LongestIdleSleep = TimeSpan.FromSeconds(1);

    // The kernel had no room for a packet; nothing tells when it has.
    private static readonly TimeSpan KickAgainAfter = TimeSpan.FromMicroseconds(200);
    private static readonly TimeSpan KickAgainAfterLinkDown = TimeSpan.FromMilliseconds(20);

    // Turns in a row that a thread other than the worker runs before it leaves the rest to the worker.
    private const int PosterPasses = 2;

    // Written by the worker with the token: until when it will sleep, or the past.
    private Instant _wakesAt;
    private long _lastWork;

    /// <summary>Any thread. The connection's work word went from zero to something.</summary>
    public override void Post(XdpConnection connection)
    {
        _dirty.Push(connection);
        if (_token.IsMine)
            return;
        if (_gate.State == WorkerState.Awake)
        {
            // It looks at the list before it sleeps. When it has ended nobody does.
            if (_closed)
                RunTurns(TurnKind.Transmit);
            return;
        }
        // An application that was just given something is not done before it waits again; the sleep is short until then.
        if (!_gatherer.IsAwaited(ref connection.Work.Awaited))
            RunTurns(TurnKind.Transmit);
    }

    /// <summary>Any thread. The application waits for the connection.</summary>
    public override void ApplicationWaits(XdpConnection connection)
    {
        bool last = _gatherer.Answered(ref connection.Work.Awaited);
        if (_token.IsMine)
            return;
        switch (_gate.State)
        {
            case WorkerState.Gathering:
                if (last)
                    RunTurns(TurnKind.Full);
                break;
            case WorkerState.Sleeping:
                if (!_dirty.IsEmpty)
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
                // A sleeping worker watches RX itself, and might sleep long: nothing is delivered that would be awaited.
                Turn(_gate.State == WorkerState.Sleeping ? TurnKind.Transmit : kind);
                wake = !_closed && WorkerIsNeeded();
            }
            finally
            {
                _token.Exit();
            }
            if (wake)
                _gate.Signal();
            WorkerState state = _gate.State;
            if (state == WorkerState.Awake && !_closed)
                return;
            if (_dirty.IsEmpty || (state == WorkerState.Gathering && _gatherer.Outstanding > 0))
                return;
            if (pass == PosterPasses)
            {
                _gate.Signal();
                return;
            }
        }
    }

    // After a turn that was not the worker's: is there anything that only the worker will do, and that its sleep is too long for?
    private bool WorkerIsNeeded()
    {
        Instant due = DueAt();
        if (_gatherer.Outstanding > 0)
            due = Instant.Min(due, _now + AnswerGatherer.Patience);
        else if (_gate.State == WorkerState.Gathering)
            // It does not watch RX, and nobody who would is on the way.
            return true;
        return due < _wakesAt;
    }

    // In a turn: when the queue wants the next one, if nothing happens before.
    private Instant DueAt()
    {
        if ((_emitPending && !_kickAgain) || _undelivered.Count > 0)
            return _now;
        Instant due = _stack.NextDeadline;
        if (_kickAgain || _stack.WantsToEmit)
            due = Instant.Min(due, _now + (_linkDown ? KickAgainAfterLinkDown : KickAgainAfter));
        return due;
    }

    private void Work()
    {
        CurrentThread.TrySetTimerSlack(TimeSpan.FromMicroseconds(1));
        while (!_stopping && !_closed)
        {
            WorkerState sleep;
            _token.Enter();
            try
            {
                _wakesAt = default;
                JudgeSleep();
                Turn(TurnKind.Worker);
                sleep = PlanSleep();
            }
            finally
            {
                _token.Exit();
            }
            if (sleep != WorkerState.Awake)
                Sleep(sleep);
        }
    }

    private WorkerState _slept;
    private bool _answered;

    // With the token: whom to await is the turn's to change.
    private void JudgeSleep()
    {
        if (_slept == WorkerState.Gathering)
            _gatherer.Ended(_answered);
        else if (_slept == WorkerState.Sleeping && !_answered && _gatherer.Outstanding > 0)
            _gatherer.GiveUp();
        _slept = WorkerState.Awake;
    }

    // In the worker's turn, at its end. Who runs a turn after it finds in _wakesAt whether the worker has to be told.
    private WorkerState PlanSleep()
    {
        Instant due = _closed ? default : DueAt();
        if (_closed || due <= _now || _xsk.Rx.Available > 0)
            return WorkerState.Awake;

        if (Settings.BusySpin > TimeSpan.Zero)
        {
            if (_delivered > 0 || !_dirty.IsEmpty)
                _lastWork = _now.Ticks;
            if (_now.Ticks - _lastWork < Settings.BusySpin.Ticks)
                return WorkerState.Awake;
        }

        bool awaits = _gatherer.Outstanding > 0;
        TimeSpan longest = awaits ? AnswerGatherer.Patience : _stack.ConnectionCount > 0 ? LongestSleep : LongestIdleSleep;
        _wakesAt = Instant.Min(due, Clock.Now + longest);
        return awaits && !_kickAgain && _gatherer.Wants() ? WorkerState.Gathering : WorkerState.Sleeping;
    }

    private void Sleep(WorkerState kind)
    {
        Instant until = _wakesAt;
        _gate.Announce(kind);
        TimeSpan wait = until - Clock.Now;
        bool eventSeen = false;
        if (wait > TimeSpan.Zero && !HasWork(kind))
        {
            int answers = _gatherer.Answers;
            WaitResult result = kind == WorkerState.Gathering
                ? _gate.Event.Wait(wait) ? WaitResult.Wake : WaitResult.None
                : _xsk.Wait(_gate.Event, wait);
            eventSeen = (result & WaitResult.Wake) != 0;
            _answered = _gatherer.Answers != answers || result != WaitResult.None;
            _slept = kind;
            Counters.Wakes++;
        }
        _gate.Woke(eventSeen);
    }

    // What others publish. RX is not among it: waiting looks at it. What an awaited connection has flushed can wait for the rest of its answer, and so for the
    // end of this sleep, which is short then.
    private bool HasWork(WorkerState kind) =>
        _stopping
        || _closed
        || (_gatherer.Outstanding <= 0 && (!_dirty.IsEmpty || kind == WorkerState.Gathering))
        || !_moved.IsEmpty
        || (Volatile.Read(ref _fillStarved) && _frames.FreeCount > 0);
}

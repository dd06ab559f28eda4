namespace Xdp.TcpLite;

/// <summary>
/// Deadlines. The connection has one entry in the stack's wheel, at or before the earliest of them; disarming only
/// changes a field, and an entry that fires early finds nothing due and goes back to sleep.
/// </summary>
public sealed partial class TcpConnection
{
    /// <summary>A probe's answer may be delayed by this much when only one segment is in flight (RFC 8985, section 7.2; Linux's maximum delayed ACK).</summary>
    private static readonly TimeSpan s_worstDelayedAck = TimeSpan.FromMilliseconds(200);

    /// <summary>Shorter and the probe would race an ACK that is on its way through a busy host (Linux: two ticks).</summary>
    private static readonly TimeSpan s_minProbeTimeout = TimeSpan.FromMilliseconds(10);

    private Instant _delayedAckDeadline = Instant.Never;
    private Instant _finWait2Deadline = Instant.Never;

    /// <summary>Null while no keepalive is asked for.</summary>
    private KeepAliveTimer? _keepAliveTimer;

    /// <summary>How often the RTO has been doubled since the last RTT sample: an ACK alone, which may be for a retransmission, does not bring it back (Karn).</summary>
    private byte _rtoBackoff;
    private byte _persistBackoff;

    internal void OnDeadline(Instant now)
    {
        if (_delayedAckDeadline <= now)
        {
            _delayedAckDeadline = Instant.Never;
            _stack.Counters.DelayedAcks++;
            AckNow();
        }
        if (_flight.ReorderDeadline <= now)
            OnReorderTimeout(now);
        if (_flight.ProbeDeadline <= now)
            OnProbeTimeout(now);
        if (_flight.RetransmitDeadline <= now)
            OnRetransmitTimeout(now);
        if (_flight.PersistDeadline <= now)
            OnPersistTimeout(now);
        if (_keepAliveTimer is { } keepAlive && keepAlive.Deadline <= now)
            OnKeepAliveTimeout(keepAlive, now);
        if (_finWait2Deadline <= now)
            Finish(TcpEvents.None);
        if (State != TcpState.Closed)
            ScheduleNext();
    }

    private void ScheduleNext()
    {
        Flight flight = _flight;
        Instant next = Instant.Min(Instant.Min(Instant.Min(flight.RetransmitDeadline, flight.ProbeDeadline), Instant.Min(flight.ReorderDeadline, flight.PersistDeadline)),
            Instant.Min(Instant.Min(_delayedAckDeadline, _finWait2Deadline), _keepAliveTimer?.Deadline ?? Instant.Never));
        if (next != Instant.Never)
            _stack.Wheel.Schedule(this, next);
    }

    private void Arm(ref Instant deadline, Instant at)
    {
        deadline = at;
        if (at < WheelDeadline)
            _stack.Wheel.Schedule(this, at);
    }

    private void ArmDelayedAck(Instant now)
    {
        if (_delayedAckDeadline == Instant.Never)
            Arm(ref _delayedAckDeadline, now + _options.DelayedAck);
    }

    private void ArmFinWait2(Instant now) => Arm(ref _finWait2Deadline, now + _options.FinWait2);

    /// <summary>
    /// Arms what waits for the peer: retransmission and tail loss probe while something is in flight, persist while the window is too small
    /// to send what there is.
    /// </summary>
    /// <param name="now">The present.</param>
    /// <param name="restart">The oldest segment in flight is another one than before: its time starts now (RFC 6298, section 5).</param>
    private void ArmLossTimer(Instant now, bool restart)
    {
        Flight flight = _flight;
        if (restart)
            flight.RetransmitBase = now;
        if (SndNxt == SndUna)
        {
            flight.RetransmitDeadline = flight.ProbeDeadline = flight.ReorderDeadline = Instant.Never;
            if (flight.UnsentBytes == 0)
            {
                flight.PersistDeadline = Instant.Never;
                flight.PersistSince = Instant.Never;
            }
            else if (flight.PersistDeadline == Instant.Never && SndWnd < Math.Min(flight.UnsentBytes, _sndMss))
            {
                ArmPersist(now);
            }
            return;
        }
        flight.PersistDeadline = Instant.Never;
        flight.PersistSince = Instant.Never;
        TimeSpan rto = _rtt.Rto(_options, _rtoBackoff);
        Arm(ref flight.RetransmitDeadline, NotAfterUserTimeout(flight.RetransmitBase + rto, flight.FirstUnackedAt, now));
        if (flight.ReorderDeadline != Instant.Never)
            Arm(ref flight.ReorderDeadline, flight.ReorderDeadline);
        bool probes = _negotiated.Sack && _rtt.HasSample && flight.Recovery == Recovery.Open && flight.SackedBytes == 0 && flight.TlpEnd is null && flight.Backoff == 0;
        if (!probes)
        {
            flight.ProbeDeadline = Instant.Never;
            return;
        }
        TimeSpan timeout = 2 * _rtt.Srtt;
        if (flight.Count == 1)
            timeout += s_worstDelayedAck;
        if (timeout < s_minProbeTimeout)
            timeout = s_minProbeTimeout;
        Arm(ref flight.ProbeDeadline, Instant.Min(now + timeout, flight.RetransmitDeadline));
    }

    private void ArmPersist(Instant now)
    {
        if (_flight.PersistSince == Instant.Never)
            _flight.PersistSince = now;
        Arm(ref _flight.PersistDeadline, NotAfterUserTimeout(now + _rtt.Rto(_options, _persistBackoff), _flight.PersistSince, now));
    }

    private Instant NotAfterUserTimeout(Instant at, Instant since, Instant now)
    {
        TimeSpan left = UserTimeout - (at - since);
        return left >= TimeSpan.Zero ? at : Instant.Max(now, at + left);
    }

    private void OnReorderTimeout(Instant now)
    {
        _flight.ReorderDeadline = Instant.Never;
        DetectLoss(now, advanced: false);
        UpdateCongestion(0, advanced: false, now);
        ArmLossTimer(now, restart: false);
        RequestEmit();
    }

    /// <summary>Tail loss probe (RFC 8985, section 7.3): new data if there is any, else the last segment again, so that an ACK tells what is missing.</summary>
    private void OnProbeTimeout(Instant now)
    {
        _flight.ProbeDeadline = Instant.Never;
        if (_flight.Count == 0)
            return;
        if (now - _flight.FirstUnackedAt >= UserTimeout)
        {
            TimeOut();
            return;
        }
        _stack.Counters.TlpProbes++;
        _flight.TlpFlightSize = SndNxt - SndUna;
        bool newData = _flight.UnsentBytes > 0 && SndNxt - SndUna + NextSegmentLength <= SndWnd;
        _flight.TlpIsRetransmission = !newData;
        if (newData)
        {
            _flight.ProbeWithNewData = true;
            _flight.TlpEnd = SndNxt + NextSegmentLength;
        }
        else
        {
            _flight.TlpEnd = SndNxt;
            _flight.FirstRetransmitTsVal = TsNow(now);
            _flight.ProbeTail = true;
        }
        _flight.RetransmitBase = now;
        // When the user timeout is over, that is for the retransmission timer to find, at once.
        Arm(ref _flight.RetransmitDeadline, NotAfterUserTimeout(now + _rtt.Rto(_options, _rtoBackoff), _flight.FirstUnackedAt, now));
        RequestEmit();
    }

    /// <summary>RFC 6298, section 5.4 to 5.7.</summary>
    private void OnRetransmitTimeout(Instant now)
    {
        _flight.RetransmitDeadline = Instant.Never;
        if (State is TcpState.SynSent or TcpState.SynReceived)
        {
            OnSynTimeout(now);
            return;
        }
        if (_flight.Count == 0)
            return;
        if (now - _flight.FirstUnackedAt >= UserTimeout)
        {
            TimeOut();
            return;
        }
        _stack.Counters.RtoFires++;
        if (_flight.Backoff > 0)
            Raise(TcpEvents.PathSuspect);
        bool first = _flight.Recovery != Recovery.Timeout;
        if (first)
        {
            _flight.MayUndo = true;
            _flight.RetransmitsToUndo = 0;
            _flight.FirstRetransmitTsVal = TsNow(now);
        }
        // The second time the same segment times out the window is small already.
        if (_flight.Backoff == 0)
            _congestion.OnRto(SndNxt - SndUna, now);
        else
            _congestion.SetCwnd(_sndMss);
        _flight.Recovery = Recovery.Timeout;
        _flight.RecoveryPoint = SndNxt;
        _flight.TlpEnd = null;
        _flight.DupAcks = 0;
        CheckBlackHole();
        _flight.ProbeWithNewData = false;
        MarkAllLost(now);
        _flight.NoneLostBefore = SndUna;
        _flight.ProbeTail = false;
        _flight.MustRetransmit = true;
        _flight.Backoff = Math.Min(_flight.Backoff + 1, 16);
        _rtoBackoff = (byte)Math.Min(_rtoBackoff + 1, 16);
        ArmLossTimer(now, restart: true);
        RequestEmit();
    }

    private void MarkAllLost(Instant now)
    {
        // A peer that has not acknowledged its first SACKed segment by now has dropped it (RFC 2018, section 8).
        bool reneged = _flight[0].Has(SentFlags.Sacked);
        _flight.LostBytes = 0;
        _flight.RetransmittedBytes = 0;
        if (reneged)
        {
            _flight.SackedBytes = 0;
            _flight.SackedSegments = 0;
        }
        for (int i = 0; i < _flight.Count; i++)
        {
            ref SentSegment segment = ref _flight[i];
            if (reneged && segment.Has(SentFlags.Sacked))
            {
                segment.Flags = (segment.Flags & ~SentFlags.Sacked) | SentFlags.EverRetransmitted;
                segment.SentAt = now;
            }
            segment.Flags &= ~SentFlags.Retransmitted;
            if (segment.Has(SentFlags.Sacked))
                continue;
            segment.Flags |= SentFlags.Lost;
            _flight.LostBytes += segment.SequenceLength;
        }
        _flight.Rack.Reconsider(_flight, SndUna);
    }

    private void OnPersistTimeout(Instant now)
    {
        _flight.PersistDeadline = Instant.Never;
        if (now - _flight.PersistSince >= UserTimeout)
        {
            TimeOut();
            return;
        }
        _probeWindow = SndWnd == 0;
        _flight.TakeAnyWindow = !_probeWindow;
        _persistBackoff = (byte)Math.Min(_persistBackoff + 1, 16);
        ArmPersist(now);
        RequestEmit();
    }

    private void StartKeepAlive(Instant now)
    {
        if (KeepAlive is not { } idle)
        {
            _keepAliveTimer = null;
            return;
        }
        _keepAliveTimer ??= new KeepAliveTimer { HeardAt = now };
        Arm(ref _keepAliveTimer.Deadline, now + idle);
    }

    private void OnKeepAliveTimeout(KeepAliveTimer timer, Instant now)
    {
        if (KeepAlive is not { } idle)
            return;
        timer.Deadline = Instant.Never;
        if (now - timer.HeardAt < idle)
        {
            timer.Probes = 0;
            Arm(ref timer.Deadline, timer.HeardAt + idle);
            return;
        }
        if (timer.Probes == KeepAliveProbes)
        {
            TimeOut();
            return;
        }
        timer.Probes++;
        _probeWindow = true;
        RequestEmit();
        Arm(ref timer.Deadline, now + s_keepAliveInterval);
    }

    /// <summary>Unanswered keepalive probes that are put up with, and the time between them (Linux's defaults).</summary>
    private const int KeepAliveProbes = 9;
    private static readonly TimeSpan s_keepAliveInterval = TimeSpan.FromSeconds(75);

    /// <summary>What only a connection with keepalive needs.</summary>
    private sealed class KeepAliveTimer
    {
        internal Instant Deadline = Instant.Never;
        internal Instant HeardAt;

        /// <summary>Probes since then.</summary>
        internal int Probes;

        internal void Heard(Instant now)
        {
            HeardAt = now;
            Probes = 0;
        }
    }

    private void TimeOut()
    {
        if (State == TcpState.Closed)
            return;
        SendReset();
        Finish(TcpEvents.TimedOut);
    }
}

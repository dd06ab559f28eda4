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

    private Instant _retransmitDeadline = Instant.Never;
    private Instant _probeDeadline = Instant.Never;
    private Instant _reorderDeadline = Instant.Never;
    private Instant _persistDeadline = Instant.Never;
    private Instant _delayedAckDeadline = Instant.Never;
    private Instant _finWait2Deadline = Instant.Never;
    private Instant _keepAliveDeadline = Instant.Never;

    /// <summary>When the oldest unacknowledged segment, or what has replaced it since, began to wait.</summary>
    private Instant _firstUnackedAt;
    private Instant _retransmitBase;

    /// <summary>Back-to-back time-outs.</summary>
    private int _backoff;

    /// <summary>How often the RTO has been doubled since the last RTT sample: an ACK alone, which may be for a retransmission, does not bring it back (Karn).</summary>
    private int _rtoBackoff;
    private int _persistBackoff;
    private Instant _persistSince = Instant.Never;

    /// <summary>End of the tail loss probe that has not been answered.</summary>
    private SeqNumber? _tlpEnd;
    private bool _tlpIsRetransmission;

    /// <summary>Flight when the probe was sent.</summary>
    private long _tlpFlightSize;

    internal void OnDeadline(Instant now)
    {
        if (_delayedAckDeadline <= now)
        {
            _delayedAckDeadline = Instant.Never;
            _stack.Counters.DelayedAcks++;
            AckNow();
        }
        if (_reorderDeadline <= now)
            OnReorderTimeout(now);
        if (_probeDeadline <= now)
            OnProbeTimeout(now);
        if (_retransmitDeadline <= now)
            OnRetransmitTimeout(now);
        if (_persistDeadline <= now)
            OnPersistTimeout(now);
        if (_keepAliveDeadline <= now)
            OnKeepAliveTimeout(now);
        if (_finWait2Deadline <= now)
            Finish(TcpEvents.None);
        if (State != TcpState.Closed)
            ScheduleNext();
    }

    private void ScheduleNext()
    {
        Instant next = Instant.Min(Instant.Min(Instant.Min(_retransmitDeadline, _probeDeadline), Instant.Min(_reorderDeadline, _persistDeadline)),
            Instant.Min(Instant.Min(_delayedAckDeadline, _finWait2Deadline), _keepAliveDeadline));
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
        if (restart)
            _retransmitBase = now;
        if (SndNxt == SndUna)
        {
            _retransmitDeadline = _probeDeadline = _reorderDeadline = Instant.Never;
            if (_send.UnsentBytes == 0)
            {
                _persistDeadline = Instant.Never;
                _persistSince = Instant.Never;
            }
            else if (_persistDeadline == Instant.Never && SndWnd < Math.Min(_send.UnsentBytes, _sndMss))
            {
                ArmPersist(now);
            }
            return;
        }
        _persistDeadline = Instant.Never;
        _persistSince = Instant.Never;
        TimeSpan rto = _rtt.Rto(_options, _rtoBackoff);
        Arm(ref _retransmitDeadline, NotAfterUserTimeout(_retransmitBase + rto, _firstUnackedAt, now));
        if (_reorderDeadline != Instant.Never)
            Arm(ref _reorderDeadline, _reorderDeadline);
        bool probes = _negotiated.Sack && _rtt.HasSample && _recovery == Recovery.Open && _sackedBytes == 0 && _tlpEnd is null && _backoff == 0;
        if (!probes)
        {
            _probeDeadline = Instant.Never;
            return;
        }
        TimeSpan timeout = 2 * _rtt.Srtt;
        if (_send.Count == 1)
            timeout += s_worstDelayedAck;
        if (timeout < s_minProbeTimeout)
            timeout = s_minProbeTimeout;
        Arm(ref _probeDeadline, Instant.Min(now + timeout, _retransmitDeadline));
    }

    private void ArmPersist(Instant now)
    {
        if (_persistSince == Instant.Never)
            _persistSince = now;
        Arm(ref _persistDeadline, NotAfterUserTimeout(now + _rtt.Rto(_options, _persistBackoff), _persistSince, now));
    }

    private Instant NotAfterUserTimeout(Instant at, Instant since, Instant now)
    {
        TimeSpan left = UserTimeout - (at - since);
        return left >= TimeSpan.Zero ? at : Instant.Max(now, at + left);
    }

    private void OnReorderTimeout(Instant now)
    {
        _reorderDeadline = Instant.Never;
        DetectLoss(now, advanced: false);
        UpdateCongestion(0, advanced: false, now);
        ArmLossTimer(now, restart: false);
        RequestEmit();
    }

    /// <summary>Tail loss probe (RFC 8985, section 7.3): new data if there is any, else the last segment again, so that an ACK tells what is missing.</summary>
    private void OnProbeTimeout(Instant now)
    {
        _probeDeadline = Instant.Never;
        if (_send.Count == 0)
            return;
        if (now - _firstUnackedAt >= UserTimeout)
        {
            TimeOut();
            return;
        }
        _stack.Counters.TlpProbes++;
        _tlpFlightSize = SndNxt - SndUna;
        bool newData = _send.UnsentBytes > 0 && SndNxt - SndUna + NextSegmentLength <= SndWnd;
        _tlpIsRetransmission = !newData;
        if (newData)
        {
            _probeWithNewData = true;
            _tlpEnd = SndNxt + NextSegmentLength;
        }
        else
        {
            _tlpEnd = SndNxt;
            _firstRetransmitTsVal = TsNow(now);
            _probeTail = true;
        }
        _retransmitBase = now;
        // When the user timeout is over, that is for the retransmission timer to find, at once.
        Arm(ref _retransmitDeadline, NotAfterUserTimeout(now + _rtt.Rto(_options, _rtoBackoff), _firstUnackedAt, now));
        RequestEmit();
    }

    /// <summary>RFC 6298, section 5.4 to 5.7.</summary>
    private void OnRetransmitTimeout(Instant now)
    {
        _retransmitDeadline = Instant.Never;
        if (State is TcpState.SynSent or TcpState.SynReceived)
        {
            OnSynTimeout(now);
            return;
        }
        if (_send.Count == 0)
            return;
        if (now - _firstUnackedAt >= UserTimeout)
        {
            TimeOut();
            return;
        }
        _stack.Counters.RtoFires++;
        if (_backoff > 0)
            Raise(TcpEvents.PathSuspect);
        bool first = _recovery != Recovery.Timeout;
        if (first)
        {
            _mayUndo = true;
            _retransmitsToUndo = 0;
            _firstRetransmitTsVal = TsNow(now);
        }
        // The second time the same segment times out the window is small already.
        if (_backoff == 0)
            _congestion.OnRto(SndNxt - SndUna, now);
        else
            _congestion.SetCwnd(_sndMss);
        _recovery = Recovery.Timeout;
        _recoveryPoint = SndNxt;
        _tlpEnd = null;
        _dupAcks = 0;
        CheckBlackHole();
        _probeWithNewData = false;
        MarkAllLost(now);
        _noneLostBefore = SndUna;
        _probeTail = false;
        _mustRetransmit = true;
        _backoff = Math.Min(_backoff + 1, 16);
        _rtoBackoff = Math.Min(_rtoBackoff + 1, 16);
        ArmLossTimer(now, restart: true);
        RequestEmit();
    }

    private void MarkAllLost(Instant now)
    {
        // A peer that has not acknowledged its first SACKed segment by now has dropped it (RFC 2018, section 8).
        bool reneged = _send[0].Has(SentFlags.Sacked);
        _lostBytes = 0;
        _retransmittedBytes = 0;
        if (reneged)
        {
            _sackedBytes = 0;
            _sackedSegments = 0;
        }
        for (int i = 0; i < _send.Count; i++)
        {
            ref SentSegment segment = ref _send[i];
            if (reneged && segment.Has(SentFlags.Sacked))
            {
                segment.Flags = (segment.Flags & ~SentFlags.Sacked) | SentFlags.EverRetransmitted;
                segment.SentAt = now;
            }
            segment.Flags &= ~SentFlags.Retransmitted;
            if (segment.Has(SentFlags.Sacked))
                continue;
            segment.Flags |= SentFlags.Lost;
            _lostBytes += segment.SequenceLength;
        }
        _rack.Reconsider(_send, SndUna);
    }

    private void OnPersistTimeout(Instant now)
    {
        _persistDeadline = Instant.Never;
        if (now - _persistSince >= UserTimeout)
        {
            TimeOut();
            return;
        }
        _probeWindow = SndWnd == 0;
        _takeAnyWindow = !_probeWindow;
        _persistBackoff = Math.Min(_persistBackoff + 1, 16);
        ArmPersist(now);
        RequestEmit();
    }

    private void StartKeepAlive(Instant now)
    {
        if (_keepAlive is { } idle)
            Arm(ref _keepAliveDeadline, now + idle);
        else
            _keepAliveDeadline = Instant.Never;
    }

    private void OnKeepAliveTimeout(Instant now)
    {
        _keepAliveDeadline = Instant.Never;
        if (_keepAlive is not { } idle)
            return;
        if (now - _lastHeardAt >= idle)
        {
            if (_keepAliveProbes == KeepAliveProbes)
            {
                TimeOut();
                return;
            }
            _keepAliveProbes++;
            _probeWindow = true;
            RequestEmit();
            Arm(ref _keepAliveDeadline, now + s_keepAliveInterval);
            return;
        }
        _keepAliveProbes = 0;
        Arm(ref _keepAliveDeadline, _lastHeardAt + idle);
    }

    /// <summary>Unanswered keepalive probes that are put up with, and the time between them (Linux's defaults).</summary>
    private const int KeepAliveProbes = 9;
    private static readonly TimeSpan s_keepAliveInterval = TimeSpan.FromSeconds(75);
    private int _keepAliveProbes;

    private void TimeOut()
    {
        if (State == TcpState.Closed)
            return;
        SendReset();
        Finish(TcpEvents.TimedOut);
    }
}

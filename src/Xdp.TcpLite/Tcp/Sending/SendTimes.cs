namespace Xdp.TcpLite;

/// <summary>What holds data back that could be sent otherwise.</summary>
internal enum SendLimit : byte
{
    /// <summary>There is no more data, or the application wants it sent in full segments only.</summary>
    None,

    Cwnd,
    PeerWindow,

    /// <summary>More may not be in flight, or the application may not write more.</summary>
    SendBuffer,
}

/// <summary>
/// For how long a connection had something in flight or to send, and what held it back meanwhile (Linux: tcp_chrono).
/// To the millisecond, up to seven weeks. What runs at present is in a <see cref="SendClock"/>.
/// </summary>
internal struct SendTimes
{
    private uint _busy;
    private uint _peerWindow;
    private uint _sendBuffer;

    internal readonly TimeSpan Busy => TimeSpan.FromMilliseconds(_busy);
    internal readonly TimeSpan PeerWindow => TimeSpan.FromMilliseconds(_peerWindow);
    internal readonly TimeSpan SendBuffer => TimeSpan.FromMilliseconds(_sendBuffer);

    internal void AddBusy(TimeSpan span) => _busy += Milliseconds(span);

    internal void AddLimited(SendLimit limit, TimeSpan span)
    {
        if (limit == SendLimit.PeerWindow)
            _peerWindow += Milliseconds(span);
        else if (limit == SendLimit.SendBuffer)
            _sendBuffer += Milliseconds(span);
    }

    private static uint Milliseconds(TimeSpan span) => (uint)(span.Ticks / TimeSpan.TicksPerMillisecond);
}

/// <summary>Measures <see cref="SendTimes"/>, of a flight. Only a change costs anything.</summary>
internal struct SendClock
{
    private FineInstant _busySince;
    private FineInstant _limitedSince;
    private SendLimit _limit;
    private bool _isRunning;

    /// <summary>There is something to send, or to have acknowledged.</summary>
    internal void Start(Instant now)
    {
        if (!_isRunning)
            this = new SendClock { _busySince = new FineInstant(now), _isRunning = true };
    }

    /// <summary>Sending stops, until something changes.</summary>
    internal void OnStopped(SendLimit limit, ref SendTimes times, Instant now)
    {
        if (limit == _limit)
            return;
        times.AddLimited(_limit, _limitedSince.Age(now));
        (_limit, _limitedSince) = (limit, new FineInstant(now));
    }

    /// <summary>All that was written is acknowledged, or the connection has ended.</summary>
    internal void Stop(ref SendTimes times, Instant now)
    {
        if (!_isRunning)
            return;
        OnStopped(SendLimit.None, ref times, now);
        times.AddBusy(_busySince.Age(now));
        _isRunning = false;
    }
}

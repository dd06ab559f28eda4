using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Connections;

/// <summary>
/// Carries snapshots from the queue to application threads. The wait is bounded: a caller may hold what a handler
/// inside the turn waits for, and then gets an old answer instead of a deadlock.
/// </summary>
internal sealed class TcpInfoRequest
{
    private static readonly TimeSpan s_patience = TimeSpan.FromMilliseconds(100);

    private readonly object _lock = new();
    private TcpConnectionInfo _info;
    private long _published;
    private bool _ended;

    public long Published
    {
        get
        {
            lock (_lock)
                return _published;
        }
    }

    public void Publish(TcpConnectionInfo info)
    {
        lock (_lock)
        {
            _info = info;
            _published++;
            Monitor.PulseAll(_lock);
        }
    }

    /// <summary>The stack has forgotten the connection. The last snapshot stays.</summary>
    public void End()
    {
        lock (_lock)
        {
            if (_ended)
                return;
            _ended = true;
            _info = _info with { State = TcpState.Closed };
            Monitor.PulseAll(_lock);
        }
    }

    /// <param name="seen">The number of snapshots published before the request.</param>
    public TcpConnectionInfo Wait(long seen)
    {
        lock (_lock)
        {
            if (_published == seen && !_ended)
                Monitor.Wait(_lock, s_patience);
            return _info;
        }
    }
}

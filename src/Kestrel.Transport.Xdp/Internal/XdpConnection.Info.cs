using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal;

internal sealed partial class XdpConnection
{
    private TcpInfoRequest? _infoRequest;

    public string InterfaceName => Settings.InterfaceName;
    public int QueueId => Settings.QueueId;
    public string BindMode => Settings.BindMode;

    public TcpConnectionInfo GetTcpInfo()
    {
        bool detached = ((ConnectionWork)Volatile.Read(ref Work.Bits) & ConnectionWork.Detached) != 0;
        if (!detached && _tcp is not null && Host.InTurn)
            return _tcp.GetInfo(Host.Now);
        TcpInfoRequest request = _infoRequest
            ?? Interlocked.CompareExchange(ref _infoRequest, new TcpInfoRequest(), null)
            ?? _infoRequest;
        if (detached)
            request.End();
        long seen = request.Published;
        Signal(ConnectionWork.Info);
        return request.Wait(seen);
    }

    /// <summary>
    /// Carries snapshots from the queue to application threads; made when the first is asked for. The wait is bounded, so that a caller who
    /// holds what a handler inside the turn waits for gets an old answer and not a deadlock.
    /// </summary>
    private sealed class TcpInfoRequest
    {
        private static readonly TimeSpan s_patience = TimeSpan.FromMilliseconds(100);

        private readonly object _gate = new();
        private TcpConnectionInfo _info;
        private long _published;
        private bool _ended;

        public long Published
        {
            get
            {
                lock (_gate)
                    return _published;
            }
        }

        public void Publish(TcpConnectionInfo info)
        {
            lock (_gate)
            {
                _info = info;
                _published++;
                Monitor.PulseAll(_gate);
            }
        }

        /// <summary>The stack has forgotten the connection: the last snapshot stays.</summary>
        public void End()
        {
            lock (_gate)
            {
                if (_ended)
                    return;
                _ended = true;
                _info = _info with { State = TcpState.Closed };
                Monitor.PulseAll(_gate);
            }
        }

        /// <param name="seen">The number of snapshots published before the request.</param>
        public TcpConnectionInfo Wait(long seen)
        {
            lock (_gate)
            {
                if (_published == seen && !_ended)
                    Monitor.Wait(_gate, s_patience);
                return _info;
            }
        }
    }
}

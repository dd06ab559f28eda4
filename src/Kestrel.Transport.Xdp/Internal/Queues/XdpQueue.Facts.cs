using Xdp.Sockets;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal;

// What metrics and tests read, from any thread, while turns go on: near enough, exact when the queue is quiet.
internal sealed partial class XdpQueue
{
    internal long Signals => _worker.Signals;

    internal long Wakes => _worker.Wakes;

    internal long PoolOverdue => _worker.PoolOverdue;

    internal (int Open, int HalfOpen, int TimeWait) StackCounts => _closed ? default : (_stack.ConnectionCount, _stack.HalfOpenCount, _stack.TimeWaitCount);

    internal TcpStackCounters Tcp => _stack.Counters;

    internal long FillPending => _closed ? 0 : _xsk.Fill.Pending;

    internal long TransmitPending => _closed ? 0 : _xsk.Tx.Pending;

    /// <summary>The kernel's counters; zero once the queue is closed.</summary>
    internal XskStatistics Statistics
    {
        get
        {
            try
            {
                return _closed ? default : _xsk.GetStatistics();
            }
            catch (Exception e) when (e is XdpException or ObjectDisposedException)
            {
                return default;
            }
        }
    }

    /// <summary>How long the turn that is under way has lasted; zero when there is none.</summary>
    internal TimeSpan TurnDuration
    {
        get
        {
            long started = Volatile.Read(ref _turnStarted);
            return started == 0 ? TimeSpan.Zero : TimeSpan.FromTicks(Clock.Now.Ticks - started);
        }
    }
}

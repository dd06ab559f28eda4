using Xdp.Sockets;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Queues;

/// <summary>
/// What a queue tells of itself. For any thread, while turns go on: near enough, and exact when the queue is quiet.
/// </summary>
internal sealed class QueueStatistics(
    QueueSettings settings, QueueCounters counters, QueueRings rings, TcpStack stack, QueueWorker worker,
    Func<bool> isClosed)
{
    internal string InterfaceName => settings.InterfaceName;

    internal int QueueId => settings.QueueId;

    internal QueueCounters Counters => counters;

    internal TcpStackCounters Tcp => stack.Counters;

    /// <summary>The worker's sleeps.</summary>
    internal long Wakes => worker.Wakes;

    /// <summary>System calls that ended one.</summary>
    internal long Signals => worker.Signals;

    /// <summary>Turns that the thread pool came to too late.</summary>
    internal long PoolOverdue => worker.PoolOverdue;

    internal (int Open, int HalfOpen, int TimeWait) Connections =>
        isClosed() ? default : (stack.ConnectionCount, stack.HalfOpenCount, stack.TimeWaitCount);

    /// <summary>Connections that the application has closed and that still go on.</summary>
    internal int Orphans => isClosed() ? 0 : stack.OrphanCount;

    /// <summary>Frames by <see cref="FrameState"/>.</summary>
    internal int[] Frames => rings.Frames.CountByState();

    internal long FillPending => isClosed() ? 0 : rings.FillPending;

    internal long TransmitPending => isClosed() ? 0 : rings.TransmitPending;

    /// <summary>Packets that the kernel has handed to the socket, or dropped for want of room or frames.</summary>
    internal long Arrived
    {
        get
        {
            XskStatistics kernel = Kernel;
            long waiting = isClosed() ? 0 : rings.RxWaiting;
            return counters.PacketsReceived + waiting
                + (long)(kernel.RxDropped + kernel.RxRingFull + kernel.RxFillRingEmpty);
        }
    }

    /// <summary>The kernel's counters; zero once the queue is closed.</summary>
    internal XskStatistics Kernel
    {
        get
        {
            try
            {
                return isClosed() ? default : rings.Statistics;
            }
            catch (Exception e) when (e is XdpException or ObjectDisposedException)
            {
                return default;
            }
        }
    }
}

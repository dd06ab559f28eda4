using System.Runtime.ExceptionServices;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal;

internal sealed partial class XdpPipeWriter
{
    private QueueState _queue;
    private bool _paused;
    private bool _closed;
    private ExceptionDispatchInfo? _fault;

    /// <summary>What the queue writes as well, apart from what only writers write. Under the lock.</summary>
    private struct QueueState
    {
        /// <summary>Flushed blocks that the stack has not taken.</summary>
        public BlockQueue Pending;

        /// <summary>Bytes that the stack has taken and never sent.</summary>
        public long StackUnsent;

        /// <summary>Bytes that the stack has taken and that are not acknowledged.</summary>
        public long StackUnacknowledged;

        /// <summary>Acknowledged bytes that do not make a full segment yet.</summary>
        public int AcknowledgedRest;

        /// <summary>Frames with the writer and the stack. What the stack holds is an estimate: full segments acknowledged are so many frames less.</summary>
        public int Frames;

        /// <summary>Payload bytes of a full segment.</summary>
        public int Mss;
    }

    /// <summary>Takes the flushed blocks, which the caller hands to the stack in the same turn. Inside a turn.</summary>
    public BlockQueue TakePending()
    {
        lock (_connection.Gate)
        {
            BlockQueue pending = _queue.Pending;
            _queue.Pending = default;
            _queue.StackUnsent += pending.Bytes;
            _queue.StackUnacknowledged += pending.Bytes;
            return pending;
        }
    }

    /// <summary>The stack's figures after it has sent, or has learned what was acknowledged. Inside a turn; true when the caller has claimed the pending flush.</summary>
    public bool OnSent(long unsent, long unacknowledged, int mss)
    {
        lock (_connection.Gate)
        {
            CountAcknowledged(_queue.StackUnacknowledged - unacknowledged, mss);
            _queue.StackUnsent = unsent;
            _queue.StackUnacknowledged = unacknowledged;
            _queue.Mss = mss;
            if (!_paused || _queue.Pending.Bytes + unsent >= _connection.Settings.ResumeOutputBelow)
                return false;
            _paused = false;
            return TryClaimFlush();
        }
    }

    /// <summary>
    /// The connection takes no more output: flushes say so, or throw the fault. Flushed blocks stay for the stack to take, unless
    /// <paramref name="drop"/>. Any thread; true when the caller has claimed the pending flush.
    /// </summary>
    public bool Close(bool drop, Exception? fault = null)
    {
        BlockQueue dropped = default;
        bool claimed;
        lock (_connection.Gate)
        {
            if (drop)
            {
                dropped = _queue.Pending;
                _queue.Pending = default;
            }
            if (_closed)
            {
                claimed = false;
            }
            else
            {
                _closed = true;
                _paused = false;
                if (fault is not null)
                    _fault = ExceptionDispatchInfo.Capture(fault);
                claimed = TryClaimFlush();
            }
        }
        bool framesReturned = !dropped.IsEmpty;
        dropped.ReturnAll();
        if (framesReturned)
            _connection.Host.FramesReturned();
        return claimed;
    }

    private bool TryClaimFlush() => _flush is not null && _flush.State.TryClaim();

    private void CountAcknowledged(long acknowledged, int mss)
    {
        if (acknowledged <= 0)
            return;
        (long segments, long rest) = Math.DivRem(_queue.AcknowledgedRest + acknowledged, Math.Max(mss, 1));
        _queue.AcknowledgedRest = (int)rest;
        int writing = _current is { IsFrame: true } ? 1 : 0;
        bool allAcknowledged = _queue.StackUnacknowledged == acknowledged && _queue.Pending.IsEmpty && _unflushed.IsEmpty;
        _queue.Frames = allAcknowledged ? writing : (int)Math.Max(writing, _queue.Frames - segments);
    }
}

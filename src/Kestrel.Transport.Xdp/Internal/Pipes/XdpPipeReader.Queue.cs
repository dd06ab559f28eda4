using System.Runtime.ExceptionServices;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal;

internal sealed partial class XdpPipeReader
{
    /// <summary>
    /// Bytes up to which a block is copied into the room behind the one before it. A copy of this size costs some 10 ns; a block of its own
    /// costs the reader a segment, and the pool a frame for a few bytes.
    /// </summary>
    private const int CoalesceLimit = 512;

    /// <summary>What <see cref="Receive"/> leaves its caller to do.</summary>
    internal struct Receipt
    {
        /// <summary>The caller has claimed the pending read, and delivers it.</summary>
        public bool Claimed;

        /// <summary>The pipe has become full: nothing more is to be taken until the application posts <see cref="ConnectionWork.Window"/>.</summary>
        public bool Paused;

        /// <summary>Nobody reads any more; the bytes were dropped.</summary>
        public bool Dropped;

        /// <summary>Bytes to be given back to the receive window.</summary>
        public long Released;
    }

    /// <summary>
    /// Bytes that may be taken from the stack now: 0 while the pipe is paused. Inside a turn, without the lock: only the queue pauses, and who ends the
    /// pause posts work afterwards; what was examined since only makes the room larger.
    /// </summary>
    public long Room => Volatile.Read(ref _paused) ? 0 : _connection.Settings.PauseInputAt - (_received - Volatile.Read(ref _examined));

    /// <summary>Appends received blocks, all of them. Inside a turn.</summary>
    public Receipt Receive(ref BlockQueue blocks)
    {
        Receipt receipt = default;
        long arrived = blocks.Bytes;
        lock (_connection.Gate)
        {
            if (_readerCompleted || _writerCompleted)
            {
                receipt.Dropped = true;
                receipt.Released = _unreleased + arrived;
                _unreleased = 0;
            }
            else
            {
                bool pressure = UnderPressure;
                while (blocks.Dequeue() is { } block)
                    Append(block, pressure);
                _received += arrived;
                if (_received - _examined >= _connection.Settings.PauseInputAt)
                    receipt.Paused = _paused = true;
                receipt.Released = _unreleased;
                _unreleased = 0;
                receipt.Claimed = _received > _examined && _read.TryClaim();
            }
        }
        blocks.ReturnAll();
        return receipt;
    }

    /// <summary>Examined bytes that were not given back to the receive window yet. Inside a turn.</summary>
    public long TakeReleased()
    {
        lock (_connection.Gate)
        {
            long released = _unreleased;
            _unreleased = 0;
            return released;
        }
    }

    /// <summary>
    /// Nothing will follow. With a fault, reads throw it from now on and what was not read is dropped. The first call counts. Any
    /// thread; true when the caller has claimed the pending read.
    /// </summary>
    public bool CompleteWriter(Exception? fault)
    {
        BlockQueue dropped = default;
        bool framesReturned = false;
        bool claimed;
        lock (_connection.Gate)
        {
            if (_writerCompleted)
                return false;
            _writerCompleted = true;
            _paused = false;
            if (fault is not null)
            {
                _fault = ExceptionDispatchInfo.Capture(fault);
                // A result that is out is read on: its blocks stay until the reader is done with them.
                if (_reading < Reading.Cancelled)
                    dropped = TakeChain(out framesReturned);
            }
            claimed = _read.TryClaim();
        }
        dropped.ReturnAll();
        if (framesReturned)
            _connection.Host.FramesReturned();
        return claimed;
    }

    private void Append(Block block, bool pressure)
    {
        bool spill = block.IsFrame && (pressure || _frames >= _connection.Settings.ReceiveFrames);
        if ((spill || block.Length <= CoalesceLimit) && _chain.Tail is { } tail && tail.Room >= block.Length)
        {
            _chain.AppendToTail(block.Bytes);
            block.Return();
            return;
        }
        if (spill && _connection.Host.Blocks.TryTake() is { } heap)
        {
            heap.Append(block.Bytes);
            _chain.Enqueue(heap);
            block.Return();
            return;
        }
        if (block.IsFrame)
            _frames++;
        _chain.Enqueue(block);
    }
}

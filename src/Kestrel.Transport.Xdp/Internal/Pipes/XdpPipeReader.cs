using System.IO.Pipelines;
using System.Runtime.ExceptionServices;
using System.Threading.Tasks.Sources;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Pipes;

/// <summary>
/// A connection's Input: shows the blocks that the stack delivered, UMEM frames among them, as one sequence. The
/// application's side is for any thread, the queue's for a turn. Both work under the connection's lock.
/// </summary>
/// <remarks>
/// Positions are running indices: bytes since the connection began. <c>_consumed ≤ _examined ≤ _received</c>. The chain
/// holds the bytes from <c>_consumed</c> to <c>_received</c>, and its first block perhaps some consumed ones as well
/// (<c>_headOffset</c>). Blocks up to <c>_exposed</c> are segments of a sequence that the application has seen. The
/// queue may append to the last one's memory meanwhile, behind what was exposed of it. Bytes count against
/// <c>MaxReadBufferSize</c> and the receive window until they have been examined. That is how <see cref="Pipe"/>
/// counts, so a reader may hold any number of bytes that it has examined.
/// </remarks>
internal sealed class XdpPipeReader : PipeReader, IValueTaskSource<ReadResult>, IThreadPoolWorkItem
{
    /// <summary>
    /// Bytes up to which a block is copied into the room behind the one before it. A copy of this size costs some
    /// 10 ns. A block of its own costs the reader a segment, and the pool a frame for a few bytes.
    /// </summary>
    private const int CoalesceLimit = 512;

    private static readonly Action<object?, CancellationToken> s_onReadCancelled =
        static (state, token) => ((XdpPipeReader)state!).OnReadCancelled(token);

    private readonly PipeOwner _owner;

    private BlockQueue _chain;
    private int _headOffset;
    private Block? _exposed;
    private long _consumed;
    private long _examined;
    private long _received;
    private int _frames;

    /// <summary>Examined bytes that the queue has not been told of.</summary>
    private int _untold;
    private Reading _reading;
    private bool _paused;
    private bool _readerCompleted;
    private bool _writerCompleted;
    private ExceptionDispatchInfo? _fault;
    private PipeOperation _read;

    private enum Reading : byte
    {
        None,

        /// <summary>
        /// A read was asked for and gave nothing yet: <see cref="AdvanceTo(SequencePosition)"/> is allowed.
        /// </summary>
        Tentative,

        /// <summary>
        /// The result of a cancelled read is out: <see cref="AdvanceTo(SequencePosition)"/> is allowed, and another
        /// read as well.
        /// </summary>
        Cancelled,

        /// <summary>A result is out, and must be advanced before the next read.</summary>
        Active,
    }

    /// <summary>What <see cref="Receive"/> leaves its caller to do.</summary>
    internal struct Receipt
    {
        /// <summary>The caller has claimed the pending read, and delivers it.</summary>
        public bool Claimed;

        /// <summary>
        /// The pipe has become full: nothing more is to be taken before the application has examined something.
        /// </summary>
        public bool Paused;

        /// <summary>Nobody reads any more; the bytes were dropped.</summary>
        public bool Dropped;
    }

    public XdpPipeReader(PipeOwner owner) => _owner = owner;

    // ---- the application's side

    public override ValueTask<ReadResult> ReadAsync(CancellationToken cancellationToken = default)
    {
        if (cancellationToken.IsCancellationRequested)
        {
            ThrowIfCompleted();
            return ValueTask.FromCanceled<ReadResult>(cancellationToken);
        }
        lock (_owner.Lock)
        {
            ThrowIfCompleted();
            if (_read.InFlight)
                throw ConcurrentReads();
            if (IsReady)
                return new ValueTask<ReadResult>(TakeResult());
            if (_reading == Reading.Active)
                throw ConcurrentReads();
            _reading = Reading.Tentative;
            return new ValueTask<ReadResult>(this, _read.Begin(cancellationToken, s_onReadCancelled, this));
        }
    }

    public override bool TryRead(out ReadResult result)
    {
        lock (_owner.Lock)
        {
            ThrowIfCompleted();
            if (_read.InFlight)
                throw ConcurrentReads();
            if (IsReady)
            {
                result = TakeResult();
                return true;
            }
            if (_reading == Reading.None)
                _reading = Reading.Tentative;
            result = default;
            return false;
        }
    }

    public override void AdvanceTo(SequencePosition consumed) => AdvanceTo(consumed, consumed);

    public override void AdvanceTo(SequencePosition consumed, SequencePosition examined)
    {
        var consumedBlock = (Block?)consumed.GetObject();
        var examinedBlock = (Block?)examined.GetObject();
        BlockQueue finished = default;
        bool post;
        bool framesReturned;
        lock (_owner.Lock)
        {
            ThrowIfCompleted();
            if (_reading == Reading.None)
                throw new InvalidOperationException("No read is outstanding that could be advanced.");

            long consumedTo = consumedBlock is null ? _consumed : consumedBlock.RunningIndex + consumed.GetInteger();
            long examinedTo = examinedBlock is null ? _examined : examinedBlock.RunningIndex + examined.GetInteger();
            if (consumedBlock is not null && examinedBlock is not null && examinedTo < consumedTo)
                throw new InvalidOperationException("The examined position lies before the consumed position.");
            if (consumedTo < _consumed || consumedTo > _received || examinedTo > _received)
                throw new InvalidOperationException("The consumed or the examined position is not part of the result.");
            // What was examined once stays so: a zero-byte read gives the start here.
            examinedTo = Math.Max(_examined, Math.Max(examinedTo, consumedTo));

            _reading = Reading.None;
            _untold += (int)(examinedTo - _examined);
            _examined = examinedTo;
            int framesBefore = _frames;
            Consume(consumedTo, ref finished);
            if (_frames > 0 && MustSpill)
                Spill(ref finished);
            framesReturned = _frames != framesBefore;

            // What is in the pipe has been given back to the receive window already. The queue has to know only when
            // memory is short: then windows follow what applications examine.
            bool resume = _paused && _received - _examined < _owner.Settings.ResumeInputBelow;
            if (resume)
                _paused = false;
            post = resume || _untold >= _owner.Settings.WindowUpdateBytes;
        }
        finished.ReturnAll();
        if (framesReturned)
            _owner.Memory.FramesReturned();
        if (post)
            _owner.OnExamined();
    }

    public override void CancelPendingRead()
    {
        bool claimed;
        lock (_owner.Lock)
            claimed = _read.Cancel();
        if (claimed)
            Schedule();
    }

    public override void Complete(Exception? exception = null)
    {
        BlockQueue finished;
        bool framesReturned;
        bool open;
        lock (_owner.Lock)
        {
            if (_readerCompleted)
                return;
            _readerCompleted = true;
            _reading = Reading.None;
            finished = TakeChain(out framesReturned);
            _examined = _consumed = _received;
            _paused = false;
            open = !_writerCompleted;
        }
        finished.ReturnAll();
        if (framesReturned)
            _owner.Memory.FramesReturned();
        if (open)
            _owner.OnInputCompleted();
    }

    /// <summary>Runs what awaits the read that the caller has claimed.</summary>
    public void Execute() => _read.Run();

    /// <summary>Has the pool run what awaits the read that the caller has claimed.</summary>
    public void Schedule() => ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);

    // ---- the queue's side

    /// <summary>
    /// Bytes that may be taken from the stack now: 0 while the pipe is paused. Inside a turn. It needs no lock: only
    /// the queue pauses, whoever ends the pause posts work afterwards, and what is examined meanwhile makes more room.
    /// </summary>
    public long Room => Volatile.Read(ref _paused)
        ? 0
        : _owner.Settings.PauseInputAt - (_received - Volatile.Read(ref _examined));

    /// <summary>Appends received blocks, all of them. Inside a turn.</summary>
    public Receipt Receive(ref BlockQueue blocks)
    {
        Receipt receipt = default;
        long arrived = blocks.Bytes;
        lock (_owner.Lock)
        {
            if (_readerCompleted || _writerCompleted)
            {
                receipt.Dropped = true;
            }
            else
            {
                bool pressure = UnderPressure;
                while (blocks.Dequeue() is { } block)
                    Append(block, pressure);
                _received += arrived;
                if (_received - _examined >= _owner.Settings.PauseInputAt)
                    receipt.Paused = _paused = true;
                receipt.Claimed = _received > _examined && _read.TryClaim();
            }
        }
        blocks.ReturnAll();
        return receipt;
    }

    /// <summary>
    /// Bytes in the pipe that the application has not examined. The queue counts as told of what it has. Inside a turn.
    /// </summary>
    public long TakeKept()
    {
        lock (_owner.Lock)
        {
            _untold = 0;
            return _received - _examined;
        }
    }

    /// <summary>
    /// Nothing will follow. With a fault, reads throw it from now on, and what was not read is dropped. The first call
    /// counts. Any thread; true when the caller has claimed the pending read.
    /// </summary>
    public bool CompleteWriter(Exception? fault)
    {
        BlockQueue dropped = default;
        bool framesReturned = false;
        bool claimed;
        lock (_owner.Lock)
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
            _owner.Memory.FramesReturned();
        return claimed;
    }

    private void Append(Block block, bool pressure)
    {
        bool spill = block.IsFrame && (pressure || _frames >= _owner.Settings.ReceiveFrames);
        if ((spill || block.Length <= CoalesceLimit) && _chain.Tail is { } tail && tail.Room >= block.Length)
        {
            _chain.AppendToTail(block.Bytes);
            block.Return();
            return;
        }
        if (spill && _owner.Memory.Blocks.TryTake() is { } heap)
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

    // ---- below

    ReadResult IValueTaskSource<ReadResult>.GetResult(short token)
    {
        CancellationToken cancellationToken;
        ReadResult result;
        lock (_owner.Lock)
        {
            cancellationToken = _read.End(token);
            ThrowIfCompleted();
            result = TakeResult();
        }
        if (result.IsCanceled)
            cancellationToken.ThrowIfCancellationRequested();
        return result;
    }

    ValueTaskSourceStatus IValueTaskSource<ReadResult>.GetStatus(short token) => _read.GetStatus(token);

    void IValueTaskSource<ReadResult>.OnCompleted(
        Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _read.OnCompleted(continuation, state, token, flags);

    private bool IsReady => _received > _examined || _writerCompleted || _read.Cancelled;

    /// <summary>The chain as a result. Under the lock.</summary>
    private ReadResult TakeResult()
    {
        if (_reading == Reading.Active)
            throw ConcurrentReads();
        if (_fault is not null)
            _fault.Throw();
        bool cancelled = _read.ObserveCancellation();
        _reading = cancelled ? Reading.Cancelled : Reading.Active;
        if (_chain.IsEmpty)
            return new ReadResult(default, cancelled, _writerCompleted);
        Expose();
        return new ReadResult(new(_chain.Head!, _headOffset, _exposed!, _exposed!.Length), cancelled, _writerCompleted);
    }

    /// <summary>
    /// Makes segments of the blocks, or of the part of the last one, that came since the last result.
    /// </summary>
    private void Expose()
    {
        Block block = _exposed ?? _chain.Head!;
        long index = _exposed?.RunningIndex ?? _consumed - _headOffset;
        while (true)
        {
            block.Expose(index);
            index += block.Length;
            if (block.Next is not { } next)
                break;
            block = next;
        }
        _exposed = block;
    }

    private void Consume(long consumedTo, ref BlockQueue finished)
    {
        long count = _headOffset + (consumedTo - _consumed);
        _consumed = consumedTo;
        while (_chain.Head is { } head && count >= head.Length)
        {
            count -= head.Length;
            if (head == _exposed)
                _exposed = null;
            if (head.IsFrame)
                _frames--;
            finished.Enqueue(_chain.Dequeue()!);
        }
        _headOffset = (int)count;
    }

    /// <summary>
    /// A reader that has seen all there is may stay away for ever, and an idle connection holds no frame. One that left
    /// something unexamined comes back for it, and may keep its frames while they are not needed elsewhere.
    /// </summary>
    private bool MustSpill => _received == _examined || _frames > _owner.Settings.ReceiveFrames || UnderPressure;

    private bool UnderPressure
    {
        get
        {
            FramePool frames = _owner.Memory.Frames;
            return frames.ApplicationCount * 2 > frames.FrameCount;
        }
    }

    /// <summary>
    /// Copies what is left in frames to heap blocks, as far as those can be had. No result is outstanding.
    /// </summary>
    private void Spill(ref BlockQueue finished)
    {
        BlockQueue old = _chain;
        _chain = default;
        _exposed = null;
        int skip = _headOffset;
        Block? target = null;
        while (old.Dequeue() is { } block)
        {
            if (!block.IsFrame)
            {
                // The first block keeps its consumed bytes, which count in _headOffset.
                _chain.Enqueue(block);
                target = null;
                skip = 0;
                continue;
            }
            ReadOnlySpan<byte> bytes = block.Bytes[skip..];
            if (target is null || target.Room < bytes.Length)
            {
                target = bytes.Length <= BlockPool.BlockSize ? _owner.Memory.Blocks.TryTake() : null;
                if (target is null)
                {
                    _chain.Enqueue(block);
                    skip = 0;
                    continue;
                }
                if (_chain.IsEmpty)
                    _headOffset = 0;
                _chain.Enqueue(target);
            }
            _chain.AppendToTail(bytes);
            skip = 0;
            _frames--;
            finished.Enqueue(block);
        }
    }

    private BlockQueue TakeChain(out bool framesTaken)
    {
        BlockQueue chain = _chain;
        _chain = default;
        _exposed = null;
        _headOffset = 0;
        framesTaken = _frames > 0;
        _frames = 0;
        return chain;
    }

    private void OnReadCancelled(CancellationToken token)
    {
        bool claimed;
        lock (_owner.Lock)
            claimed = _read.Cancel(token);
        if (claimed)
            Schedule();
    }

    private void ThrowIfCompleted()
    {
        if (_readerCompleted)
            throw new InvalidOperationException("Reading is not allowed after the reader was completed.");
    }

    private static InvalidOperationException ConcurrentReads() => new("Reading is already in progress.");
}

using System.IO.Pipelines;
using System.Runtime.ExceptionServices;
using System.Threading.Tasks.Sources;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Pipes;

/// <summary>
/// A connection's Output: hands out the payload area of UMEM frames, which the driver sends from, or heap blocks. The
/// application's side is for any thread, the queue's for a turn. Both work under the connection's lock.
/// </summary>
/// <remarks>
/// A block goes from <c>_current</c> (being written) to <c>_unflushed</c> (full) to <c>_queue.Pending</c> (flushed) to
/// the stack. Up to the flush it is the writer's own. Whatever becomes of the connection, only calls on the writer free
/// it, since the application may be writing into it. From the flush on it is the queue's. Once the connection takes no
/// more output, what is flushed is dropped, and flushes say <c>IsCompleted</c>.
/// </remarks>
internal sealed class XdpPipeWriter : PipeWriter, IValueTaskSource<FlushResult>, IThreadPoolWorkItem
{
    /// <summary>
    /// The least room that is handed out. Kestrel writes a chunk's header, up to 10 bytes, without asking for it; less
    /// room than that makes it throw. More wastes the end of a segment.
    /// </summary>
    private const int MinimumRoom = 16;

    /// <summary>Segments smaller than this are not worth a frame each.</summary>
    private const int SmallestFramedSegment = 256;

    /// <summary>
    /// Bytes up to which a flush is copied behind the flushed data before it. The copy costs 17–34 ns a full segment,
    /// and saves a frame and a segment with its headers.
    /// </summary>
    private const int CoalesceLimit = 1024;

    private static readonly Action<object?, CancellationToken> s_onFlushCancelled =
        static (state, token) => ((XdpPipeWriter)state!).OnFlushCancelled(token);

    private readonly PipeOwner _owner;

    private Block? _current;
    private int _currentEnd;
    private BlockQueue _unflushed;
    private bool _writerCompleted;
    private bool _framesReturned;
    private QueueState _queue;
    private bool _paused;
    private bool _closed;
    private ExceptionDispatchInfo? _fault;

    /// <summary>Made for the first flush that waits or is cancelled, which few connections ever have.</summary>
    private FlushOperation? _flush;

    private sealed class FlushOperation
    {
        public PipeOperation State;
    }

    /// <summary>What the queue writes as well, apart from what only writers write. Under the lock.</summary>
    private struct QueueState
    {
        /// <summary>Flushed blocks that the stack has not taken.</summary>
        public BlockQueue Pending;

        /// <summary>What the stack may hold before it counts against the pipe: its send buffer.</summary>
        public long StackBuffer;

        /// <summary>Bytes that the stack has taken and that are not acknowledged.</summary>
        public long StackUnacknowledged;

        /// <summary>Acknowledged bytes that do not make a full segment yet.</summary>
        public ushort AcknowledgedRest;

        /// <summary>
        /// Frames with the writer and the stack. What the stack holds is an estimate: each full segment that is
        /// acknowledged counts as a frame less.
        /// </summary>
        public int Frames;

        /// <summary>Payload bytes of a full segment.</summary>
        public ushort Mss;
    }

    /// <param name="owner">The connection's.</param>
    /// <param name="mss">Payload bytes of a full segment.</param>
    /// <param name="sendBuffer">Of the stack's connection.</param>
    public XdpPipeWriter(PipeOwner owner, int mss, long sendBuffer)
    {
        _queue.StackBuffer = sendBuffer;
        _owner = owner;
        _queue.Mss = (ushort)mss;
    }

    // ---- the application's side

    public override bool CanGetUnflushedBytes => true;

    public override long UnflushedBytes => _unflushed.Bytes + (_current?.Length ?? 0);

    public override Memory<byte> GetMemory(int sizeHint = 0)
    {
        Block block = BlockWithRoom(sizeHint);
        return block.AllMemory[block.End.._currentEnd];
    }

    public override Span<byte> GetSpan(int sizeHint = 0)
    {
        Block block = BlockWithRoom(sizeHint);
        return block.Span[block.End.._currentEnd];
    }

    public override void Advance(int bytes)
    {
        lock (_owner.Lock)
        {
            if (_closed && !_writerCompleted)
                return;
            int room = _current is null ? 0 : _currentEnd - _current.End;
            if ((uint)bytes > (uint)room)
                throw TooManyBytes(bytes);
            if (bytes == 0)
                return;
            _current!.Length += bytes;
        }
    }

    public override ValueTask<FlushResult> FlushAsync(CancellationToken cancellationToken = default)
    {
        if (cancellationToken.IsCancellationRequested)
            return ValueTask.FromCanceled<FlushResult>(cancellationToken);
        bool flushed;
        ValueTask<FlushResult> result;
        lock (_owner.Lock)
        {
            flushed = Commit();
            result = CompleteOrBegin(cancellationToken);
        }
        TellReturned();
        if (flushed)
            _owner.OnFlushed();
        return result;
    }

    public override ValueTask<FlushResult> WriteAsync(
        ReadOnlyMemory<byte> source, CancellationToken cancellationToken = default)
    {
        if (_writerCompleted)
            throw WritingNotAllowed();
        if (cancellationToken.IsCancellationRequested)
            return ValueTask.FromCanceled<FlushResult>(cancellationToken);
        ReadOnlySpan<byte> rest = source.Span;
        while (!rest.IsEmpty && !_closed)
        {
            // A segment is filled to its last byte here, which MinimumRoom denies to others.
            Block block = _current is { } current && current.End < _currentEnd ? current : TakeBlock(0);
            int count = Math.Min(rest.Length, _currentEnd - block.End);
            rest[..count].CopyTo(block.Span[block.End..]);
            Advance(count);
            rest = rest[count..];
        }
        return FlushAsync(cancellationToken);
    }

    public override void CancelPendingFlush()
    {
        bool claimed;
        lock (_owner.Lock)
            claimed = (_flush ??= new FlushOperation()).State.Cancel();
        if (claimed)
            Schedule();
    }

    /// <summary>
    /// Flushes what was written and has FIN follow; with an exception, aborts the connection instead.
    /// </summary>
    public override void Complete(Exception? exception = null)
    {
        lock (_owner.Lock)
        {
            if (_writerCompleted)
                return;
            _writerCompleted = true;
            Commit();
            if (_current is { } empty)
                Release(empty);
            _current = null;
        }
        TellReturned();
        _owner.OnOutputCompleted(exception);
    }

    /// <summary>Runs what awaits the flush that the caller has claimed.</summary>
    public void Execute() => _flush!.State.Run();

    /// <summary>Has the pool run what awaits the flush that the caller has claimed.</summary>
    public void Schedule() => ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);

    // ---- the queue's side

    /// <summary>
    /// Takes the flushed blocks, which the caller hands to the stack in the same turn. Inside a turn.
    /// </summary>
    public BlockQueue TakePending()
    {
        lock (_owner.Lock)
        {
            BlockQueue pending = _queue.Pending;
            _queue.Pending = default;
            _queue.StackUnacknowledged += pending.Bytes;
            return pending;
        }
    }

    /// <summary>
    /// The stack's figures after it has sent, or has learned what was acknowledged. Inside a turn; true when the caller
    /// has claimed the pending flush.
    /// </summary>
    /// <param name="unacknowledged">Bytes that the stack has taken, and that are not acknowledged.</param>
    /// <param name="buffer">Its send buffer.</param>
    /// <param name="mss">Payload bytes of a full segment.</param>
    public bool OnSent(long unacknowledged, long buffer, int mss)
    {
        lock (_owner.Lock)
        {
            CountAcknowledged(_queue.StackUnacknowledged - unacknowledged, mss);
            _queue.StackUnacknowledged = unacknowledged;
            _queue.StackBuffer = buffer;
            _queue.Mss = (ushort)mss;
            if (!_paused || Waiting >= _owner.Settings.ResumeOutputBelow)
                return false;
            _paused = false;
            return TryClaimFlush();
        }
    }

    /// <summary>
    /// The connection takes no more output: flushes say so, or throw the fault. Flushed blocks stay for the stack to
    /// take, unless <paramref name="drop"/>. Any thread; true when the caller has claimed the pending flush.
    /// </summary>
    public bool Close(bool drop, Exception? fault = null)
    {
        BlockQueue dropped = default;
        bool claimed;
        lock (_owner.Lock)
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
            _owner.Memory.FramesReturned();
        return claimed;
    }

    private bool TryClaimFlush() => _flush is not null && _flush.State.TryClaim();

    private void CountAcknowledged(long acknowledged, int mss)
    {
        if (acknowledged <= 0)
            return;
        (long segments, long rest) = Math.DivRem(_queue.AcknowledgedRest + acknowledged, Math.Max(mss, 1));
        _queue.AcknowledgedRest = (ushort)rest;
        int writing = _current is { IsFrame: true } ? 1 : 0;
        bool allAcknowledged =
            _queue.StackUnacknowledged == acknowledged && _queue.Pending.IsEmpty && _unflushed.IsEmpty;
        _queue.Frames = allAcknowledged ? writing : (int)Math.Max(writing, _queue.Frames - segments);
    }

    // ---- below

    FlushResult IValueTaskSource<FlushResult>.GetResult(short token)
    {
        CancellationToken cancellationToken;
        FlushResult result;
        lock (_owner.Lock)
        {
            cancellationToken = _flush!.State.End(token);
            result = TakeResult();
        }
        if (result.IsCanceled)
            cancellationToken.ThrowIfCancellationRequested();
        return result;
    }

    ValueTaskSourceStatus IValueTaskSource<FlushResult>.GetStatus(short token) => _flush!.State.GetStatus(token);

    void IValueTaskSource<FlushResult>.OnCompleted(
        Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _flush!.State.OnCompleted(continuation, state, token, flags);

    /// <summary>
    /// The block being written when it has the room: the memory handed out last starts where that of now does.
    /// </summary>
    private Block BlockWithRoom(int sizeHint)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(sizeHint);
        return _current is { } current && _currentEnd - current.End >= Math.Max(sizeHint, MinimumRoom)
            ? current
            : TakeBlock(sizeHint);
    }

    private Block TakeBlock(int sizeHint)
    {
        Block taken;
        lock (_owner.Lock)
        {
            if (_writerCompleted)
                throw WritingNotAllowed();
            if (_current is { } current)
            {
                if (current.Length > 0)
                    _unflushed.Enqueue(current);
                else
                    Release(current);
            }
            _current = taken = TakeFrame(sizeHint) ?? TakeHeapBlock(sizeHint);
        }
        TellReturned();
        return taken;
    }

    private Block? TakeFrame(int sizeHint)
    {
        FramePool frames = _owner.Memory.Frames;
        PipeSettings settings = _owner.Settings;
        int segment = Math.Min(_queue.Mss, frames.PayloadCapacity);
        bool fits = sizeHint <= segment && segment >= SmallestFramedSegment;
        if (!settings.UseFrames || _closed || !fits || _queue.Frames >= settings.TransmitFrames)
            return null;
        Block? frame = frames.TryTakeForWriting();
        if (frame is not null)
        {
            _queue.Frames++;
            _currentEnd = frame.Start + segment;
        }
        return frame;
    }

    private Block TakeHeapBlock(int sizeHint)
    {
        Block block = _owner.Memory.Blocks.Take(Math.Max(sizeHint, MinimumRoom));
        _currentEnd = block.Capacity;
        return block;
    }

    /// <summary>Flushes the written blocks; true when the queue has to be told. Under the lock.</summary>
    private bool Commit()
    {
        // A block that holds nothing stays: its memory was handed out, and may be written to after the flush as well as
        // before.
        Block? current = _current is { Length: > 0 } written ? written : null;
        if (current is not null)
            _current = null;
        if (_closed)
        {
            if (current is not null)
                _unflushed.Enqueue(current);
            _framesReturned |= !_unflushed.IsEmpty;
            _unflushed.ReturnAll();
            return false;
        }
        if (current is not null)
        {
            if (_unflushed.IsEmpty && current.Length <= CoalesceLimit && PendingTailRoom >= current.Length)
            {
                _queue.Pending.AppendToTail(current.Bytes);
                Release(current);
            }
            else
            {
                _unflushed.Enqueue(current);
            }
        }
        else if (_unflushed.IsEmpty)
        {
            return false;
        }
        _queue.Pending.Append(ref _unflushed);
        if (Waiting >= _owner.Settings.PauseOutputAt)
            _paused = true;
        return true;
    }

    /// <summary>Flushed bytes that the stack's send buffer has no room for, as with sockets the pipe's are.</summary>
    private long Waiting =>
        Math.Max(0, _queue.Pending.Bytes + _queue.StackUnacknowledged - _queue.StackBuffer);

    /// <summary>Bytes that the last flushed block may grow by and still be one segment.</summary>
    private int PendingTailRoom => _queue.Pending.Tail switch
    {
        null => 0,
        { IsFrame: true } frame => Math.Min(_queue.Mss - frame.Length, frame.Room),
        { } block => block.Room,
    };

    /// <summary>Under the lock.</summary>
    private ValueTask<FlushResult> CompleteOrBegin(CancellationToken cancellationToken)
    {
        if (_flush is { State.InFlight: true })
            throw new InvalidOperationException("A flush is already in progress.");
        if (!_paused || _flush is { State.Cancelled: true })
            return new ValueTask<FlushResult>(TakeResult());
        _flush ??= new FlushOperation();
        return new ValueTask<FlushResult>(this, _flush.State.Begin(cancellationToken, s_onFlushCancelled, this));
    }

    /// <summary>Under the lock.</summary>
    private FlushResult TakeResult()
    {
        if (_fault is not null)
            _fault.Throw();
        return new FlushResult(_flush is not null && _flush.State.ObserveCancellation(), _closed);
    }

    /// <summary>Frees a block that holds nothing, or nothing any more. Under the lock.</summary>
    private void Release(Block block)
    {
        if (block.IsFrame)
        {
            _queue.Frames--;
            _framesReturned = true;
        }
        block.Return();
    }

    /// <summary>FILL may wait for the frames that this writer gave back. Not under the lock.</summary>
    private void TellReturned()
    {
        if (!_framesReturned)
            return;
        _framesReturned = false;
        _owner.Memory.FramesReturned();
    }

    private void OnFlushCancelled(CancellationToken token)
    {
        bool claimed;
        lock (_owner.Lock)
            claimed = _flush!.State.Cancel(token);
        if (claimed)
            Schedule();
    }

    private static ArgumentOutOfRangeException TooManyBytes(int bytes) =>
        new(nameof(bytes), bytes, "More than the memory that was handed out.");

    private static InvalidOperationException WritingNotAllowed() =>
        new("Writing is not allowed after the writer was completed.");
}

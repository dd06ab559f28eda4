using System.IO.Pipelines;
using System.Runtime.ExceptionServices;
using System.Threading.Tasks.Sources;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal;

/// <summary>
/// A connection's Output: hands out the payload area of UMEM frames, which the driver sends from, or heap blocks. This file is the
/// application's side; <c>XdpPipeWriter.Queue.cs</c> is the queue's. Both work under the connection's lock.
/// </summary>
/// <remarks>
/// A block goes from <c>_current</c> (being written) to <c>_unflushed</c> (full) to <c>_pending</c> (flushed) to the stack. Up to the flush it is the
/// writer's own: whatever becomes of the connection, only calls on the writer free it, since the application may be writing into it.
/// From the flush on it is the queue's. Once the connection takes no more output, what is flushed is dropped and flushes say <c>IsCompleted</c>.
/// </remarks>
internal sealed partial class XdpPipeWriter : PipeWriter, IValueTaskSource<FlushResult>, IThreadPoolWorkItem
{
    /// <summary>
    /// The least room that is handed out. Kestrel writes a chunk's header, up to 10 bytes, without asking for it; less room than
    /// that makes it throw. More wastes the end of a segment.
    /// </summary>
    private const int MinimumRoom = 16;

    /// <summary>Segments smaller than this are not worth a frame each.</summary>
    private const int SmallestFramedSegment = 256;

    /// <summary>
    /// Bytes up to which a flush is copied behind the flushed data before it. It saves a frame and a segment with its headers, for
    /// 17–34 ns a full segment.
    /// </summary>
    private const int CoalesceLimit = 1024;

    private static readonly Action<object?, CancellationToken> s_onFlushCancelled =
        static (state, token) => ((XdpPipeWriter)state!).OnFlushCancelled(token);

    private readonly XdpConnection _connection;

    private Block? _current;
    private int _currentEnd;
    private BlockQueue _unflushed;
    private bool _writerCompleted;
    private bool _framesReturned;

    /// <summary>Made for the first flush that waits or is cancelled, which few connections ever have.</summary>
    private FlushOperation? _flush;

    private sealed class FlushOperation
    {
        public PipeOperation State;
    }

    public XdpPipeWriter(XdpConnection connection, int mss)
    {
        _connection = connection;
        _queue.Mss = mss;
    }

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
        lock (_connection.Gate)
        {
            if (_closed && !_writerCompleted)
                return;
            int room = _current is null ? 0 : _currentEnd - _current.End;
            if ((uint)bytes > (uint)room)
                throw new ArgumentOutOfRangeException(nameof(bytes), bytes, "More than the memory that was handed out.");
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
        lock (_connection.Gate)
        {
            flushed = Commit();
            result = CompleteOrBegin(cancellationToken);
        }
        TellReturned();
        if (flushed)
            _connection.Signal(ConnectionWork.Output);
        return result;
    }

    public override ValueTask<FlushResult> WriteAsync(ReadOnlyMemory<byte> source, CancellationToken cancellationToken = default)
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
        lock (_connection.Gate)
            claimed = (_flush ??= new FlushOperation()).State.Cancel();
        if (claimed)
            Schedule();
    }

    /// <summary>Flushes what was written and has FIN follow; with an exception, aborts the connection instead.</summary>
    public override void Complete(Exception? exception = null)
    {
        lock (_connection.Gate)
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
        if (exception is null)
            _connection.Signal(ConnectionWork.Output | ConnectionWork.Close);
        else
            _connection.Shutdown(exception);
    }

    /// <summary>Runs what awaits the flush that the caller has claimed.</summary>
    public void Execute() => _flush!.State.Run();

    /// <summary>Has the pool run what awaits the flush that the caller has claimed.</summary>
    public void Schedule() => ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);

    FlushResult IValueTaskSource<FlushResult>.GetResult(short token)
    {
        CancellationToken cancellationToken;
        FlushResult result;
        lock (_connection.Gate)
        {
            cancellationToken = _flush!.State.End(token);
            result = TakeResult();
        }
        if (result.IsCanceled)
            cancellationToken.ThrowIfCancellationRequested();
        return result;
    }

    ValueTaskSourceStatus IValueTaskSource<FlushResult>.GetStatus(short token) => _flush!.State.GetStatus(token);

    void IValueTaskSource<FlushResult>.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _flush!.State.OnCompleted(continuation, state, token, flags);

    /// <summary>The block being written when it has the room: the memory handed out last starts where that of now does.</summary>
    private Block BlockWithRoom(int sizeHint)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(sizeHint);
        return _current is { } current && _currentEnd - current.End >= Math.Max(sizeHint, MinimumRoom) ? current : TakeBlock(sizeHint);
    }

    private Block TakeBlock(int sizeHint)
    {
        Block taken;
        lock (_connection.Gate)
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
        FramePool frames = _connection.Host.Frames;
        XdpConnectionSettings settings = _connection.Settings;
        int segment = Math.Min(_queue.Mss, frames.PayloadCapacity);
        if (!settings.UseFrames || _closed || sizeHint > segment || segment < SmallestFramedSegment || _queue.Frames >= settings.TransmitFrames)
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
        Block block = _connection.Host.Blocks.Take(Math.Max(sizeHint, MinimumRoom));
        _currentEnd = block.Capacity;
        return block;
    }

    /// <summary>Flushes the written blocks; true when the queue has to be told. Under the lock.</summary>
    private bool Commit()
    {
        // A block that holds nothing stays: its memory was handed out, and may be written to after the flush as well as before.
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
        if (_queue.Pending.Bytes + _queue.StackUnsent >= _connection.Settings.PauseOutputAt)
            _paused = true;
        return true;
    }

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
        _connection.Host.FramesReturned();
    }

    private void OnFlushCancelled(CancellationToken token)
    {
        bool claimed;
        lock (_connection.Gate)
            claimed = _flush!.State.Cancel(token);
        if (claimed)
            Schedule();
    }

    private static InvalidOperationException WritingNotAllowed() => new("Writing is not allowed after the writer was completed.");
}

using System.IO.Pipelines;
using System.Runtime.ExceptionServices;
using System.Threading.Tasks.Sources;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal;

/// <summary>
/// A connection's Input: shows the blocks that the stack delivered, UMEM frames among them, as one sequence. This file is the application's
/// side, for any thread; <c>XdpPipeReader.Queue.cs</c> is the queue's. Both work under the connection's lock.
/// </summary>
/// <remarks>
/// Positions are running indices: bytes since the connection began.
/// <c>_consumed ≤ _examined ≤ _received</c>; the chain holds the bytes from <c>_consumed</c> to <c>_received</c>, its first block
/// perhaps some consumed ones as well (<c>_headOffset</c>). Blocks up to <c>_exposed</c> have been made segments of a sequence; the
/// queue may append to the last one's memory meanwhile, behind what was exposed of it.
/// Bytes are counted against <c>MaxReadBufferSize</c> and the receive window until they have been examined, as
/// <see cref="Pipe"/> counts them, so a reader may hold any number of them.
/// </remarks>
internal sealed partial class XdpPipeReader : PipeReader, IValueTaskSource<ReadResult>, IThreadPoolWorkItem
{
    private static readonly Action<object?, CancellationToken> s_onReadCancelled =
        static (state, token) => ((XdpPipeReader)state!).OnReadCancelled(token);

    private readonly XdpConnection _connection;

    private BlockQueue _chain;
    private int _headOffset;
    private Block? _exposed;
    private long _consumed;
    private long _examined;
    private long _received;
    private int _frames;

    /// <summary>Examined bytes that the queue has not taken to open the receive window, which is never more than 1 GiB.</summary>
    private int _unreleased;
    private Reading _reading;
    private bool _paused;
    private bool _readerCompleted;
    private bool _writerCompleted;
    private ExceptionDispatchInfo? _fault;
    private PipeOperation _read;

    private enum Reading : byte
    {
        None,

        /// <summary>A read was asked for and gave nothing yet: <see cref="AdvanceTo(SequencePosition)"/> is allowed.</summary>
        Tentative,

        /// <summary>The result of a cancelled read is out: <see cref="AdvanceTo(SequencePosition)"/> is allowed, and another read as well.</summary>
        Cancelled,

        /// <summary>A result is out, and must be advanced before the next read.</summary>
        Active,
    }

    public XdpPipeReader(XdpConnection connection) => _connection = connection;

    public override ValueTask<ReadResult> ReadAsync(CancellationToken cancellationToken = default)
    {
        if (cancellationToken.IsCancellationRequested)
        {
            ThrowIfCompleted();
            return ValueTask.FromCanceled<ReadResult>(cancellationToken);
        }
        lock (_connection.Gate)
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
        lock (_connection.Gate)
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
        lock (_connection.Gate)
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
            _unreleased += (int)(examinedTo - _examined);
            _examined = examinedTo;
            int framesBefore = _frames;
            Consume(consumedTo, ref finished);
            if (_frames > 0 && MustSpill)
                Spill(ref finished);
            framesReturned = _frames != framesBefore;

            // Bytes examined below the threshold are released when the queue next visits the connection. Nothing waits for that:
            // the window is short by less than an eighth, so the peer goes on sending, which is a visit.
            bool resume = _paused && _received - _examined < _connection.Settings.ResumeInputBelow;
            if (resume)
                _paused = false;
            post = resume || _unreleased >= _connection.Settings.WindowUpdateBytes;
        }
        finished.ReturnAll();
        if (framesReturned)
            _connection.Host.FramesReturned();
        if (post)
            _connection.Signal(ConnectionWork.Window);
    }

    public override void CancelPendingRead()
    {
        bool claimed;
        lock (_connection.Gate)
            claimed = _read.Cancel();
        if (claimed)
            Schedule();
    }

    public override void Complete(Exception? exception = null)
    {
        BlockQueue finished;
        bool framesReturned;
        bool open;
        lock (_connection.Gate)
        {
            if (_readerCompleted)
                return;
            _readerCompleted = true;
            _reading = Reading.None;
            finished = TakeChain(out framesReturned);
            _unreleased += (int)(_received - _examined);
            _examined = _consumed = _received;
            _paused = false;
            open = !_writerCompleted;
        }
        finished.ReturnAll();
        if (framesReturned)
            _connection.Host.FramesReturned();
        if (open)
            _connection.Signal(ConnectionWork.CloseReceive);
    }

    /// <summary>Runs what awaits the read that the caller has claimed.</summary>
    public void Execute() => _read.Run();

    /// <summary>Has the pool run what awaits the read that the caller has claimed.</summary>
    public void Schedule() => ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);

    ReadResult IValueTaskSource<ReadResult>.GetResult(short token)
    {
        CancellationToken cancellationToken;
        ReadResult result;
        lock (_connection.Gate)
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

    void IValueTaskSource<ReadResult>.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
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

    /// <summary>Makes segments of the blocks, or of the part of the last one, that came since the last result.</summary>
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
    /// A reader that has seen all there is may stay away for ever, and an idle connection holds no frame. One that left something unexamined comes back for
    /// it, and may keep its frames while they are not needed elsewhere.
    /// </summary>
    private bool MustSpill => _received == _examined || _frames > _connection.Settings.ReceiveFrames || UnderPressure;

    private bool UnderPressure
    {
        get
        {
            FramePool frames = _connection.Host.Frames;
            return frames.ApplicationCount * 2 > frames.FrameCount;
        }
    }

    /// <summary>Copies what is left in frames to heap blocks, as far as those can be had. No result is outstanding.</summary>
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
                target = bytes.Length <= BlockPool.BlockSize ? _connection.Host.Blocks.TryTake() : null;
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
        lock (_connection.Gate)
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

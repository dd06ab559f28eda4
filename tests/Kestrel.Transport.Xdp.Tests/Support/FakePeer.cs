using System.IO.Pipelines;
using System.Net.Sockets;
using Kestrel.Transport.Xdp.Internal.Connections;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Tests.Support;

/// <summary>
/// The other end of a connection, with a TCP in between that loses nothing and keeps windows. Bytes of the peer stay
/// with it until the connection has room for them in <see cref="ReceiveBuffer"/>. Bytes written to the peer stay unsent
/// while it has <see cref="SendWindow"/> bytes unread.
/// </summary>
internal sealed class FakePeer(FakeQueue queue, XdpConnection connection, bool receiveIntoFrames)
{
    public const int Mss = 1448;

    private readonly Pipe _toPeer = new(new PipeOptions(pauseWriterThreshold: 0, useSynchronizationContext: false));
    private readonly Queue<byte[]> _backlog = new();
    private int _backlogOffset;
    private bool _finQueued;
    private bool _finSent;
    private bool _dead;
    private BlockQueue _readable;
    private BlockQueue _unsent;
    private long _outstanding;
    private long _unread;
    private TcpEvents _events;

    public XdpConnection Connection { get; } = connection;
    public FakeTcp Tcp => new(this);

    /// <summary>Bytes of the peer's that the connection's side may hold without having released them.</summary>
    public long ReceiveBuffer { get; set; } = 128 << 10;

    public long SendWindow { get; set; } = 256 << 10;

    /// <summary>Unsent bytes that do not count against the pipe.</summary>
    public long SendBuffer { get; set; }

    /// <summary>Bytes in the segments to come.</summary>
    public int SegmentSize { get; set; } = Mss;

    /// <summary>The block lengths of all that the connection wrote.</summary>
    public List<int> WrittenBlocks { get; } = [];
    public bool WroteFrames { get; private set; }
    public bool Closed { get; private set; }
    public bool Aborted { get; private set; }
    public long Released { get; private set; }
    public long MostOutstanding { get; private set; }
    public long Outstanding => _outstanding;

    /// <summary>Bytes in the pipe that were not examined, as the connection's side has said last.</summary>
    public long Kept { get; private set; }
    public bool HoldsBacklog => _backlog.Count > 0;

    // ---- the peer's application, any thread

    public void Send(ReadOnlySpan<byte> bytes)
    {
        byte[] copy = bytes.ToArray();
        queue.Turn(() =>
        {
            if (copy.Length > 0)
                _backlog.Enqueue(copy);
            Pump();
        });
    }

    public void SendFin() => queue.Turn(() =>
    {
        _finQueued = true;
        Pump();
    });

    /// <summary>The last bytes and the FIN arrive in one turn.</summary>
    public void SendWithFin(ReadOnlySpan<byte> bytes)
    {
        byte[] copy = bytes.ToArray();
        queue.Turn(() =>
        {
            _backlog.Enqueue(copy);
            _finQueued = true;
            Pump();
        });
    }

    public void SendReset() => queue.Turn(() =>
    {
        End(TcpEvents.Reset | TcpEvents.Closed);
        _toPeer.Writer.Complete();
    });

    public void TimeOut() => queue.Turn(() =>
    {
        End(TcpEvents.TimedOut | TcpEvents.Closed);
        _toPeer.Writer.Complete();
    });

    public void Raise(TcpEvents events) => queue.Turn(() => _events |= events);

    /// <summary>Some bytes, or none after a FIN; throws after a RST.</summary>
    public async ValueTask<int> ReceiveAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        ReadResult result = await _toPeer.Reader.ReadAsync(cancellationToken);
        int count = (int)Math.Min(buffer.Length, result.Buffer.Length);
        System.Buffers.BuffersExtensions.CopyTo(result.Buffer.Slice(0, count), buffer.Span);
        _toPeer.Reader.AdvanceTo(result.Buffer.GetPosition(count));
        if (count > 0)
            queue.Turn(() => _unread -= count);
        return count;
    }

    public Stream AsStream() => new PeerStream(this);

    // ---- the TCP, inside a turn

    public TcpEvents TakeEvents()
    {
        TcpEvents events = _events;
        _events = TcpEvents.None;
        return events;
    }

    /// <summary>Sends what the window takes.</summary>
    public void Emit()
    {
        bool sent = false;
        while (_unsent.Head is { } block && _unread < SendWindow)
        {
            _unsent.Dequeue();
            System.Buffers.BuffersExtensions.Write<byte>(_toPeer.Writer, block.Bytes);
            _unread += block.Length;
            block.Return();
            sent = true;
        }
        if (sent)
        {
            _ = _toPeer.Writer.FlushAsync().AsTask();
            _events |= TcpEvents.Sent | (_unsent.IsEmpty ? TcpEvents.AllAcknowledged : 0);
        }
        if (Closed && _unsent.IsEmpty && !_dead)
        {
            _toPeer.Writer.Complete();
            End(TcpEvents.Closed);
        }
    }

    private void Pump()
    {
        while (!_dead && !Closed && _backlog.TryPeek(out byte[]? bytes))
        {
            int count = Math.Min(SegmentSize, bytes.Length - _backlogOffset);
            if (_outstanding + count > ReceiveBuffer)
                return;
            Block block = TakeBlock();
            count = block.Append(bytes.AsSpan(_backlogOffset, count));
            _readable.Enqueue(block);
            _outstanding += count;
            MostOutstanding = Math.Max(MostOutstanding, _outstanding);
            _events |= TcpEvents.Readable;
            _backlogOffset += count;
            if (_backlogOffset == bytes.Length)
            {
                _backlog.Dequeue();
                _backlogOffset = 0;
            }
        }
        if (_finQueued && !_finSent && !_dead && _backlog.Count == 0)
        {
            _finSent = true;
            _events |= TcpEvents.PeerClosed;
        }
    }

    private Block TakeBlock()
    {
        if (receiveIntoFrames && queue.Frames.TryTakeForFill() is { } frame)
        {
            queue.Frames.Received(frame);
            FramePoolAccess.Delivered(queue.Frames, frame);
            // Behind headroom and headers.
            frame.Start = 310;
            return frame;
        }
        return queue.Blocks.Take();
    }

    private void End(TcpEvents events)
    {
        _dead = true;
        _readable.ReturnAll();
        _unsent.ReturnAll();
        _backlog.Clear();
        _events |= events;
    }

    public readonly struct FakeTcp(FakePeer peer) : ITcp
    {
        public long ReadableBytes => peer._readable.Bytes;
        public long UnsentBytes => peer._unsent.Bytes;
        public long UnacknowledgedBytes => peer._unsent.Bytes;

        public long SendBuffer => peer.SendBuffer;

        public int EffectiveMss => Mss;

        public BlockQueue TakeReceived(long maxBytes)
        {
            BlockQueue taken = default;
            while (taken.Bytes < maxBytes && peer._readable.Dequeue() is { } block)
                taken.Enqueue(block);
            return taken;
        }

        public void ReleaseWindow(long bytes, long kept)
        {
            Assert.True(bytes >= 0 && kept >= 0);
            if (peer.Closed)
                return;
            peer.Kept = kept;
            peer._outstanding -= bytes;
            Assert.True(peer._outstanding >= peer._readable.Bytes, "more was released than was taken");
            peer.Released += bytes;
            peer.Pump();
        }

        public void Write(ref BlockQueue data)
        {
            if (peer.Closed || peer._dead)
            {
                data.ReturnAll();
                return;
            }
            for (Block? block = data.Head; block is not null; block = block.Next)
            {
                peer.WrittenBlocks.Add(block.Length);
                peer.WroteFrames |= block.IsFrame;
            }
            peer._unsent.Append(ref data);
        }

        public void Close()
        {
            peer.Closed = true;
            peer._outstanding = 0;
            peer._readable.ReturnAll();
            peer._backlog.Clear();
        }

        public void Abort()
        {
            if (peer._dead)
                return;
            peer.Aborted = true;
            peer._toPeer.Writer.Complete(new SocketException((int)SocketError.ConnectionReset));
            peer.End(TcpEvents.Closed);
        }

        public TcpConnectionInfo GetInfo(Instant now) => new()
        {
            State = TcpState.Established,
            SndMss = Mss,
            Unsent = UnsentBytes,
        };
    }
}

/// <summary>A <see cref="FakePeer"/> as a client's stream.</summary>
internal sealed class PeerStream(FakePeer peer) : Stream
{
    public override bool CanRead => true;
    public override bool CanWrite => true;
    public override bool CanSeek => false;
    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    public override void Flush()
    {
    }

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        try
        {
            return await peer.ReceiveAsync(buffer, cancellationToken);
        }
        catch (SocketException exception)
        {
            throw new IOException(exception.Message, exception);
        }
    }

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override int Read(byte[] buffer, int offset, int count) =>
        ReadAsync(buffer, offset, count, default).GetAwaiter().GetResult();

    public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        peer.Send(buffer.Span);
        return ValueTask.CompletedTask;
    }

    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override void Write(byte[] buffer, int offset, int count) => peer.Send(buffer.AsSpan(offset, count));

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        if (disposing)
            peer.SendFin();
    }
}

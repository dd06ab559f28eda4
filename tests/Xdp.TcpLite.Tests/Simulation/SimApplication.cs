namespace Xdp.TcpLite.Tests.Simulation;

/// <summary>
/// One end of a connection: writes <paramref name="toSend"/> bytes of a pattern keyed by <paramref name="key"/>, reads
/// and checks the pattern of the other end's key, shuts down when done.
/// </summary>
internal sealed class SimApplication(SimHost host, TcpConnection connection, int key, int peerKey, long toSend)
{
    private long _written;

    internal TcpConnection Connection { get; } = connection;
    internal long Received { get; private set; }
    internal bool PeerClosed { get; private set; }
    internal bool Closed { get; private set; }
    internal TcpEvents Seen { get; private set; }

    /// <summary>Bytes read at a time, about; few make a slow reader.</summary>
    internal long MostPerRead { get; init; } = long.MaxValue;

    /// <summary>Bytes written at a time, at most.</summary>
    internal int WriteSize { get; init; } = 16 << 10;

    /// <summary>Written and unacknowledged bytes above which it waits.</summary>
    internal long SendBuffer { get; init; } = 1 << 20;

    /// <summary>Writes into frames, as the transport's writer does; otherwise into heap blocks.</summary>
    internal bool UseFrames { get; init; }

    internal bool ShutdownWhenDone { get; init; } = true;

    internal static byte Pattern(int key, long offset) =>
        (byte)((offset * 31 + key * 7) ^ (offset >> 8) ^ (offset >> 16));

    internal void Step(TcpEvents events)
    {
        Seen |= events;
        if ((events & TcpEvents.PeerClosed) != 0)
            PeerClosed = true;
        if ((events & TcpEvents.Closed) != 0)
            Closed = true;
        if ((events & (TcpEvents.Reset | TcpEvents.TimedOut)) != 0 && Connection.ReadableBytes > 0)
        {
            throw new InvalidDataException(
                $"{host.Name}: {Connection.ReadableBytes} bytes are left to read after {events}");
        }
        Read();
        Write();
    }

    private void Read()
    {
        BlockQueue received = Connection.TakeReceived(Closed ? long.MaxValue : MostPerRead);
        long bytes = received.Bytes;
        while (received.Dequeue() is { } block)
        {
            foreach (byte actual in block.Bytes)
            {
                byte expected = Pattern(peerKey, Received);
                if (actual != expected)
                    throw new InvalidDataException(
                        $"{host.Name}: byte {Received} of the flow keyed {peerKey} is {actual}, not {expected}");
                Received++;
            }
            block.Return();
        }
        if (bytes > 0)
            Connection.ReleaseWindow(bytes);
    }

    private void Write()
    {
        if (Connection.State is TcpState.SynSent or TcpState.SynReceived or TcpState.Closed)
            return;
        while (_written < toSend && Connection.UnacknowledgedBytes < SendBuffer)
        {
            BlockQueue data = default;
            int left = (int)Math.Min(WriteSize, toSend - _written);
            while (left > 0)
            {
                Block block = Take();
                int count = Math.Min(left, block.IsFrame ? Connection.EffectiveMss : block.Room);
                Span<byte> span = block.Span.Slice(block.Start, count);
                for (int i = 0; i < count; i++)
                    span[i] = Pattern(key, _written + i);
                block.Length = count;
                data.Enqueue(block);
                _written += count;
                left -= count;
            }
            Connection.Write(ref data);
        }
        if (_written == toSend && ShutdownWhenDone)
            Connection.Shutdown();
    }

    private Block Take() => (UseFrames ? host.Frames.TryTakeForWriting() : null) ?? host.Blocks.Take();
}

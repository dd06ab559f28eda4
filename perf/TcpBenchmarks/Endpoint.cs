using System.Net;
using Xdp.TcpLite;

namespace TcpBenchmarks;

/// <summary>
/// One stack and its memory. As with a driver, each packet is copied to a frame of the stack that receives it.
/// </summary>
internal sealed class Endpoint
{
    private const int FrameSize = 2048;
    private const int FrameCount = 8192;
    private const int Headroom = 256;

    private readonly TxPacket[] _packets = new TxPacket[64];
    private readonly FramePool _frames = new(
        GC.AllocateArray<byte>(FrameCount * FrameSize, pinned: true), FrameSize, FrameCount, FrameCount / 2);

    private readonly BlockPool _blocks = new();

    internal Endpoint(string address, ulong mac, bool forceHeap)
    {
        Address = IpAddr.From(IPAddress.Parse(address));
        Mac = mac;
        Stack = new TcpStack(
            new TcpStackOptions { ForceHeap = forceHeap, AcceptPartialChecksum = false },
            _frames,
            _blocks,
            new byte[32],
            default);
    }

    internal IpAddr Address { get; }
    internal ulong Mac { get; }
    internal TcpStack Stack { get; }
    internal BlockPool Blocks => _blocks;
    internal FramePool Frames => _frames;

    /// <summary>Sends everything there is to <paramref name="peer"/>; returns the number of segments.</summary>
    internal int Exchange(Endpoint peer, Instant now)
    {
        int total = 0;
        int count;
        do
        {
            count = Stack.Emit(_packets, now);
            foreach (ref TxPacket packet in _packets.AsSpan(0, count))
            {
                peer.Receive(packet.Frame.Span.Slice(packet.Start, packet.Length), now);
                _frames.Completed(packet.Frame);
            }
            total += count;
        }
        while (count == _packets.Length);
        return total;
    }

    private void Receive(ReadOnlySpan<byte> packet, Instant now)
    {
        Block frame = _frames.TryTakeForFill() ?? throw new InvalidOperationException("out of frames");
        packet.CopyTo(frame.Span[Headroom..]);
        _frames.Received(frame);
        if (Stack.Receive(frame, Headroom, packet.Length, now, out _) != ReceiveResult.Kept)
            frame.Return();
    }

    /// <summary>Reads what has arrived, and answers on each connection with <paramref name="length"/> bytes.</summary>
    /// <returns>The number of connections on which something had arrived.</returns>
    internal int Answer(int length)
    {
        int answers = 0;
        while (Stack.TryTakeReady(out TcpConnection? connection))
        {
            TcpEvents events = connection.TakeEvents();
            if ((events & TcpEvents.Readable) == 0)
                continue;
            BlockQueue received = connection.TakeReceived(long.MaxValue);
            connection.ReleaseWindow(received.Bytes);
            received.ReturnAll();
            Send(connection, length);
            answers++;
        }
        return answers;
    }

    internal void Send(TcpConnection connection, int length)
    {
        Block block = _frames.TryTakeForWriting() ?? _blocks.Take();
        block.Length = length;
        BlockQueue data = default;
        data.Enqueue(block);
        connection.Write(ref data);
    }
}

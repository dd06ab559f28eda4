using System.Net;
using Xdp.TcpLite;

namespace TwoStacks;

/// <summary>What a host does for a stack: it has the memory, carries packets, and takes events.</summary>
internal sealed class Host
{
    private const int FrameSize = 2048;
    private const int FrameCount = 256;

    private readonly FramePool _frames =
        new(new byte[FrameCount * FrameSize], FrameSize, FrameCount, receiveReserve: FrameCount / 2);
    private readonly BlockPool _blocks = new();
    private readonly TxPacket[] _packets = new TxPacket[16];

    internal Host(string address, Instant now)
    {
        Address = IpAddr.From(IPAddress.Parse(address));
        // A real host takes the secret from a random source.
        Stack = new TcpStack(new TcpStackOptions { Link = LinkType.Ip }, _frames, _blocks, new byte[32], now);
    }

    internal IpAddr Address { get; }
    internal TcpStack Stack { get; }

    /// <summary>Frames and blocks that have not come home.</summary>
    internal int Outstanding => _frames.FrameCount - _frames.FreeCount + _blocks.InUse;

    /// <summary>In: each packet arrives in a frame. The stack keeps it, or it is returned.</summary>
    internal void Receive(ReadOnlySpan<byte> packet, Instant now)
    {
        Block? frame = _frames.TryTakeForFill();
        if (frame is null)
            return;
        packet.CopyTo(frame.Span);
        _frames.Received(frame);
        ReceiveResult result = Stack.Receive(frame, start: 0, packet.Length, now, out _);
        if (result == ReceiveResult.UnknownFlow)
            Stack.Refuse(frame, start: 0, packet.Length, now);
        if (result != ReceiveResult.Kept)
            frame.Return();
    }

    /// <summary>
    /// Out: takes packets until the stack has no more. Each frame counts as being with the driver until it is reported
    /// completed.
    /// </summary>
    internal bool Emit(Instant now, Action<ReadOnlySpan<byte>> send)
    {
        int count = Stack.Emit(_packets, now);
        foreach (TxPacket packet in _packets.AsSpan(0, count))
        {
            send(packet.Frame.Span.Slice(packet.Start, packet.Length));
            _frames.Completed(packet.Frame);
        }
        return count > 0;
    }

    internal void Write(TcpConnection connection, ReadOnlySpan<byte> data)
    {
        Block block = _blocks.Take(data.Length);
        block.Append(data);
        BlockQueue queue = default;
        queue.Enqueue(block);
        connection.Write(ref queue);
    }

    internal byte[] Read(TcpConnection connection)
    {
        var bytes = new List<byte>();
        BlockQueue received = connection.TakeReceived(long.MaxValue);
        connection.ReleaseWindow(received.Bytes);
        while (received.Dequeue() is { } block)
        {
            bytes.AddRange(block.Bytes);
            block.Return();
        }
        return [.. bytes];
    }
}

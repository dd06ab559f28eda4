namespace Xdp.TcpLite.Tests;

/// <summary>Packets that lie in several blocks.</summary>
internal static class Chains
{
    private const int Headroom = 256;

    /// <summary>In frames, each in state Rx. Null when there are not enough of them.</summary>
    internal static BlockQueue? Cut(ReadOnlySpan<byte> packet, FramePool frames, int first, int others)
    {
        BlockQueue chain = default;
        for (int length = first; !packet.IsEmpty; length = others)
        {
            if (frames.TryTakeForFill() is not { } frame)
            {
                chain.ReturnAll();
                return null;
            }
            frames.Received(frame);
            length = Math.Min(length, packet.Length);
            packet[..length].CopyTo(frame.Span[Headroom..]);
            (frame.Start, frame.Length) = (Headroom, length);
            chain.Enqueue(frame);
            packet = packet[length..];
        }
        return chain;
    }

    /// <summary>In heap blocks.</summary>
    internal static BlockQueue Cut(ReadOnlySpan<byte> packet, BlockPool blocks, params ReadOnlySpan<int> lengths)
    {
        BlockQueue chain = default;
        foreach (int length in lengths)
        {
            Block block = blocks.Take();
            block.Append(packet[..length]);
            chain.Enqueue(block);
            packet = packet[length..];
        }
        Assert.True(packet.IsEmpty);
        return chain;
    }
}

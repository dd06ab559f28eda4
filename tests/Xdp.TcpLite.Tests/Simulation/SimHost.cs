namespace Xdp.TcpLite.Tests.Simulation;

/// <summary>A stack with its memory, and what a host does with it: feeds it, drains it, takes its events.</summary>
internal sealed class SimHost
{
    internal const int FrameSize = 2048;

    private readonly Queue<Block> _inKernel = new();

    internal SimHost(
        string name, IpAddr address, ulong mac, TcpStackOptions options, int frames = 4096, byte secret = 1,
        int? receiveReserve = null, long heap = 256 << 20, IRoutes? routes = null)
    {
        Name = name;
        Address = address;
        Mac = mac;
        Frames = new FramePool(new byte[frames * FrameSize], FrameSize, frames, receiveReserve ?? frames / 2)
        {
            Poison = true,
        };
        Blocks = new BlockPool(heap) { Poison = true };
        byte[] key = new byte[32];
        Array.Fill(key, secret);
        Stack = new TcpStack(options, Frames, Blocks, key, default) { Routes = routes };
    }

    internal string Name { get; }
    internal IpAddr Address { get; }
    internal ulong Mac { get; }
    internal FramePool Frames { get; }
    internal BlockPool Blocks { get; }
    internal TcpStack Stack { get; }

    /// <summary>
    /// Completions are reported this many packets late, so that frames stay in the kernel for a while.
    /// </summary>
    internal int CompletionLag { get; init; }

    /// <summary>Bytes of a packet that come in one frame. Larger packets come in several.</summary>
    internal int PartLength { get; init; } = FrameSize;

    /// <summary>What has become of the last packet that was delivered in one frame.</summary>
    internal ReceiveResult LastResult { get; private set; }

    /// <summary>Frames and blocks that are with somebody.</summary>
    internal int Outstanding => Frames.FrameCount - Frames.FreeCount + Blocks.InUse;

    /// <summary>
    /// Delivers a packet as the driver does: in a frame of the pool, or in several, at the offset the kernel uses.
    /// Without a free frame it is lost.
    /// </summary>
    internal void Deliver(ReadOnlySpan<byte> packet, Instant now)
    {
        if (packet.Length > PartLength)
        {
            DeliverChain(packet, now);
            return;
        }
        if (Frames.TryTakeForFill() is not { } frame)
            return;
        const int headroom = 256;
        packet.CopyTo(frame.Span[headroom..]);
        Frames.Received(frame);
        LastResult = Stack.Receive(frame, headroom, packet.Length, now, out _);
        if (LastResult == ReceiveResult.Kept)
            return;
        if (LastResult == ReceiveResult.UnknownFlow && !Stack.Refuse(frame, headroom, packet.Length, now))
            LastResult = ReceiveResult.RouteUnknown;
        frame.Return();
    }

    private void DeliverChain(ReadOnlySpan<byte> packet, Instant now)
    {
        if (Chains.Cut(packet, Frames, PartLength, PartLength) is not { } chain)
            return;
        if (Stack.ReceiveChain(ref chain, now, out _) == ReceiveResult.UnknownFlow)
            Stack.RefuseChain(chain, now);
        chain.ReturnAll();
    }

    /// <summary>Takes every segment the stack wants to send now.</summary>
    internal void Emit(Instant now, Action<byte[]> send)
    {
        Span<TxPacket> packets = new TxPacket[16];
        int count;
        do
        {
            count = Stack.Emit(packets, now);
            foreach (ref TxPacket packet in packets[..count])
            {
                send(packet.Frame.Span.Slice(packet.Start, packet.Length).ToArray());
                _inKernel.Enqueue(packet.Frame);
            }
            Complete(CompletionLag);
        }
        while (count == packets.Length);
    }

    /// <summary>Reports completions until <paramref name="leave"/> frames are left in the kernel.</summary>
    internal void Complete(int leave)
    {
        while (_inKernel.Count > leave)
            Frames.Completed(_inKernel.Dequeue());
    }
}

namespace Xdp.TcpLite.Tests.Hostile;

/// <summary>Memory that runs short: who has to give way, and who never has to.</summary>
public class MemoryTests
{
    private const int Segment = 1000;

    /// <summary>A peer that sends as much as it is invited to, to an application that reads nothing.</summary>
    private sealed class Sender
    {
        private readonly Rig _rig;
        private readonly Peer _peer;
        private int _sent;
        private long _edge;

        internal Sender(Rig rig, ushort port)
        {
            _rig = rig;
            _peer = new Peer(rig, port) { Timestamps = false };
            _peer.Connect();
            // What a SYN-ACK says is not scaled.
            _edge = ushort.MaxValue;
        }

        internal Peer Peer => _peer;

        internal int Sent => _sent;

        /// <summary>True when a segment was sent.</summary>
        internal bool Send()
        {
            if (_sent == _edge)
            {
                // The last ACK may be a delayed one.
                _rig.Milliseconds(50);
                Listen();
            }
            int length = (int)Math.Min(Segment, _edge - _sent);
            if (length <= 0)
                return false;
            _peer.Data(_sent, _sent + length);
            _sent += length;
            Listen();
            return true;
        }

        /// <summary>Notes the window, and that its right edge has not moved left.</summary>
        internal void Listen()
        {
            foreach (Seen seen in _peer.Take())
            {
                long edge = (seen.Ack - (_peer.Iss + 1)) + ((long)seen.Packet.Window << Shift);
                // By less than a unit of the scaled field it may look so (RFC 7323, section 2.4).
                Assert.True(edge > _edge - (1 << Shift), $"the right edge has gone back from {_edge} to {edge}");
                _edge = Math.Max(edge, _edge);
            }
        }

        private int Shift => SynOptions.WindowShift(_rig.Stack.Options);
    }

    private static List<Sender> Senders(Rig rig, int count) =>
        [.. Enumerable.Range(0, count).Select(i => new Sender(rig, (ushort)(40_000 + i)))];

    private static void SendAllTheyMay(List<Sender> senders)
    {
        bool any = true;
        while (any)
        {
            any = false;
            foreach (Sender sender in senders)
                any |= sender.Send();
        }
    }

    [Fact]
    public void Windows_OfConnectionsThatAreNotRead_EndBeforeMemoryDoes()
    {
        const int count = 4;
        const int heap = 1 << 20;
        var options = new TcpStackOptions { ForceHeap = true, ReceiveBufferInitial = heap, ReceiveBufferMax = heap };
        var rig = new Rig(options, heap: heap);
        List<Sender> senders = Senders(rig, count);
        SendAllTheyMay(senders);
        // All that was invited was taken.
        Assert.Equal(0, rig.Counters[DropReason.NoMemory]);
        Assert.All(senders, sender => Assert.Equal(sender.Sent, sender.Peer.Connection!.ReadableBytes));
        Assert.InRange(rig.Host.Blocks.InUse, 1, heap / BlockPool.BlockSize);
        // Whoever is new is served all the same.
        var late = new Peer(rig, port: 50_000);
        late.Connect();
        for (int i = 0; i < 20; i++)
        {
            late.Data(i * Segment, (i + 1) * Segment);
            Assert.Equal(Segment, late.Read());
        }
        // Those who are read at last go on.
        Assert.All(senders, sender => Assert.Equal(sender.Sent, sender.Peer.Read()));
        foreach (Sender sender in senders)
        {
            sender.Listen();
            for (int i = 0; i < 40; i++)
            {
                Assert.True(sender.Send());
                Assert.InRange(sender.Peer.Read(), 1, Segment);
                sender.Listen();
            }
        }
        rig.AssertFramesAddUp();
        Assert.Equal(0, rig.Host.Outstanding);
    }

    /// <summary>65 clients that send every other byte, and one whose first segment was lost.</summary>
    [Fact]
    public void OneByteRuns_OnManyConnections_ShareBlocksAndStarveNobody()
    {
        var rig = new Rig();
        for (ushort i = 0; i < 65; i++)
        {
            var peer = new Peer(rig, port: (ushort)(40_000 + i));
            peer.Connect();
            for (int from = 1; from < 2 * ReassemblyQueue.MaxRuns; from += 2)
                peer.Data(from, from + 1);
            rig.Watched.Clear();
        }
        Assert.InRange(rig.Host.Blocks.InUse, 1, 65);
        var honest = new Peer(rig, port: 50_000);
        honest.Connect();
        for (int from = 100; from < 600; from += 100)
            honest.Data(from, from + 100);
        honest.Data(0, 100);
        Assert.Equal(600, honest.Read());
    }

    /// <summary>The same with bytes enough to fill what may be ahead of gaps: the largest give way.</summary>
    [Fact]
    public void OutOfOrder_MoreThanItsShare_TheLargestArePruned()
    {
        const int heap = 1 << 20;
        var rig = new Rig(new TcpStackOptions { ForceHeap = true }, heap: heap);
        var peers = new List<Peer>();
        for (ushort i = 0; i < 12; i++)
        {
            var peer = new Peer(rig, port: (ushort)(40_000 + i));
            peer.Connect();
            peers.Add(peer);
            for (int from = Segment; from + Segment < 65_000; from += 2 * Segment)
                peer.Data(from, from + Segment);
            for (int from = 2 * Segment; from + Segment < 65_000; from += 2 * Segment)
                peer.Data(from, from + Segment);
        }
        Assert.InRange(rig.Host.Blocks.InUse * BlockPool.BlockSize, heap / 4, heap / 2);
        var honest = new Peer(rig, port: 50_000);
        honest.Connect();
        for (int from = 100; from < 600; from += 100)
            honest.Data(from, from + 100);
        honest.Data(0, 100);
        Assert.Equal(600, honest.Read());
        Assert.True(rig.Counters.OutOfOrderPrunes > 0 && rig.Counters.OutOfOrderPrunedBytes > 0);
        // What was dropped comes again, and every byte is there once.
        foreach (Peer peer in peers)
        {
            for (int from = 0; from < 64_000; from += Segment)
                peer.Data(from, from + Segment);
            Assert.Equal(64_000, peer.Read());
        }
        rig.AssertFramesAddUp();
        Assert.Equal(0, rig.Host.Outstanding);
    }

    /// <summary>Data in order takes the place of what is ahead of gaps.</summary>
    [Fact]
    public void InOrder_WhenMemoryIsFull_PrunesWhatIsAhead()
    {
        var rig = new Rig(new TcpStackOptions { ForceHeap = true }, heap: 1 << 20);
        for (ushort i = 0; i < 8; i++)
        {
            var peer = new Peer(rig, port: (ushort)(40_000 + i));
            peer.Connect();
            for (int from = Segment; from + Segment < 60_000; from += Segment)
                peer.Data(from, from + Segment);
        }
        var taken = new List<Block>();
        while (rig.Host.Blocks.InUse < 250)
            taken.Add(rig.Host.Blocks.Take());
        var good = new Peer(rig, port: 50_000);
        good.Connect();
        for (int from = 0; from < 60_000; from += Segment)
            good.Data(from, from + Segment);
        Assert.Equal(60_000, good.Read());
        Assert.True(rig.Counters.OutOfOrderPrunes > 0);
        taken.ForEach(block => block.Return());
    }

    [Fact]
    public void InOrder_UpToTheMinimum_IsTakenWhateverElseIsHeld()
    {
        var rig = new Rig(new TcpStackOptions { ForceHeap = true }, heap: 256 << 10);
        while (rig.Host.Blocks.TryTake() is not null)
        {
        }
        // No heap memory, and no frames to spare.
        var frames = new List<Block>();
        while (rig.Host.Frames.FreeCount > 80)
        {
            Block frame = rig.Host.Frames.TryTakeForFill()!;
            rig.Host.Frames.Received(frame);
            rig.Host.Frames.Delivered(frame);
            frames.Add(frame);
        }
        for (ushort i = 0; i < 20; i++)
        {
            var peer = new Peer(rig, port: (ushort)(40_000 + i));
            peer.Connect();
            for (int from = 0; from < 8 * Segment; from += Segment)
                peer.Data(from, from + Segment);
            Assert.InRange(peer.Connection!.ReadableBytes, 4 * Segment, 5 * Segment);
            // Who reads goes on.
            peer.Read();
            peer.Data(4 * Segment, 5 * Segment);
            Assert.Equal(Segment, peer.Read());
        }
        frames.ForEach(frame => frame.Return());
    }

    /// <summary>
    /// A host that offers its own room: the window grows with what the peer delivers, whether or not an application has
    /// looked at it.
    /// </summary>
    [Fact]
    public void ReleaseWindow_OfBytesThatTheHostKeeps_WindowGrowsToItsMaximum()
    {
        const int max = 1 << 20;
        var rig = new Rig(new TcpStackOptions { ReceiveBufferMax = max });
        var sender = new Sender(rig, 40_000);
        TcpConnection connection = sender.Peer.Connection!;
        BlockQueue kept = default;
        while (connection.GetInfo(rig.Now).RcvWnd < max * 9 / 10)
        {
            Assert.InRange(sender.Sent, 0, 20 * max);
            // A round trip's worth.
            for (int i = (int)(connection.GetInfo(rig.Now).RcvWnd / Segment); i > 0; i--)
            {
                Assert.True(sender.Send());
                Take(ref kept);
            }
            rig.Milliseconds(1000);
            sender.Listen();
        }
        kept.ReturnAll();

        void Take(ref BlockQueue kept)
        {
            BlockQueue taken = connection.TakeReceived(long.MaxValue);
            long bytes = taken.Bytes;
            kept.Append(ref taken);
            connection.ReleaseWindow(bytes, kept.Bytes);
            rig.Emit();
            sender.Listen();
        }
    }

    /// <summary>When memory is short, only applications that look at what they get are sent more.</summary>
    [Fact]
    public void ReleaseWindow_UnderPressure_FollowsWhatIsExamined()
    {
        var rig = new Rig(new TcpStackOptions { ForceHeap = true }, heap: 1 << 20);
        var sender = new Sender(rig, 40_000);
        TcpConnection connection = sender.Peer.Connection!;
        var held = new List<Block>();
        while (rig.Host.Blocks.InUse < 200)
            held.Add(rig.Host.Blocks.Take());
        BlockQueue kept = default;
        while (sender.Send())
        {
            BlockQueue taken = connection.TakeReceived(long.MaxValue);
            long bytes = taken.Bytes;
            kept.Append(ref taken);
            connection.ReleaseWindow(bytes, kept.Bytes);
            rig.Emit();
            sender.Listen();
        }
        // The window that the handshake gave, and no more.
        Assert.Equal(ushort.MaxValue, sender.Sent);
        Assert.Equal(1, rig.Counters.MemoryPressures);
        kept.ReturnAll();
        connection.ReleaseWindow(0, 0);
        rig.Emit();
        sender.Listen();
        int before = sender.Sent;
        while (sender.Send())
        {
        }
        Assert.Equal(new TcpStackOptions().ReceiveMinimum, sender.Sent - before);
        // Memory is there again.
        held.ForEach(block => block.Return());
        BlockQueue rest = connection.TakeReceived(long.MaxValue);
        connection.ReleaseWindow(rest.Bytes, 0);
        rest.ReturnAll();
        rig.Emit();
        sender.Listen();
        for (int i = 0; i < 40; i++)
            Assert.True(sender.Send());
    }
}

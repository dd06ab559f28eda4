namespace Xdp.TcpLite.Tests;

/// <summary>
/// What the parts of a stack share, without a stack, on virtual time. What they answer is read back from bytes.
/// </summary>
internal sealed class PartRig
{
    internal static readonly byte[] Secret = [.. Enumerable.Range(0, 32).Select(i => (byte)(i * 7))];

    private static readonly FlowKey s_flow = SegmentBuilder.FlowV4;

    private readonly byte[] _frame = new byte[2048];

    internal PartRig(TcpStackOptions? options = null)
    {
        var frames = new FramePool(new byte[4 * 2048], frameSize: 2048, frameCount: 4, receiveReserve: 0);
        var start = new Instant(TimeSpan.TicksPerHour);
        Environment = new StackEnvironment(options ?? new TcpStackOptions(), frames, new BlockPool(), Secret, start);
    }

    internal StackEnvironment Environment { get; }

    internal TcpStackCounters Counters => Environment.Counters;

    internal Instant Now => Environment.Now;

    internal void Advance(TimeSpan span) => Environment.Now += span;

    /// <summary>Goes to the next deadline and takes what is due then.</summary>
    internal T TakeNextDue<T>()
        where T : TimerEntry
    {
        while (true)
        {
            Assert.NotEqual(Instant.Never, Environment.Wheel.NextDeadline);
            Environment.Now = Instant.Max(Now, Environment.Wheel.NextDeadline);
            if (Environment.Wheel.TakeExpired(Now) is { } entry)
                return Assert.IsType<T>(entry);
        }
    }

    /// <summary>What was answered since the last call, as the peer sees it.</summary>
    internal List<Packet> TakeReplies()
    {
        var replies = new List<Packet>();
        while (Environment.Replies.Count > 0)
        {
            int start = Environment.Replies.WriteNext(_frame, out _);
            ReadOnlySpan<byte> packet = _frame.AsSpan(start, FramePool.PayloadStart - start);
            Assert.Equal(DropReason.None, PacketParser.Parse(packet, acceptPartialChecksum: false, out Packet reply));
            replies.Add(reply);
        }
        return replies;
    }

    internal Packet TakeReply() => Assert.Single(TakeReplies());

    internal void AssertNoReply() => Assert.Empty(TakeReplies());

    /// <summary>The only reason for which something was dropped, and it was one packet.</summary>
    internal void AssertDropped(DropReason reason) =>
        Assert.All(Enum.GetValues<DropReason>(), other => Assert.Equal(other == reason ? 1 : 0, Counters[other]));

    /// <summary>A segment of the peer's, seen from the stack.</summary>
    internal static Packet Segment(TcpFlags flags, uint seq, uint ack = 0) => new()
    {
        Flow = s_flow,
        Path = SegmentBuilder.Path,
        Flags = flags,
        Seq = new SeqNumber(seq),
        Ack = new SeqNumber(ack),
        Window = 512,
    };

    /// <summary>The 4-tuple of one of the peer's other connections.</summary>
    internal static FlowKey Flow(int i) => s_flow with { RemotePort = (ushort)(10_000 + i) };
}

namespace Xdp.TcpLite.Tests;

public class IsnGeneratorTests
{
    private static readonly byte[] s_secret = [.. Enumerable.Range(0, 32).Select(i => (byte)(i * 7))];
    private static readonly Instant s_now = new(TimeSpan.FromHours(5).Ticks);

    [Fact]
    public void Next_SameFlow_AdvancesByOneEach4Microseconds()
    {
        var isn = new IsnGenerator(s_secret);
        SeqNumber first = isn.Next(SegmentBuilder.FlowV4, s_now);
        Assert.Equal(first, isn.Next(SegmentBuilder.FlowV4, s_now));
        Assert.Equal(1, isn.Next(SegmentBuilder.FlowV4, s_now + TimeSpan.FromMicroseconds(4)) - first);
        Assert.Equal(250_000, isn.Next(SegmentBuilder.FlowV4, s_now + TimeSpan.FromSeconds(1)) - first);
    }

    [Fact]
    public void Next_OtherFlowOrSecret_IsUnrelated()
    {
        var isn = new IsnGenerator(s_secret);
        var seen = new HashSet<uint>();
        for (ushort port = 1; port < 2000; port++)
            seen.Add(isn.Next(SegmentBuilder.FlowV4 with { RemotePort = port }, s_now).Value);
        Assert.Equal(1999, seen.Count);
        var other = new IsnGenerator([.. s_secret.Reverse()]);
        Assert.NotEqual(isn.Next(SegmentBuilder.FlowV4, s_now), other.Next(SegmentBuilder.FlowV4, s_now));
    }

    [Fact]
    public void TimestampOffset_IsPerFlowAndStable()
    {
        var isn = new IsnGenerator(s_secret);
        var same = new IsnGenerator(s_secret);
        Assert.Equal(isn.TimestampOffset(SegmentBuilder.FlowV4), same.TimestampOffset(SegmentBuilder.FlowV4));
        Assert.NotEqual(isn.TimestampOffset(SegmentBuilder.FlowV4), isn.TimestampOffset(SegmentBuilder.FlowV6));
        Assert.NotEqual(isn.TimestampOffset(SegmentBuilder.FlowV4), isn.Next(SegmentBuilder.FlowV4, default).Value);
    }
}

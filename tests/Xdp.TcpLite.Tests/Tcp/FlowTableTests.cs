namespace Xdp.TcpLite.Tests;

public class FlowTableTests
{
    private static readonly byte[] s_secret = [.. Enumerable.Range(0, 32).Select(i => (byte)(i * 13))];

    private static FlowKey Flow(int i) => i % 3 == 0
        ? SegmentBuilder.FlowV6 with { RemotePort = (ushort)i, Remote = new IpAddr(0x20010db8_00000000, (ulong)i) }
        : SegmentBuilder.FlowV4 with
        {
            RemotePort = (ushort)i,
            Remote = IpAddr.FromIPv4(0x0a000000u + (uint)(i >> 16)),
        };

    private sealed class Entry(in FlowKey flow) : FlowEntry(flow);

    [Theory]
    [InlineData(1, 20)]
    [InlineData(2, 400)]
    [InlineData(3, 5000)]
    public void Table_RandomOperations_BehavesAsADictionary(int seed, int keys)
    {
        var random = new Random(seed);
        var table = new FlowTable(s_secret, capacity: 0);
        var model = new Dictionary<FlowKey, FlowEntry>();
        for (int i = 0; i < 60_000; i++)
        {
            FlowKey flow = Flow(random.Next(keys));
            var entry = new Entry(flow);
            switch (random.Next(5))
            {
                case 0 or 1:
                    Assert.Equal(model.TryAdd(flow, entry), table.TryAdd(entry));
                    break;
                case 2 or 3:
                    Assert.Equal(model.Remove(flow), table.Remove(flow));
                    break;
                default:
                    Assert.Equal(model.GetValueOrDefault(flow), table.Find(flow));
                    break;
            }
            Assert.True(model.Count == table.Count);
            if (i % 10_000 == 0)
                AssertSame(model, table, keys);
        }
        AssertSame(model, table, keys);
    }

    private static void AssertSame(Dictionary<FlowKey, FlowEntry> model, FlowTable table, int keys)
    {
        var seen = new HashSet<FlowEntry>();
        foreach (FlowEntry entry in table)
            Assert.True(seen.Add(entry));
        Assert.True(seen.SetEquals(model.Values));
        for (int i = 0; i < keys; i++)
            Assert.Equal(model.GetValueOrDefault(Flow(i)), table.Find(Flow(i)));
    }

    [Fact]
    public void Table_FilledToEveryCountAndEmptied_LosesNothing()
    {
        for (int count = 0; count < 100; count++)
        {
            var table = new FlowTable(s_secret, capacity: 0);
            for (int i = 0; i < count; i++)
                Assert.True(table.TryAdd(new Entry(Flow(i))));
            for (int i = count - 1; i >= 0; i--)
            {
                Assert.True(table.Remove(Flow(i)));
                Assert.Null(table.Find(Flow(i)));
                for (int j = 0; j < i; j++)
                    Assert.NotNull(table.Find(Flow(j)));
            }
            Assert.Equal(0, table.Count);
        }
    }

    [Fact]
    public void Find_KeyThatDiffersInOneField_IsNotFound()
    {
        var table = new FlowTable(s_secret);
        FlowKey flow = SegmentBuilder.FlowV6;
        var entry = new Entry(flow);
        Assert.True(table.TryAdd(entry));
        Assert.Null(table.Find(flow with { LocalPort = 1 }));
        Assert.Null(table.Find(flow with { RemotePort = 1 }));
        Assert.Null(table.Find(flow with { Local = flow.Local with { High = 1 } }));
        Assert.Null(table.Find(flow with { Local = flow.Local with { Low = 9 } }));
        Assert.Null(table.Find(flow with { Remote = flow.Remote with { High = 1 } }));
        Assert.Null(table.Find(flow with { Remote = flow.Remote with { Low = 9 } }));
        Assert.False(table.TryAdd(new Entry(flow)));
        Assert.Same(entry, table.Find(flow));
    }

    [Fact]
    public void Find_DoesNotAllocate()
    {
        var table = new FlowTable(s_secret);
        for (int i = 0; i < 100; i++)
            table.TryAdd(new Entry(Flow(i)));
        FlowEntry? found = null;
        for (int round = 0; round < 2; round++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            for (int i = 0; i < 200; i++)
                found = table.Find(Flow(i));
            if (round == 1)
                Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        }
        Assert.Null(found);
    }
}

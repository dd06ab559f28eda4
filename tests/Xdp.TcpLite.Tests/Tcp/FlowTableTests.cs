namespace Xdp.TcpLite.Tests;

public class FlowTableTests
{
    private static readonly byte[] s_secret = [.. Enumerable.Range(0, 32).Select(i => (byte)(i * 13))];

    private static FlowKey Flow(int i) => i % 3 == 0
        ? SegmentBuilder.FlowV6 with { RemotePort = (ushort)i, Remote = new IpAddr(0x20010db8_00000000, (ulong)i) }
        : SegmentBuilder.FlowV4 with { RemotePort = (ushort)i, Remote = IpAddr.FromIPv4(0x0a000000u + (uint)(i >> 16)) };

    [Theory]
    [InlineData(1, 20)]
    [InlineData(2, 400)]
    [InlineData(3, 5000)]
    public void Table_RandomOperations_BehavesAsADictionary(int seed, int keys)
    {
        var random = new Random(seed);
        var table = new FlowTable<string>(s_secret, capacity: 0);
        var model = new Dictionary<FlowKey, string>();
        for (int i = 0; i < 60_000; i++)
        {
            FlowKey flow = Flow(random.Next(keys));
            string value = $"{i}";
            switch (random.Next(5))
            {
                case 0 or 1:
                    Assert.Equal(model.TryAdd(flow, value), table.TryAdd(flow, value));
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

    private static void AssertSame(Dictionary<FlowKey, string> model, FlowTable<string> table, int keys)
    {
        var seen = new List<string>();
        foreach (string value in table)
            seen.Add(value);
        Assert.Equal(model.Values.Order(), seen.Order());
        for (int i = 0; i < keys; i++)
            Assert.Equal(model.GetValueOrDefault(Flow(i)), table.Find(Flow(i)));
    }

    [Fact]
    public void Table_FilledToEveryCountAndEmptied_LosesNothing()
    {
        for (int count = 0; count < 100; count++)
        {
            var table = new FlowTable<object>(s_secret, capacity: 0);
            for (int i = 0; i < count; i++)
                Assert.True(table.TryAdd(Flow(i), new object()));
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
        var table = new FlowTable<object>(s_secret);
        FlowKey flow = SegmentBuilder.FlowV6;
        Assert.True(table.TryAdd(flow, this));
        Assert.Null(table.Find(flow with { LocalPort = 1 }));
        Assert.Null(table.Find(flow with { RemotePort = 1 }));
        Assert.Null(table.Find(flow with { Local = flow.Local with { High = 1 } }));
        Assert.Null(table.Find(flow with { Local = flow.Local with { Low = 9 } }));
        Assert.Null(table.Find(flow with { Remote = flow.Remote with { High = 1 } }));
        Assert.Null(table.Find(flow with { Remote = flow.Remote with { Low = 9 } }));
        Assert.False(table.TryAdd(flow, new object()));
        Assert.Same(this, table.Find(flow));
    }

    [Fact]
    public void Find_DoesNotAllocate()
    {
        var table = new FlowTable<object>(s_secret);
        for (int i = 0; i < 100; i++)
            table.TryAdd(Flow(i), this);
        object? found = null;
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

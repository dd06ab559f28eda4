namespace Xdp.TcpLite.Tests;

public class OrphanTableTests
{
    private static readonly TcpStackOptions s_options = new() { MaxOrphans = 3, OrphanMemory = 10_000 };

    private readonly OrphanTable _table = new(s_options);

    internal static Orphan NewOrphan() =>
        new(new TimeWait(SegmentBuilder.FlowV4) { Route = new Route(SegmentBuilder.Path) }, received: 0);

    private Orphan Add(long memory, bool isDone = false)
    {
        Orphan orphan = NewOrphan();
        _table.Add(orphan, memory, isDone);
        return orphan;
    }

    [Fact]
    public void Excess_UpToTheLimits_IsNobody()
    {
        Add(9_999);
        Add(1);
        Add(0, isDone: true);
        Assert.Null(_table.Excess);
        Assert.Equal((3, 10_000L), (_table.Count, _table.Memory));
    }

    [Fact]
    public void Excess_TooMuchMemory_IsTheOldestOfTheLargest()
    {
        Add(0, isDone: true);
        Orphan small = Add(100);
        Orphan first = Add(5_000);
        Orphan second = Add(5_001);
        Assert.Same(first, _table.Excess);
        _table.Remove(first);
        Assert.Null(_table.Excess);
        _table.Resize(small, 8_000);
        Assert.Same(second, _table.Excess);
    }

    [Fact]
    public void Excess_TooMany_IsFirstOneThatWaitsForTheFinOnly()
    {
        Orphan first = Add(0);
        Orphan large = Add(9_000);
        Orphan done = Add(50);
        Orphan last = Add(0);
        _table.OnFinAcknowledged(done);
        Assert.Equal(9_000, _table.Memory);
        Assert.Same(done, _table.Excess);
        _table.Remove(done);
        Assert.Null(_table.Excess);
        Add(0);
        Assert.Same(large, _table.Excess);
        _table.Remove(large);
        Add(0);
        Assert.Same(first, _table.Excess);
        _table.Remove(first);
        _table.Remove(last);
        Assert.Equal((2, 0L), (_table.Count, _table.Memory));
    }

    /// <summary>Against a plain list: sums, and that the one to go is of the greatest power of two.</summary>
    [Fact]
    public void Table_RandomOperations_AgreesWithAList()
    {
        var random = new Random(7);
        var model = new List<Orphan>();
        for (int i = 0; i < 20_000; i++)
        {
            switch (random.Next(4))
            {
                case 0:
                    model.Add(random.Next(5) == 0 ? Add(0, isDone: true) : Add(RandomMemory(random)));
                    break;
                case 1 when model.Count > 0:
                    Orphan removed = model[random.Next(model.Count)];
                    _table.Remove(removed);
                    model.Remove(removed);
                    break;
                case 2 when model.Count > 0:
                    _table.Resize(model[random.Next(model.Count)], RandomMemory(random));
                    break;
                case 3 when model.Count > 0:
                    _table.OnFinAcknowledged(model[random.Next(model.Count)]);
                    break;
            }
            Check(model);
            while (_table.Excess is { } victim)
            {
                Assert.True(model.Remove(victim));
                _table.Remove(victim);
                Check(model);
            }
        }
    }

    private static long RandomMemory(Random random) => random.Next(4) == 0 ? 0 : random.NextInt64(8_000);

    private void Check(List<Orphan> model)
    {
        Assert.Equal((model.Count, model.Sum(orphan => orphan.Memory)), (_table.Count, _table.Memory));
        bool tooMuch = _table.Memory > s_options.OrphanMemory;
        Assert.Equal(tooMuch || _table.Count > s_options.MaxOrphans, _table.Excess is not null);
        if (tooMuch)
            Assert.True(2 * (_table.Excess!.Memory + 1) > model.Max(orphan => orphan.Memory));
    }
}

using System.Net;
using Kestrel.Transport.Xdp.Internal.Queues;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Tests.Queues;

public sealed class FlowDirectoryTests
{
    private sealed class Entry(FlowKey flow)
    {
        public FlowKey Flow { get; } = flow;
    }

    private static FlowKey Flow(int number) =>
        new(IpAddr.From(IPAddress.Loopback), IpAddr.FromIPv4((uint)(number >> 10)), 80, (ushort)(number & 1023));

    private readonly FlowDirectory<Entry> _directory = new(static entry => entry.Flow);

    [Fact]
    public void AnyOrderOfCalls_FindsWhatADictionaryHas()
    {
        var random = new Random(7);
        var model = new Dictionary<FlowKey, Entry>();
        var everything = new List<Entry>();
        for (int step = 0; step < 100_000; step++)
        {
            // Grows and shrinks, to nothing at times.
            bool grows = step / 10_000 % 2 == 0;
            if (everything.Count == 0 || random.Next(10) < (grows ? 7 : 3))
            {
                var entry = new Entry(Flow(random.Next(20_000)));
                _directory.Add(entry);
                model[entry.Flow] = entry;
                everything.Add(entry);
            }
            else
            {
                int index = random.Next(everything.Count);
                Entry entry = everything[index];
                everything[index] = everything[^1];
                everything.RemoveAt(everything.Count - 1);
                _directory.Remove(entry);
                // One that was replaced takes nothing with it.
                if (model.GetValueOrDefault(entry.Flow) == entry)
                    model.Remove(entry.Flow);
            }
            FlowKey any = Flow(random.Next(20_000));
            Assert.Same(model.GetValueOrDefault(any), _directory.Find(any));
        }
        Assert.Equal(model.Count, _directory.Count);
        Assert.All(model, pair => Assert.Same(pair.Value, _directory.Find(pair.Key)));
        everything.ForEach(_directory.Remove);
        Assert.Equal(0, _directory.Count);
    }

    [Fact]
    public async Task Find_WhileOthersComeAndGo_FindsWhatStays()
    {
        const int Staying = 500, Passing = 2000;
        Entry[] staying = [.. Enumerable.Range(0, Staying).Select(i => new Entry(Flow(i)))];
        Array.ForEach(staying, _directory.Add);
        using var stop = new CancellationTokenSource();
        Task[] passing = [.. Enumerable.Range(1, 2).Select(part => Task.Run(() =>
        {
            Entry[] entries = [.. Enumerable.Range(part * Passing, Passing).Select(i => new Entry(Flow(i)))];
            while (!stop.IsCancellationRequested)
            {
                Array.ForEach(entries, _directory.Add);
                Array.ForEach(entries, _directory.Remove);
            }
        }))];
        for (int round = 0; round < 500; round++)
            Assert.All(staying, entry => Assert.Same(entry, _directory.Find(entry.Flow)));
        await stop.CancelAsync();
        await Task.WhenAll(passing);
        Assert.Equal(Staying, _directory.Count);
    }

    [Fact]
    public void Entry_CostsAFewWords()
    {
        Entry[] entries = [.. Enumerable.Range(0, 10_000).Select(i => new Entry(Flow(i)))];
        _directory.Remove(entries[0]);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Array.ForEach(entries, _directory.Add);
        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        // With what was allocated and left behind while it grew.
        Assert.InRange(allocated / entries.Length, 8, 48);
    }
}

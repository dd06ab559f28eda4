using Kestrel.Transport.Xdp.Internal.Interfaces;

namespace Kestrel.Transport.Xdp.Tests.Interfaces;

public sealed class LeasesTests : IDisposable
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(30);

    private readonly ManualResetEventSlim _closing = new(), _mayClose = new();
    private readonly Leases<string, object> _leases;
    private int _closed;

    public LeasesTests() => _leases = new Leases<string, object>(_ =>
    {
        _closing.Set();
        _mayClose.Wait();
        Interlocked.Increment(ref _closed);
    });

    public void Dispose()
    {
        _closing.Dispose();
        _mayClose.Dispose();
    }

    [Fact]
    public void LastRelease_Closes()
    {
        _mayClose.Set();
        object first = Lease("a", isNew: true);
        Assert.Same(first, Lease("a", isNew: false));
        _leases.Release("a");
        Assert.Equal(0, _closed);
        _leases.Release("a");
        Assert.Equal(1, _closed);
        Assert.NotSame(first, Lease("a", isNew: true));
    }

    [Fact]
    public async Task Closing_HoldsUpNoOtherKey_AndEndsBeforeTheSameOneIsLeasedAgain()
    {
        Lease("a", isNew: true);
        Task release = Task.Run(() => _leases.Release("a"));
        Assert.True(_closing.Wait(s_limit));
        await Task.Run(() => Lease("b", isNew: true)).WaitAsync(s_limit);

        Task<int> again = Task.Run(() =>
        {
            Lease("a", isNew: true);
            return Volatile.Read(ref _closed);
        });
        _mayClose.Set();
        Assert.Equal(1, await again.WaitAsync(s_limit));
        await release.WaitAsync(s_limit);
    }

    [Fact]
    public void CreationThatFails_LeavesNothing()
    {
        Assert.Throws<OutOfMemoryException>(
            () => _leases.Lease("a", static _ => throw new OutOfMemoryException("no thread"), out _));
        Lease("a", isNew: true);
    }

    private object Lease(string key, bool isNew)
    {
        object item = _leases.Lease(key, static _ => new object(), out bool wasNew);
        Assert.Equal(isNew, wasNew);
        return item;
    }
}

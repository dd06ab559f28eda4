using Xdp.Sockets.Tests.Support;

namespace Xdp.Sockets.Tests.Rings;

public class ConsumerRingTests
{
    [Theory]
    [InlineData(0u)]
    [InlineData(uint.MaxValue)]
    [InlineData(uint.MaxValue - 2)]
    public void Peek_FewerThanWanted_GrantsWhatIsThere(uint start)
    {
        FakeRing<ulong> kernel = new(8, start);
        CompletionRing ring = new(kernel.Memory);
        Assert.Equal(0u, ring.Peek(8, out _));
        for (ulong i = 0; i < 5; i++)
            Assert.True(kernel.TryProduce(10 + i));

        Assert.Equal(5u, ring.Available);
        Assert.Equal(3u, ring.Peek(3, out uint first));
        Assert.Equal(start, first);
        Assert.Equal(2u, ring.Peek(8, out uint second));
        Assert.Equal(unchecked(start + 3), second);
        Assert.Equal(13ul, ring[second]);
        Assert.Equal(14ul, ring[unchecked(second + 1)]);
    }

    [Fact]
    public void Peek_WithoutRelease_GivesTheKernelNoRoom()
    {
        FakeRing<ulong> kernel = new(2);
        CompletionRing ring = new(kernel.Memory);
        Assert.True(kernel.TryProduce(1));
        Assert.True(kernel.TryProduce(2));

        Assert.Equal(2u, ring.Peek(2, out _));
        Assert.False(kernel.TryProduce(3));
        ring.Release(1);
        Assert.True(kernel.TryProduce(3));
        Assert.False(kernel.TryProduce(4));
        Assert.Throws<InvalidOperationException>(() => ring.Release(2));
    }

    [Fact]
    public void Cancel_PeekedEntries_ArePeekedAgain()
    {
        FakeRing<ulong> kernel = new(4);
        CompletionRing ring = new(kernel.Memory);
        for (ulong i = 0; i < 4; i++)
            kernel.TryProduce(i);
        ring.Peek(4, out _);

        ring.Cancel(3);

        Assert.Throws<InvalidOperationException>(() => ring.Cancel(2));
        Assert.Equal(3u, ring.Peek(4, out uint index));
        Assert.Equal(1ul, ring[index]);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(16)]
    [InlineData(128)]
    public void Receive_RandomBatchesAcrossTheWrap_ComeInOrder(int size)
    {
        FakeRing<XdpDescriptor> kernel = new(size, unchecked((uint)-5000));
        RxRing ring = new(kernel.Memory);
        Random random = new(size);
        ulong produced = 0, seen = 0;
        while (seen < 10_000)
        {
            for (int give = random.Next(2 * size + 1); give > 0; give--)
            {
                if (!kernel.TryProduce(new XdpDescriptor { Address = produced }))
                    break;
                produced++;
            }
            uint count = ring.Peek((uint)random.Next(2 * size + 1), out uint index);
            for (uint i = 0; i < count; i++)
                Assert.Equal(seen++, ring[unchecked(index + i)].Address);
            ring.Release(count);
            Assert.Equal(produced - seen, ring.Available);
        }
        Assert.True(kernel.Consumer < 1u << 31, "the index did not wrap");
    }

    [Fact]
    public void Take_MoreThanThereIs_CopiesAndReleases()
    {
        FakeRing<ulong> kernel = new(4, uint.MaxValue - 1);
        CompletionRing ring = new(kernel.Memory);
        for (ulong i = 1; i <= 4; i++)
            kernel.TryProduce(i);
        ulong[] addresses = new ulong[3];

        Assert.Equal(3u, ring.Take(addresses));
        Assert.Equal([1, 2, 3], addresses);
        Assert.Equal(1u, ring.Take(addresses));
        Assert.Equal(4ul, addresses[0]);
        Assert.Equal(kernel.Producer, kernel.Consumer);
    }

    [Fact]
    public void Detach_LateCalls_FindNothing()
    {
        FakeRing<ulong> kernel = new(4);
        CompletionRing ring = new(kernel.Memory);
        kernel.TryProduce(1);
        ring.Peek(1, out _);

        ring.Detach();

        Assert.Equal(0u, ring.Peek(1, out _));
        Assert.Equal(0u, ring.Available);
        ring.Release(0);
        Assert.Equal(0u, kernel.Consumer);
    }
}

using Xdp.Sockets.Tests.Support;

namespace Xdp.Sockets.Tests.Rings;

public class ProducerRingTests
{
    public static TheoryData<uint> Starts => new() { 0u, 1u, uint.MaxValue, uint.MaxValue - 3, uint.MaxValue - 1000 };

    [Theory]
    [MemberData(nameof(Starts))]
    public void Reserve_MoreThanFree_GrantsWhatIsFree(uint start)
    {
        FakeRing<ulong> kernel = new(8, start);
        FillRing ring = new(kernel.Memory);

        Assert.Equal(5u, ring.Reserve(5, out uint first));
        Assert.Equal(start, first);
        Assert.Equal(3u, ring.Reserve(5, out uint second));
        Assert.Equal(unchecked(start + 5), second);
        Assert.Equal(0u, ring.Reserve(1, out _));
        Assert.Equal(0u, ring.Free);
    }

    [Fact]
    public void Reserve_WithoutSubmit_ShowsTheKernelNothing()
    {
        FakeRing<ulong> kernel = new(8);
        FillRing ring = new(kernel.Memory);

        ring.Reserve(4, out _);

        Assert.False(kernel.TryConsume(out _));
        Assert.Equal(0u, ring.Pending);
    }

    [Theory]
    [MemberData(nameof(Starts))]
    public void Reserve_FullRing_GrantsAgainWhatTheKernelConsumed(uint start)
    {
        FakeRing<ulong> kernel = new(4, start);
        FillRing ring = new(kernel.Memory);
        Assert.Equal(4u, ring.Add([1, 2, 3, 4, 5]));
        Assert.Equal(4u, ring.Pending);

        Assert.True(kernel.TryConsume(out ulong first));
        Assert.Equal(1ul, first);

        Assert.Equal(3u, ring.Pending);
        Assert.Equal(1u, ring.Reserve(4, out uint index));
        Assert.Equal(unchecked(start + 4), index);
    }

    [Fact]
    public void Submit_PartOfAReservation_PublishesTheOldest()
    {
        FakeRing<ulong> kernel = new(8);
        FillRing ring = new(kernel.Memory);
        ring.Reserve(3, out uint index);
        for (uint i = 0; i < 3; i++)
            ring[index + i] = 100 + i;

        ring.Submit(2);

        Assert.Equal(2u, kernel.Producer);
        Assert.True(kernel.TryConsume(out ulong entry));
        Assert.Equal(100ul, entry);
        Assert.Throws<InvalidOperationException>(() => ring.Submit(2));
        ring.Submit(1);
        Assert.Equal(3u, kernel.Producer);
    }

    [Fact]
    public void Cancel_ReservedEntries_AreReservedAgain()
    {
        FakeRing<ulong> kernel = new(8);
        FillRing ring = new(kernel.Memory);
        ring.Reserve(8, out _);

        ring.Cancel(6);

        Assert.Throws<InvalidOperationException>(() => ring.Cancel(3));
        Assert.Equal(6u, ring.Reserve(8, out uint index));
        Assert.Equal(2u, index);
    }

    [Fact]
    public void NeedsWakeup_FollowsTheKernelsFlag()
    {
        FakeRing<XdpDescriptor> kernel = new(8);
        TxRing ring = new(kernel.Memory);
        Assert.False(ring.NeedsWakeup);
        kernel.Flags = 1;
        Assert.True(ring.NeedsWakeup);
        kernel.Flags = 2;
        Assert.False(ring.NeedsWakeup);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(64)]
    public void Transmit_RandomBatchesAcrossTheWrap_ArriveInOrder(int size)
    {
        FakeRing<XdpDescriptor> kernel = new(size, unchecked((uint)-5000));
        TxRing ring = new(kernel.Memory);
        Random random = new(size);
        ulong sent = 0, seen = 0;
        while (seen < 10_000)
        {
            uint count = ring.Reserve((uint)random.Next(2 * size + 1), out uint index);
            for (uint i = 0; i < count; i++)
                ring[unchecked(index + i)] = new XdpDescriptor
                {
                    Address = sent,
                    Length = (uint)sent + 7,
                    Options = (uint)~sent++,
                };
            ring.Submit(count);
            Assert.Equal(sent - seen, ring.Pending);
            for (int take = random.Next(2 * size + 1); take > 0; take--, seen++)
            {
                if (!kernel.TryConsume(out XdpDescriptor descriptor))
                    break;
                Assert.Equal(seen, descriptor.Address);
                Assert.Equal((uint)seen + 7, descriptor.Length);
                Assert.Equal((uint)~seen, descriptor.Options);
            }
        }
        Assert.True(kernel.Producer < 1u << 31, "the index did not wrap");
    }

    [Fact]
    public async Task Transmit_KernelOnAnotherThread_SeesWholeEntriesInOrder()
    {
        const ulong Total = 300_000;
        FakeRing<XdpDescriptor> shared = new(256, unchecked((uint)-150_000));
        TxRing ring = new(shared.Memory);
        Task<ulong> kernel = Task.Run(() =>
        {
            ulong seen = 0;
            while (seen < Total)
            {
                if (!shared.TryConsume(out XdpDescriptor descriptor))
                {
                    Thread.Yield();
                    continue;
                }
                if (descriptor.Address != seen || descriptor.Length != (uint)seen || descriptor.Options != (uint)~seen)
                    return seen;
                seen++;
            }
            return seen;
        });
        for (ulong sent = 0; sent < Total && !kernel.IsCompleted;)
        {
            uint count = ring.Reserve((uint)Math.Min(32, Total - sent), out uint index);
            if (count == 0)
                Thread.Yield();
            for (uint i = 0; i < count; i++, sent++)
                ring[unchecked(index + i)] = new XdpDescriptor
                {
                    Address = sent,
                    Length = (uint)sent,
                    Options = (uint)~sent,
                };
            ring.Submit(count);
        }
        Assert.Equal(Total, await kernel);
    }

    [Fact]
    public void Detach_LateCalls_FindNoRoomAndTouchNothing()
    {
        FakeRing<ulong> kernel = new(8);
        FillRing ring = new(kernel.Memory);
        ring.Reserve(1, out _);

        ring.Detach();

        Assert.Equal(0u, ring.Reserve(1, out uint index));
        ring[index] = 1;
        ring.Submit(0);
        Assert.Equal(0u, ring.Free);
        Assert.Equal(0u, ring.Pending);
        Assert.False(ring.NeedsWakeup);
        Assert.Equal(0u, kernel.Producer);
    }

    [Fact]
    public void RingMemory_SizeNotAPowerOfTwo_Throws() =>
        Assert.Throws<ArgumentOutOfRangeException>(() => new RingMemory(0, 0, 0, 0, 6));
}

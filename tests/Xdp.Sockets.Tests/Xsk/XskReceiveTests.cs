using Shared;
using Xdp.Sockets.Tests.Support;

namespace Xdp.Sockets.Tests;

[Collection(NetworkCollection.Name)]
public class XskReceiveTests
{
    private static readonly TimeSpan Long = TimeSpan.FromSeconds(5);

    [SkippableTheory]
    [InlineData(UmemBacking.PinnedArray)]
    [InlineData(UmemBacking.Memfd)]
    public void Rx_FramesFromThePeer_ArriveWholeAndInOrder(UmemBacking backing)
    {
        using VethPair pair = VethPair.Create();
        using Umem umem = Umem.Create(new UmemOptions { FrameCount = 64, Backing = backing });
        using Xsk xsk = pair.Open(umem, XskFixtures.Options(pair.Near), Frames(umem, 64));
        using RedirectProgram program = pair.Run(() => new RedirectProgram(xsk));
        using PacketSocket peer = pair.OpenPeer();
        using EventFd wake = new();

        // Several rounds of the UMEM, every frame going home by way of FILL.
        for (int number = 0; number < 300; number++)
        {
            byte[] sent = PacketSocket.Frame(number, 60 + number * 4);
            peer.Send(sent);
            Assert.Equal(WaitResult.Receive, xsk.Wait(wake, Long));
            Assert.Equal(1u, xsk.Rx.Peek(8, out uint index));
            XdpDescriptor descriptor = xsk.Rx[index];
            xsk.Rx.Release(1);
            Assert.True(umem.Contains(descriptor.Address, descriptor.Length));
            Assert.Equal((ulong)Umem.RxHeadroom, descriptor.Address % (ulong)umem.FrameSize);
            Assert.Equal(sent, umem.GetSpan(descriptor.Address, (int)descriptor.Length));
            Assert.Equal(1u, xsk.Fill.Add([descriptor.Address]));
        }
        Assert.Equal(default, xsk.GetStatistics() with { TxRingEmpty = 0 });
    }

    /// <summary>A packet of 3400 bytes: two frames with multi-buffer, and none without.</summary>
    [SkippableTheory]
    [InlineData(true)]
    [InlineData(false)]
    public void Rx_PacketLargerThanAFrame_ComesInSeveral(bool multiBuffer)
    {
        using VethPair pair = VethPair.Create();
        Require.That(Xsk.KernelHasMultiBuffer, "a kernel with multi-buffer (6.6)");
        pair.SetMtu(3400);
        using Umem umem = Umem.Create(new UmemOptions { FrameCount = 64 });
        using Xsk xsk = pair.Open(umem, XskFixtures.Options(pair.Near, multiBuffer: multiBuffer), Frames(umem, 64));
        using RedirectProgram program = pair.Run(() => new RedirectProgram(xsk));
        using PacketSocket peer = pair.OpenPeer();
        using EventFd wake = new();
        byte[] sent = PacketSocket.Frame(7, 3400);
        peer.Send(sent);
        peer.Send(PacketSocket.Frame(8));

        Assert.Equal(WaitResult.Receive, xsk.Wait(wake, Long));
        SpinWait.SpinUntil(() => xsk.Rx.Available == (multiBuffer ? 3 : 1), Long);
        uint count = xsk.Rx.Peek(8, out uint index);
        if (!multiBuffer)
        {
            Assert.Equal(1u, count);
            Assert.Equal((60u, 0u), (xsk.Rx[index].Length, xsk.Rx[index].Options));
            Assert.Equal(1ul, xsk.GetStatistics().RxDropped);
            return;
        }
        Assert.Equal(3u, count);
        (XdpDescriptor first, XdpDescriptor second, XdpDescriptor next) =
            (xsk.Rx[index], xsk.Rx[index + 1], xsk.Rx[index + 2]);
        Assert.Equal(
            (XdpDescriptor.Continued, 0u, 0u), (first.Options, second.Options, next.Options));
        Assert.Equal((uint)umem.MaxReceiveLength, first.Length);
        Assert.Equal(sent, (byte[])
            [.. umem.GetSpan(first.Address, (int)first.Length), .. umem.GetSpan(second.Address, (int)second.Length)]);
        Assert.Equal(60u, next.Length);
    }

    [SkippableFact]
    public void Statistics_FillRunsEmpty_CountsIt()
    {
        using VethPair pair = VethPair.Create();
        using Umem umem = Umem.Create(new UmemOptions { FrameCount = 64 });
        using Xsk xsk = pair.Open(umem, XskFixtures.Options(pair.Near), Frames(umem, 4));
        using RedirectProgram program = pair.Run(() => new RedirectProgram(xsk));
        using PacketSocket peer = pair.OpenPeer();
        for (int number = 0; number < 10; number++)
            peer.Send(PacketSocket.Frame(number));

        // veth delivers from a softirq, which may still be about to run.
        SpinWait.SpinUntil(() => xsk.GetStatistics().RxFillRingEmpty == 6, Long);

        Assert.Equal(6ul, xsk.GetStatistics().RxFillRingEmpty);
        Assert.Equal(4u, xsk.Rx.Available);
        Assert.Equal(0u, xsk.Fill.Pending);
    }

    [SkippableFact]
    public void Statistics_RxRingFull_CountsIt()
    {
        using VethPair pair = VethPair.Create();
        using Umem umem = Umem.Create(new UmemOptions { FrameCount = 64 });
        using Xsk xsk = pair.Open(umem, XskFixtures.Options(pair.Near, rxRingSize: 8), Frames(umem, 64));
        using RedirectProgram program = pair.Run(() => new RedirectProgram(xsk));
        using PacketSocket peer = pair.OpenPeer();
        for (int number = 0; number < 20; number++)
            peer.Send(PacketSocket.Frame(number));

        SpinWait.SpinUntil(() => xsk.GetStatistics().RxRingFull == 12, Long);

        Assert.Equal(12ul, xsk.GetStatistics().RxRingFull);
        Assert.Equal(8u, xsk.Rx.Peek(64, out uint index));
        for (uint i = 0; i < 8; i++)
            Assert.Equal(PacketSocket.Frame((int)i), umem.GetSpan(xsk.Rx[index + i].Address, 60));
    }

    [SkippableFact]
    public void Fill_EntryOutsideTheUmem_IsSkipped()
    {
        using VethPair pair = VethPair.Create();
        using Umem umem = Umem.Create(new UmemOptions { FrameCount = 64 });
        using Xsk xsk = pair.Open(umem, XskFixtures.Options(pair.Near), (ulong)umem.Size, umem.AddressOf(1));
        using RedirectProgram program = pair.Run(() => new RedirectProgram(xsk));
        using PacketSocket peer = pair.OpenPeer();
        using EventFd wake = new();
        peer.Send(PacketSocket.Frame(5));

        Assert.Equal(WaitResult.Receive, xsk.Wait(wake, Long));

        xsk.Rx.Peek(1, out uint index);
        Assert.Equal(umem.AddressOf(1) + Umem.RxHeadroom, xsk.Rx[index].Address);
        Assert.Equal(0u, xsk.Fill.Pending);
    }

    [SkippableFact]
    public void Wait_NothingHappens_ReturnsAfterTheTime()
    {
        using VethPair pair = VethPair.Create();
        using Umem umem = Umem.Create(new UmemOptions { FrameCount = 64 });
        using Xsk xsk = pair.Open(umem, XskFixtures.Options(pair.Near));
        using EventFd wake = new();
        long start = System.Diagnostics.Stopwatch.GetTimestamp();

        Assert.Equal(WaitResult.None, xsk.Wait(wake, TimeSpan.FromMicroseconds(1500)));

        Assert.True(System.Diagnostics.Stopwatch.GetElapsedTime(start) >= TimeSpan.FromMicroseconds(1500));
        Assert.Equal(WaitResult.None, xsk.Wait(wake, TimeSpan.Zero));
    }

    [SkippableFact]
    public async Task Wait_SignalFromAnotherThread_Wakes()
    {
        using VethPair pair = VethPair.Create();
        using Umem umem = Umem.Create(new UmemOptions { FrameCount = 64 });
        using Xsk xsk = pair.Open(umem, XskFixtures.Options(pair.Near));
        using EventFd wake = new();
        Task<WaitResult> sleeper =
            Task.Factory.StartNew(() => xsk.Wait(wake, Timeout.InfiniteTimeSpan), TaskCreationOptions.LongRunning);

        wake.Signal();

        Assert.Equal(WaitResult.Wake, await sleeper.WaitAsync(Long));
        wake.Signal();
        Assert.Equal(2ul, wake.Drain());
        Assert.Equal(0ul, wake.Drain());
        Assert.Equal(WaitResult.None, xsk.Wait(wake, TimeSpan.Zero));
    }

    [Fact]
    public void Signal_AfterDispose_DoesNothing()
    {
        if (!OperatingSystem.IsLinux())
            return;
        EventFd wake = new();
        wake.Dispose();
        wake.Signal();
    }

    private static ulong[] Frames(Umem umem, int count) => [.. Enumerable.Range(0, count).Select(umem.AddressOf)];
}

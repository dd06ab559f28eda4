using System.Diagnostics;
using Shared;
using Xdp.Sockets.Interop;
using Xdp.Sockets.Tests.Support;

namespace Xdp.Sockets.Tests;

[Collection(NetworkCollection.Name)]
public class XskSetupTests
{
    private static Umem SmallUmem() => Umem.Create(new UmemOptions { FrameCount = 16 });

    [SkippableFact]
    public void Bind_NoSuchQueue_SaysWhichAndWhatToDo()
    {
        using VethPair pair = VethPair.Create();
        using Umem umem = SmallUmem();

        XdpException e = Assert.Throws<XdpException>(() => pair.Open(umem, XskFixtures.Options(pair.Near, queueId: 7)));

        Assert.Equal(ErrnoNames.EINVAL, e.Errno);
        Assert.StartsWith(
            $"bind(ifindex {pair.Near}, queue 7, copy) failed: EINVAL (22). The interface has no queue 7", e.Message);
    }

    [SkippableFact]
    public void Bind_NoSuchInterface_SaysSo()
    {
        using VethPair pair = VethPair.Create();
        using Umem umem = SmallUmem();

        XdpException e = Assert.Throws<XdpException>(() => pair.Open(umem, XskFixtures.Options(12345)));

        Assert.Equal(ErrnoNames.ENODEV, e.Errno);
        Assert.Contains("namespace", e.Hint);
    }

    [SkippableFact]
    public void Bind_ZeroCopyOnVeth_NamesTheOtherModes()
    {
        using VethPair pair = VethPair.Create();
        using Umem umem = SmallUmem();

        XdpException e =
            Assert.Throws<XdpException>(() => pair.Open(umem, XskFixtures.Options(pair.Near, mode: BindMode.ZeroCopy)));

        Assert.Equal(ErrnoNames.EOPNOTSUPP, e.Errno);
        Assert.Contains("Auto or Copy", e.Hint);
    }

    [SkippableFact]
    public void Bind_LinkDown_SucceedsAndWaitsForTheLink()
    {
        using VethPair pair = VethPair.Create();
        using PacketSocket peer = pair.OpenPeer();
        using Umem umem = SmallUmem();
        pair.SetLink("near", "down");

        using Xsk xsk = pair.Open(umem, XskFixtures.Options(pair.Near));
        xsk.Post(1, 1);
        Assert.Equal(KickStatus.LinkDown, xsk.Kick());

        pair.SetLink("near", "up");
        Assert.Equal(KickStatus.Ok, xsk.Kick());
        peer.AssertReceives(1);
    }

    [SkippableFact]
    public void Bind_QueueTaken_TriesAgainThenSaysBusy()
    {
        using VethPair pair = VethPair.Create();
        using Umem first = SmallUmem(), second = SmallUmem();
        using Xsk holder = pair.Open(first, XskFixtures.Options(pair.Near));
        using Xsk late = pair.Run(() => Xsk.Create(second, XskFixtures.Options(pair.Near, bindSeconds: 0.05)));

        long start = Stopwatch.GetTimestamp();
        XdpException e = Assert.Throws<XdpException>(late.Bind);
        Assert.True(Stopwatch.GetElapsedTime(start) >= TimeSpan.FromMilliseconds(50));
        Assert.Equal(ErrnoNames.EBUSY, e.Errno);
        Assert.Contains("Another AF_XDP socket has the queue", e.Hint);
        Assert.False(late.IsBound);
    }

    [SkippableFact]
    public void Bind_QueueJustClosed_Succeeds()
    {
        using VethPair pair = VethPair.Create();
        using PacketSocket peer = pair.OpenPeer();
        for (int round = 0; round < 10; round++)
        {
            using Umem umem = SmallUmem();
            using Xsk xsk = pair.Open(umem, XskFixtures.Options(pair.Near));
            xsk.Post(round, 1);
            Assert.Equal(KickStatus.Ok, xsk.Kick());
            peer.AssertReceives(round);
        }
    }

    [SkippableFact]
    public void Bind_AfterFailure_TheSameSocketWorks()
    {
        using VethPair pair = VethPair.Create();
        using PacketSocket peer = pair.OpenPeer();
        using Umem first = SmallUmem(), second = SmallUmem();
        Xsk holder = pair.Open(first, XskFixtures.Options(pair.Near));
        using Xsk late = pair.Run(() => Xsk.Create(second, XskFixtures.Options(pair.Near, bindSeconds: 0)));
        Assert.Throws<XdpException>(late.Bind);
        holder.Dispose();

        // Longer than the kernel takes to free the queue.
        Assert.True(SpinWait.SpinUntil(() => Record.Exception(late.Bind) is null, TimeSpan.FromSeconds(5)));

        late.Post(4, 1);
        Assert.Equal(KickStatus.Ok, late.Kick());
        peer.AssertReceives(4);
    }

    [SkippableFact]
    public void Bind_HolderKilled_Succeeds()
    {
        using VethPair pair = VethPair.Create();
        using PacketSocket peer = pair.OpenPeer();
        using Umem umem = SmallUmem();
        using (Process holder = StartupHook.StartHolder(pair.Path, pair.Near))
        {
            Assert.Equal("bound", holder.StandardOutput.ReadLine());
            Assert.Equal(ErrnoNames.EBUSY,
                Assert.Throws<XdpException>(
                    () => pair.Open(umem, XskFixtures.Options(pair.Near, bindSeconds: 0))).Errno);
            holder.Kill();
            holder.WaitForExit();
        }

        using Xsk xsk = pair.Open(umem, XskFixtures.Options(pair.Near));
        xsk.Post(2, 1);
        Assert.Equal(KickStatus.Ok, xsk.Kick());
        peer.AssertReceives(2);
    }

    [SkippableFact]
    public void Create_MemlockTooSmall_SaysHowMuchAndHow()
    {
        Require.Root();
        using Umem umem = Umem.Create(new UmemOptions { FrameCount = 1024 });
        ulong[] limit = new ulong[2];
        TestNative.Check(TestNative.getrlimit(TestNative.RLIMIT_MEMLOCK, limit), "getrlimit");
        TestNative.Check(TestNative.setrlimit(TestNative.RLIMIT_MEMLOCK, [64 << 10, limit[1]]), "setrlimit");
        try
        {
            XdpException e = OwnThread.Run(() =>
            {
                TestNative.DropCapability(TestNative.CAP_IPC_LOCK);
                return Assert.Throws<XdpException>(() => Xsk.Create(umem, XskFixtures.Options(1)));
            });
            Assert.Equal(ErrnoNames.ENOBUFS, e.Errno);
            Assert.StartsWith("setsockopt(XDP_UMEM_REG, 1024 frames of 2048 bytes) failed: ENOBUFS (105).", e.Message);
            Assert.Contains("above 2048 KiB", e.Hint);
            Assert.Contains("CAP_IPC_LOCK", e.Hint);
        }
        finally
        {
            TestNative.Check(TestNative.setrlimit(TestNative.RLIMIT_MEMLOCK, limit), "setrlimit");
        }
    }

    [SkippableFact]
    public void Create_WithoutCapability_NamesIt()
    {
        Require.Root();
        using Umem umem = SmallUmem();
        XdpException e = OwnThread.Run(() =>
        {
            TestNative.DropCapability(TestNative.CAP_NET_RAW);
            return Assert.Throws<XdpException>(() => Xsk.Create(umem, XskFixtures.Options(1)));
        });
        Assert.Equal(ErrnoNames.EPERM, e.Errno);
        Assert.Contains("CAP_NET_RAW", e.Hint);
    }

    [Fact]
    public void UmemError_TxMetadataRefused_SaysWhichKernel() =>
        Assert.Contains("6.11", XskSetup.UmemError(16, 2048, txMetadata: true, ErrnoNames.EINVAL).Message);

    [Theory]
    [InlineData(1000, 0, 0)]
    [InlineData(0, 0, 0)]
    [InlineData(64, 32, 0)]
    [InlineData(64, 0, 16)]
    [InlineData(64, 0, 128)]
    public void Create_RingsThatCannotWork_Throws(int tx, int completion, int budget)
    {
        using Umem umem = SmallUmem();
        Assert.Throws<ArgumentException>(() => Xsk.Create(
            umem, XskFixtures.Options(1, txRingSize: tx, completionRingSize: completion, maxTxBudget: budget)));
    }

    [SkippableFact]
    public void TxBudget_Default_IsTheRingWhereTheKernelHasIt()
    {
        using VethPair pair = VethPair.Create();
        using Umem umem = SmallUmem();
        using Xsk xsk = pair.Open(umem, XskFixtures.Options(pair.Near, txRingSize: 512));
        Require.That(Environment.OSVersion.Version >= new Version(6, 17), "Linux 6.17");
        Assert.Equal(512, xsk.TxBudget);
        Assert.Equal(1024u, xsk.Completion.Size);
    }

    [SkippableFact]
    public void Dispose_Rings_ReadAsClosed()
    {
        using VethPair pair = VethPair.Create();
        using Umem umem = SmallUmem();
        Xsk xsk = pair.Open(umem, XskFixtures.Options(pair.Near), umem.AddressOf(0));

        xsk.Dispose();
        xsk.Dispose();

        Assert.True(xsk.Handle.IsClosed);
        Assert.Equal(0u, xsk.Tx.Reserve(1, out _));
        Assert.Equal(0u, xsk.Fill.Reserve(1, out _));
        Assert.Equal(0u, xsk.Rx.Peek(1, out _));
        Assert.Equal(0u, xsk.Completion.Peek(1, out _));
        Assert.Throws<ObjectDisposedException>(() => xsk.Kick());
        Assert.Throws<ObjectDisposedException>(() => xsk.FileDescriptor);
        Assert.Throws<ObjectDisposedException>(() => xsk.GetStatistics());
    }

    [SkippableFact]
    public void Dispose_UmemForgotten_MemoryOutlivesTheKernelsDeferredWork()
    {
        using VethPair pair = VethPair.Create();
        WeakReference array = OpenAndDispose();
        Assert.True(IsAlive(), "the heap had the frames back while the kernel may still write to them");
        Assert.True(SpinWait.SpinUntil(() => !IsAlive(), TimeSpan.FromSeconds(20)), "the frames leak");

        bool IsAlive()
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
            GC.Collect();
            return array.IsAlive;
        }

        [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
        WeakReference OpenAndDispose()
        {
            using Umem umem = SmallUmem();
            using Xsk xsk = pair.Open(umem, XskFixtures.Options(pair.Near));
            return new WeakReference(umem.Array);
        }
    }

    [SkippableFact]
    public void Create_SendBuffer_HoldsWhatTheCompletionRingHolds()
    {
        Require.Root();
        using Umem umem = SmallUmem();
        using Xsk xsk = Xsk.Create(umem, XskFixtures.Options(1, txRingSize: 1024));
        byte[] value = new byte[4];
        int length = value.Length;
        TestNative.Check(
            TestNative.getsockopt(xsk.FileDescriptor, TestNative.SOL_SOCKET, TestNative.SO_SNDBUF, value, ref length),
            "getsockopt");
        Assert.True(BitConverter.ToInt32(value) >= 2048 * 3072);
    }

    [SkippableFact]
    public void Collect_OnlyARingIsHeld_ItsMemoryStays()
    {
        using VethPair pair = VethPair.Create();
        FillRing fill = OpenAndForget();
        for (int i = 0; i < 3; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        Assert.Equal(5u, fill.Add([1, 2, 3, 4, 5]));
        Assert.Equal(5u, fill.Pending);

        [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
        FillRing OpenAndForget() => pair.Open(SmallUmem(), XskFixtures.Options(pair.Near)).Fill;
    }

    [SkippableFact]
    public void Finalize_SocketForgotten_FreesTheQueue()
    {
        using VethPair pair = VethPair.Create();
        Forget();
        GC.Collect();
        GC.WaitForPendingFinalizers();
        using Umem umem = SmallUmem();
        using Xsk xsk = pair.Open(umem, XskFixtures.Options(pair.Near));

        [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
        void Forget() => pair.Open(SmallUmem(), XskFixtures.Options(pair.Near));
    }

    [SkippableFact]
    public void Create_UmemLostAndCollected_MemoryStays()
    {
        using VethPair pair = VethPair.Create();
        using PacketSocket peer = pair.OpenPeer();
        using Xsk xsk = pair.Open(SmallUmem(), XskFixtures.Options(pair.Near));
        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect(2, GCCollectionMode.Aggressive, blocking: true, compacting: true);

        xsk.Post(6, 1);

        Assert.Equal(KickStatus.Ok, xsk.Kick());
        peer.AssertReceives(6);
    }
}

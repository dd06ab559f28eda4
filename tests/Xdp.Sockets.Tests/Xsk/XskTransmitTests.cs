using System.Buffers.Binary;
using Shared;
using Xdp.Sockets.Interop;
using Xdp.Sockets.Tests.Support;

namespace Xdp.Sockets.Tests;

[Collection(NetworkCollection.Name)]
public class XskTransmitTests
{
    [SkippableTheory]
    [InlineData(UmemBacking.PinnedArray, 2048)]
    [InlineData(UmemBacking.PinnedArray, 4096)]
    [InlineData(UmemBacking.Memfd, 2048)]
    public void Kick_OneFrame_ArrivesAndCompletes(UmemBacking backing, int frameSize)
    {
        using VethPair pair = VethPair.Create();
        using Umem umem = Umem.Create(new UmemOptions { FrameCount = 64, FrameSize = frameSize, Backing = backing });
        using Xsk xsk = pair.Open(umem, XskFixtures.Options(pair.Near, mode: BindMode.Auto));
        using PacketSocket peer = pair.OpenPeer();
        Assert.True(xsk.IsBound);
        Assert.False(xsk.IsZeroCopy);
        Assert.True(xsk.Tx.NeedsWakeup);

        xsk.Post(3, 1, length: 1000);
        Assert.Equal(1u, xsk.Tx.Pending);

        Assert.Equal(KickStatus.Ok, xsk.Kick());
        Assert.Equal(0u, xsk.Tx.Pending);
        peer.AssertReceives(3, length: 1000);
        Assert.Equal([umem.AddressOf(3) + 256], xsk.TakeCompletions());
        Assert.Equal(0ul, xsk.GetStatistics().TxInvalidDescriptors);
    }

    [SkippableTheory]
    [InlineData(0, 2048)]
    [InlineData(32, 2048)]
    [InlineData(0, 16)]
    public void Kick_WholeRing_ArrivesInOrderAndCompletesOnce(int budget, int ring)
    {
        using VethPair pair = VethPair.Create();
        using Umem umem = Umem.Create(new UmemOptions { FrameCount = 2048 });
        using Xsk xsk = pair.Open(umem, XskFixtures.Options(pair.Near, txRingSize: ring, maxTxBudget: budget));
        using PacketSocket peer = pair.OpenPeer();

        for (int round = 0, number = 0; round < 3; round++)
        {
            xsk.Post(number, ring);
            Assert.Equal(KickStatus.Ok, xsk.Kick());
            for (int i = 0; i < ring; i++)
                peer.AssertReceives(number + i);
            ulong[] expected =
                [.. Enumerable.Range(number, ring).Select(n => umem.AddressOf(n % umem.FrameCount) + 256).Order()];
            Assert.Equal(expected, xsk.TakeCompletions().Order());
            number += ring;
        }
        Assert.True(peer.IsEmpty);
    }

    [SkippableFact]
    public void Kick_InvalidDescriptorsAmongOthers_SendsTheOthers()
    {
        using VethPair pair = VethPair.Create();
        using Umem umem = Umem.Create(new UmemOptions { FrameCount = 256 });
        using Xsk xsk = pair.Open(umem, XskFixtures.Options(pair.Near));
        using PacketSocket peer = pair.OpenPeer();
        XdpDescriptor[] invalid =
        [
            new() { Address = (ulong)umem.Size, Length = 60 },
            new() { Address = 2048 - 30, Length = 60 },
            new() { Address = 256, Length = 60, Options = 0x80 },
            new() { Address = ulong.MaxValue - 10, Length = 60 },
        ];
        xsk.Post(0, 200);
        // Head, a run in the middle, and the end.
        foreach ((int at, int kind) in new[] { (0, 0), (50, 0), (51, 1), (52, 2), (53, 3), (100, 1), (199, 3) })
            xsk.Tx[(uint)at] = invalid[kind];
        int[] bad = [0, 50, 51, 52, 53, 100, 199];

        Assert.Equal(KickStatus.Ok, xsk.Kick());

        Assert.Equal(0u, xsk.Tx.Pending);
        foreach (int number in Enumerable.Range(0, 200).Except(bad))
            peer.AssertReceives(number);
        Assert.True(peer.IsEmpty);
        Assert.Equal((ulong)bad.Length, xsk.GetStatistics().TxInvalidDescriptors);
        // Some kernels complete the invalid ones too, with the address as it was written.
        ulong[] completions = xsk.TakeCompletions();
        HashSet<ulong> good = [.. Enumerable.Range(0, 200).Except(bad).Select(n => umem.AddressOf(n) + 256)];
        HashSet<ulong> refused = [.. invalid.Select(d => d.Address)];
        Assert.Equal(good.Order(), completions.Where(good.Contains).Order());
        Assert.All(completions.Where(a => !good.Contains(a)), a => Assert.Contains(a, refused));
        Assert.True(completions.Length == good.Count || completions.Length == 200, $"{completions.Length} completions");
    }

    [SkippableFact]
    public void Kick_OnlyInvalidDescriptors_EndsAndTheNextFrameGoesOut()
    {
        using VethPair pair = VethPair.Create();
        using Umem umem = Umem.Create(new UmemOptions { FrameCount = 64 });
        using Xsk xsk = pair.Open(umem, XskFixtures.Options(pair.Near));
        using PacketSocket peer = pair.OpenPeer();
        xsk.Tx.Reserve(40, out uint index);
        for (uint i = 0; i < 40; i++)
            xsk.Tx[index + i] = new XdpDescriptor { Address = ulong.MaxValue, Length = 60 };
        xsk.Tx.Submit(40);

        Assert.Equal(KickStatus.Ok, xsk.Kick());
        xsk.Post(1, 1);
        Assert.Equal(KickStatus.Ok, xsk.Kick());

        peer.AssertReceives(1);
        Assert.Equal(40ul, xsk.GetStatistics().TxInvalidDescriptors);
    }

    [SkippableFact]
    public void Kick_CompletionRingFull_SaysAgainUntilItIsRead()
    {
        using VethPair pair = VethPair.Create();
        using Umem umem = Umem.Create(new UmemOptions { FrameCount = 64 });
        using Xsk xsk = pair.Open(umem, XskFixtures.Options(pair.Near, txRingSize: 32, completionRingSize: 32));
        using PacketSocket peer = pair.OpenPeer();
        xsk.Post(0, 32);
        Assert.Equal(KickStatus.Ok, xsk.Kick());
        xsk.Post(32, 8);

        Assert.Equal(KickStatus.Again, xsk.Kick());
        Assert.Equal(ErrnoNames.EAGAIN, xsk.LastKickErrno);
        Assert.Equal(8u, xsk.Tx.Pending);

        Assert.Equal(32, xsk.TakeCompletions().Length);
        Assert.Equal(KickStatus.Ok, xsk.Kick());
        Assert.Equal(8, xsk.TakeCompletions().Length);
        for (int number = 0; number < 40; number++)
            peer.AssertReceives(number);
    }

    [SkippableFact]
    public void Kick_LinkDownThenUp_KeepsTheFramesAndTheBinding()
    {
        using VethPair pair = VethPair.Create();
        using Umem umem = Umem.Create(new UmemOptions { FrameCount = 64 });
        using Xsk xsk = pair.Open(umem, XskFixtures.Options(pair.Near));
        using PacketSocket peer = pair.OpenPeer();
        pair.SetLink("near", "down");
        xsk.Post(0, 3);

        Assert.Equal(KickStatus.LinkDown, xsk.Kick());
        Assert.Equal(3u, xsk.Tx.Pending);

        pair.SetLink("near", "up");
        Assert.Equal(KickStatus.Ok, xsk.Kick());
        Assert.Equal(0u, xsk.Tx.Pending);
        Assert.Equal(3, xsk.TakeCompletions().Length);
    }

    [SkippableFact]
    public void Kick_DeviceDeleted_SaysGone()
    {
        using VethPair pair = VethPair.Create();
        using Umem umem = Umem.Create(new UmemOptions { FrameCount = 64 });
        using Xsk xsk = pair.Open(umem, XskFixtures.Options(pair.Near));
        pair.DeleteLink();
        xsk.Post(0, 1);

        Assert.Equal(KickStatus.DeviceGone, xsk.Kick());
    }

    [SkippableFact]
    public void Kick_ChecksumRequested_PeerSeesItDone()
    {
        using VethPair pair = VethPair.Create();
        Require.That(Umem.KernelHasTxMetadata, "a kernel with TX metadata (6.11)");
        using Umem umem =
            Umem.Create(new UmemOptions { FrameCount = 64, TxMetadata = true, SoftwareTxChecksum = true });
        using Xsk xsk = pair.Open(umem, XskFixtures.Options(pair.Near));
        using PacketSocket peer = pair.OpenPeer();
        const int Start = 14, Offset = 16, Length = 61;
        Span<byte> frame = umem.GetSpan(256, Length);
        PacketSocket.Write(frame, 77);
        BinaryPrimitives.WriteUInt16BigEndian(frame[(Start + Offset)..], 0x1234);
        ushort expected = Checksum(frame[Start..]);
        TxMetadata.RequestChecksum(umem.GetSpan(256 - TxMetadata.Size, TxMetadata.Size), Start, Offset);
        xsk.Tx.Reserve(1, out uint index);
        xsk.Tx[index] = new XdpDescriptor { Address = 256, Length = Length, Options = XdpDescriptor.HasTxMetadata };
        xsk.Tx.Submit(1);

        Assert.Equal(KickStatus.Ok, xsk.Kick());

        byte[] seen = peer.Receive()!;
        Assert.Equal(expected, BinaryPrimitives.ReadUInt16BigEndian(seen.AsSpan(Start + Offset)));
    }

    [SkippableFact]
    public void Kick_WrongTxMetadata_IsStuckUntilPutRight()
    {
        using VethPair pair = VethPair.Create();
        Require.That(Umem.KernelHasTxMetadata, "a kernel with TX metadata (6.11)");
        using Umem umem = Umem.Create(new UmemOptions { FrameCount = 64, TxMetadata = true });
        using Xsk xsk = pair.Open(umem, XskFixtures.Options(pair.Near));
        using PacketSocket peer = pair.OpenPeer();
        PacketSocket.Write(umem.GetSpan(256, 60), 8);
        umem.GetSpan(256 - TxMetadata.Size, TxMetadata.Size).Fill(0xff);
        xsk.Tx.Reserve(1, out uint index);
        xsk.Tx[index] = new XdpDescriptor { Address = 256, Length = 60, Options = XdpDescriptor.HasTxMetadata };
        xsk.Tx.Submit(1);

        Assert.Equal(KickStatus.Stuck, xsk.Kick());
        Assert.Equal(KickStatus.Stuck, xsk.Kick());
        Assert.Equal(ErrnoNames.EINVAL, xsk.LastKickErrno);
        Assert.True(peer.IsEmpty);

        umem.GetSpan(256 - TxMetadata.Size, TxMetadata.Size).Clear();
        Assert.Equal(KickStatus.Ok, xsk.Kick());
        peer.AssertReceives(8);
    }

    [SkippableFact]
    public void Kick_SteadyState_AllocatesNothing()
    {
        using VethPair pair = VethPair.Create();
        using Umem umem = Umem.Create(new UmemOptions { FrameCount = 64 });
        using Xsk xsk = pair.Open(umem, XskFixtures.Options(pair.Near));
        using EventFd wake = new();
        ulong[] completions = new ulong[64];
        long allocated = 0;
        for (int round = 0; round < 200; round++)
        {
            if (round == 100)
                allocated = GC.GetAllocatedBytesForCurrentThread();
            uint count = xsk.Tx.Reserve(8, out uint index);
            for (uint i = 0; i < count; i++)
                xsk.Tx[unchecked(index + i)] = new XdpDescriptor { Address = i * 2048, Length = 60 };
            xsk.Tx.Submit(count);
            xsk.Kick();
            xsk.Completion.Take(completions);
            xsk.Rx.Release(xsk.Rx.Peek(8, out _));
            wake.Signal();
            xsk.Wait(wake, TimeSpan.FromSeconds(1));
            wake.Drain();
        }
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - allocated);
    }

    private static ushort Checksum(ReadOnlySpan<byte> bytes)
    {
        uint sum = 0;
        for (int i = 0; i < bytes.Length; i++)
            sum += (uint)bytes[i] << (i % 2 == 0 ? 8 : 0);
        while (sum > 0xffff)
            sum = (sum & 0xffff) + (sum >> 16);
        return (ushort)~sum;
    }
}

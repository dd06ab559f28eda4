using System.Runtime.InteropServices;
using Shared;
using Xdp.Sockets.Tests.Support;

namespace Xdp.Sockets.Tests;

public class UmemTests
{
    [Theory]
    [InlineData(1, 2048)]
    [InlineData(3, 2048)]
    [InlineData(1000, 4096)]
    public void Create_PinnedArray_StartsOnAPage(int frames, int frameSize)
    {
        using Umem umem = Umem.Create(new UmemOptions { FrameCount = frames, FrameSize = frameSize });

        Assert.NotNull(umem.Array);
        Assert.Null(umem.MemoryFile);
        Assert.Equal(
            0, Marshal.UnsafeAddrOfPinnedArrayElement(umem.Array, umem.ArrayOffset) % Environment.SystemPageSize);
        Assert.Equal(frames * frameSize, umem.Size);
        Assert.Equal(umem.Size, umem.Memory.Length);
        // Pages that hold frames hold nothing but this array.
        int pages =
            (umem.Size + Environment.SystemPageSize - 1) / Environment.SystemPageSize * Environment.SystemPageSize;
        Assert.True(umem.ArrayOffset + pages <= umem.Array.Length);
    }

    [Fact]
    public void Memory_PinnedArray_IsTheArray()
    {
        using Umem umem = Umem.Create(new UmemOptions { FrameCount = 4 });
        Assert.True(MemoryMarshal.TryGetArray<byte>(umem.GetMemory(2048 + 5, 10), out ArraySegment<byte> segment));
        Assert.Same(umem.Array, segment.Array);
        Assert.Equal(umem.ArrayOffset + 2053, segment.Offset);
        umem.GetSpan(2053, 1)[0] = 7;
        Assert.Equal(7, umem.Array![umem.ArrayOffset + 2053]);
        Assert.Equal(7, umem.Memory.Span[2053]);
    }

    [SkippableFact]
    public void Memory_Memfd_OutlivesDispose()
    {
        Require.Linux();
        Umem umem = Umem.Create(new UmemOptions { FrameCount = 8, Backing = UmemBacking.Memfd });
        Memory<byte> memory = umem.Memory;
        umem.GetSpan(4096, 1)[0] = 9;
        Assert.Null(umem.Array);
        Assert.False(umem.MemoryFile!.IsClosed);

        umem.Dispose();
        umem = null!;
        GC.Collect();
        GC.WaitForPendingFinalizers();

        Assert.Equal(9, memory.Span[4096]);
    }

    [SkippableFact]
    public void Create_HugePages_WorksOrSaysHowManyAreMissing()
    {
        Require.Linux();
        UmemOptions options = new() { FrameCount = 16, Backing = UmemBacking.Memfd, HugePages = true };
        bool reserved = File.ReadLines("/proc/meminfo")
            .Any(l => l.StartsWith("HugePages_Free:", StringComparison.Ordinal)
                && !l.EndsWith(" 0", StringComparison.Ordinal));
        if (reserved)
        {
            using Umem umem = Umem.Create(options);
            Assert.Equal(16 * 2048, umem.Memory.Length);
            return;
        }
        XdpException e = Assert.Throws<XdpException>(() => Umem.Create(options));
        Assert.Equal(Interop.ErrnoNames.ENOMEM, e.Errno);
        Assert.Contains("vm.nr_hugepages: 1 more of", e.Hint);
    }

    [Theory]
    [InlineData(4 * 2048, 1)]
    [InlineData(4 * 2048 - 1, 2)]
    [InlineData(0, -1)]
    [InlineData(-1, 0)]
    [InlineData(-1, 2)]
    public void GetSpan_OutsideTheUmem_Throws(long address, int length)
    {
        using Umem umem = Umem.Create(new UmemOptions { FrameCount = 4 });
        Assert.Throws<ArgumentOutOfRangeException>(() => umem.GetSpan((ulong)address, length));
        Assert.Throws<ArgumentOutOfRangeException>(() => umem.GetMemory((ulong)address, length));
    }

    [Fact]
    public void Contains_KnowsFramesAndEnds()
    {
        using Umem umem = Umem.Create(new UmemOptions { FrameCount = 4 });
        Assert.True(umem.Contains(0, 2048));
        Assert.True(umem.Contains(3 * 2048 + 256, 1792));
        Assert.False(umem.Contains(256, 1793));
        Assert.False(umem.Contains(4 * 2048, 0));
        Assert.False(umem.Contains(ulong.MaxValue, 1));
        Assert.False(umem.Contains(0, uint.MaxValue));
        Assert.Equal(3, umem.FrameOf(3 * 2048 + 256));
        Assert.Equal(6144ul, umem.AddressOf(3));
        Assert.Throws<ArgumentOutOfRangeException>(() => umem.AddressOf(4));
        Assert.Throws<ArgumentOutOfRangeException>(() => umem.AddressOf(-1));
    }

    [Theory]
    [InlineData(16, 1024, false, UmemBacking.PinnedArray, false)]
    [InlineData(16, 3000, false, UmemBacking.PinnedArray, false)]
    [InlineData(0, 2048, false, UmemBacking.PinnedArray, false)]
    [InlineData(1 << 20, 2048, false, UmemBacking.PinnedArray, false)]
    [InlineData(16, 2048, true, UmemBacking.PinnedArray, false)]
    [InlineData(16, 2048, false, UmemBacking.PinnedArray, true)]
    public void Create_OptionsThatCannotWork_Throws(
        int frames, int frameSize, bool huge, UmemBacking backing, bool softwareChecksum) =>
        Assert.Throws<ArgumentException>(() => Umem.Create(new UmemOptions
        {
            FrameCount = frames,
            FrameSize = frameSize,
            HugePages = huge,
            Backing = backing,
            SoftwareTxChecksum = softwareChecksum,
        }));
}

using System.Buffers;
using System.Globalization;
using Microsoft.Win32.SafeHandles;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets;

/// <summary>A shared mapping of a memfd, unmapped by the last reference's finalizer.</summary>
internal sealed unsafe class MemfdMemory : MemoryManager<byte>
{
    private readonly MappingHandle _mapping;
    private readonly int _length;

    private MemfdMemory(SafeFileHandle file, MappingHandle mapping, int length)
    {
        File = file;
        _mapping = mapping;
        _length = length;
    }

    internal SafeFileHandle File { get; }

    internal byte* Address => _mapping.Address;

    internal static MemfdMemory Create(int length, bool hugePages)
    {
        long page = hugePages ? HugePageSize() : Environment.SystemPageSize;
        int fd = XskNative.memfd_create("xdp-umem", XskNative.MFD_CLOEXEC | (hugePages ? XskNative.MFD_HUGETLB : 0));
        if (fd < 0)
            throw new XdpException($"memfd_create(xdp-umem{(hugePages ? ", MFD_HUGETLB" : "")})", XskNative.Errno);
        SafeFileHandle file = XskNative.Own(fd);
        try
        {
            long bytes = (length + page - 1) & -page;
            if (XskNative.ftruncate(file, bytes) < 0)
                throw new XdpException($"ftruncate(memfd, {bytes})", XskNative.Errno);
            void* address = XskNative.mmap(null, (nuint)bytes, XskNative.PROT_READ | XskNative.PROT_WRITE,
                XskNative.MAP_SHARED | XskNative.MAP_POPULATE, file, 0);
            if ((nint)address == -1)
            {
                throw new XdpException($"mmap(memfd, {bytes} bytes{(hugePages ? ", huge pages" : "")})", XskNative.Errno, hugePages
                    ? $"Set huge pages aside (vm.nr_hugepages: {bytes / page} more of {page / 1024} KiB) or turn HugePages off."
                    : null);
            }
            return new MemfdMemory(file, new MappingHandle(address, (nuint)bytes), length);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    public override Span<byte> GetSpan() => new(Address, _length);

    public override MemoryHandle Pin(int elementIndex = 0)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan((uint)elementIndex, (uint)_length, nameof(elementIndex));
        return new MemoryHandle(Address + elementIndex, pinnable: this);
    }

    public override void Unpin()
    {
    }

    // The mapping outlives explicit disposal: it goes with its last reference.
    protected override void Dispose(bool disposing)
    {
    }

    // "Hugepagesize:       2048 kB"; 512 MiB where pages are 64 KiB.
    private static long HugePageSize()
    {
        const string Label = "Hugepagesize:";
        string? line = System.IO.File.ReadLines("/proc/meminfo").FirstOrDefault(static l => l.StartsWith(Label, StringComparison.Ordinal));
        return line is null ? 2 << 20 : long.Parse(line.AsSpan(Label.Length).Trim().TrimEnd(" kB"), CultureInfo.InvariantCulture) * 1024;
    }
}

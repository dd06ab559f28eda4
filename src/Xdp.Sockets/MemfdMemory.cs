using System.Buffers;
using System.Globalization;
using Microsoft.Win32.SafeHandles;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets;

/// <summary>A shared mapping of a memfd. It is unmapped by a finalizer once nothing refers to it any more.</summary>
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
                int errno = XskNative.Errno;
                if (!hugePages)
                    throw new XdpException($"mmap(memfd, {bytes} bytes)", errno);
                throw new XdpException($"mmap(memfd, {bytes} bytes, huge pages)", errno,
                    $"Set huge pages aside (vm.nr_hugepages: {bytes / page} more of {page / 1024} KiB) "
                    + "or turn HugePages off.");
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

    // Disposal does not unmap: the mapping lives until nothing refers to it.
    protected override void Dispose(bool disposing)
    {
    }

    // The line reads "Hugepagesize:       2048 kB". It is 512 MiB where pages are 64 KiB.
    private static long HugePageSize()
    {
        const string Label = "Hugepagesize:";
        string? line = System.IO.File.ReadLines("/proc/meminfo")
            .FirstOrDefault(static l => l.StartsWith(Label, StringComparison.Ordinal));
        if (line is null)
            return 2 << 20;
        return long.Parse(line.AsSpan(Label.Length).Trim().TrimEnd(" kB"), CultureInfo.InvariantCulture) * 1024;
    }
}

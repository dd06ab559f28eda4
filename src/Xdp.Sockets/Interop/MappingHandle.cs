using Microsoft.Win32.SafeHandles;

namespace Xdp.Sockets.Interop;

/// <summary>Owns one memory mapping.</summary>
internal sealed unsafe class MappingHandle : SafeHandleZeroOrMinusOneIsInvalid
{
    private readonly nuint _length;

    internal MappingHandle(void* address, nuint length)
        : base(ownsHandle: true)
    {
        _length = length;
        SetHandle((nint)address);
    }

    internal byte* Address => (byte*)handle;

    protected override bool ReleaseHandle() => XskNative.munmap((void*)handle, _length) == 0;
}

using System.Runtime.InteropServices;

namespace Xdp.Sockets;

/// <summary>
/// What the rings of a closed socket point at, so that a late call finds a ring with no room and no entries in place of a
/// segmentation fault. It does not make racing with Dispose right.
/// </summary>
internal static unsafe class ClosedRing
{
    private static readonly byte* Block = (byte*)NativeMemory.AllocZeroed(192);

    /// <summary>Never written.</summary>
    internal static uint* Zero => (uint*)Block;

    /// <summary>Written, never read.</summary>
    internal static uint* Written => (uint*)(Block + 64);

    /// <summary>Room for one entry.</summary>
    internal static void* Entry => Block + 128;
}

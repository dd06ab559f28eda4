using System.Runtime.InteropServices;

namespace Xdp.Sockets;

/// <summary>
/// The memory that the rings of a closed socket point at. A late call then finds a ring without room or entries, rather
/// than a segmentation fault. This does not make it right to race with Dispose.
/// </summary>
internal static unsafe class ClosedRing
{
    private static readonly byte* Block = (byte*)NativeMemory.AllocZeroed(192);

    /// <summary>Is never written.</summary>
    internal static uint* Zero => (uint*)Block;

    /// <summary>Is written, but never read.</summary>
    internal static uint* Written => (uint*)(Block + 64);

    /// <summary>Room for one entry.</summary>
    internal static void* Entry => Block + 128;
}

using System.Diagnostics.CodeAnalysis;

namespace Xdp.Sockets;

internal static class ThrowHelper
{
    [DoesNotReturn]
    internal static void MoreThanReserved() =>
        throw new InvalidOperationException("More entries than are reserved and not yet submitted.");

    [DoesNotReturn]
    internal static void MoreThanPeeked() =>
        throw new InvalidOperationException("More entries than are peeked and not yet released.");

    [DoesNotReturn]
    internal static void OutsideUmem(ulong address, uint length, long size) =>
        throw new ArgumentOutOfRangeException(nameof(address), address,
            $"{length} bytes at UMEM address 0x{address:x} do not lie in a UMEM of {size} bytes.");
}

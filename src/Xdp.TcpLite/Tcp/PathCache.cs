namespace Xdp.TcpLite;

/// <summary>
/// One object for each way that packets come, where that is the way back: the connections of a server that stands
/// behind a router share one. Only the last few are remembered. A way that was forgotten gets a new object, which costs
/// nothing but memory.
/// </summary>
internal sealed class PathCache
{
    private const int SlotBits = 8;

    private readonly Route?[] _slots = new Route?[1 << SlotBits];

    internal Route Share(in LinkPath path)
    {
        ref Route? slot = ref _slots[SlotOf(path)];
        if (slot is null || slot.Value != path)
            slot = new Route(path);
        return slot;
    }

    /// <summary>Fibonacci hashing of what differs from peer to peer.</summary>
    private static int SlotOf(in LinkPath path)
    {
        ulong differs = path.RemoteMac ^ (ulong)path.OuterTag << 48 ^ (ulong)path.InnerTag << 32;
        return (int)(differs * 0x9e37_79b9_7f4a_7c15 >> (64 - SlotBits));
    }
}

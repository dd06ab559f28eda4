namespace Xdp.TcpLite;

/// <summary>A way to a peer, for all connections that take it.</summary>
internal sealed class SharedPath(in LinkPath path)
{
    internal readonly LinkPath Value = path;
}

/// <summary>
/// One object for each way to a peer: the connections of a server that stands behind a router share one. Only the last
/// few are remembered. A way that was forgotten gets a new object, which costs nothing but memory.
/// </summary>
internal sealed class PathCache
{
    private const int SlotBits = 8;

    private readonly SharedPath?[] _slots = new SharedPath?[1 << SlotBits];

    internal SharedPath Share(in LinkPath path)
    {
        ref SharedPath? slot = ref _slots[SlotOf(path)];
        if (slot is null || slot.Value != path)
            slot = new SharedPath(path);
        return slot;
    }

    /// <summary>Fibonacci hashing of what differs from peer to peer.</summary>
    private static int SlotOf(in LinkPath path)
    {
        ulong differs = path.RemoteMac ^ (ulong)path.OuterTag << 48 ^ (ulong)path.InnerTag << 32;
        return (int)(differs * 0x9e37_79b9_7f4a_7c15 >> (64 - SlotBits));
    }
}

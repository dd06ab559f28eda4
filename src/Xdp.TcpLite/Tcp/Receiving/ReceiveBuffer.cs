namespace Xdp.TcpLite;

/// <summary>
/// How large the receive window may be. The size follows what the host releases within a round trip, as Linux's follows
/// what is copied to the application (tcp_rcv_space_adjust). A host that has room for what comes, whether or not its
/// application has looked at it, releases all that the peer delivers. So the window never limits such a host.
/// </summary>
internal struct ReceiveBuffer
{
    private int _releasedSinceGrowth;

    /// <summary>
    /// The lower half of the ticks, which may have wrapped after seven minutes of silence. The buffer then grows a
    /// round trip later.
    /// </summary>
    private uint _growthFrom;

    internal ReceiveBuffer(int size, Instant now)
    {
        Size = size;
        _growthFrom = (uint)now.Ticks;
    }

    internal int Size { get; private set; }

    /// <summary>In-order bytes that the host has not released yet.</summary>
    internal int Unreleased { get; private set; }

    /// <summary>Bytes that it has room for.</summary>
    internal readonly long Room => (long)Size - Unreleased;

    internal void OnReceived(int bytes) => Unreleased += bytes;

    internal void OnReleased(long bytes)
    {
        Unreleased -= (int)bytes;
        _releasedSinceGrowth = (int)Math.Min(_releasedSinceGrowth + bytes, int.MaxValue);
    }

    /// <summary>Nobody reads any more.</summary>
    internal void OnDiscarded() => Unreleased = 0;

    /// <summary>The buffer is no larger than this from here on.</summary>
    internal void Limit(long most) => Size = (int)Math.Min(Size, most);

    /// <summary>
    /// Once in each round trip, grows the buffer to four times what was released in it, at most to its double.
    /// </summary>
    internal void Grow(TimeSpan roundTrip, int max, Instant now)
    {
        if ((uint)now.Ticks - _growthFrom < roundTrip.Ticks)
            return;
        long wanted = 4L * _releasedSinceGrowth;
        if (wanted > Size)
            Size = (int)Math.Min(Math.Min(wanted, 2L * Size), max);
        _releasedSinceGrowth = 0;
        _growthFrom = (uint)now.Ticks;
    }
}

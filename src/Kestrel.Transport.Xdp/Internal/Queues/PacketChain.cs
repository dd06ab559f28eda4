using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Queues;

/// <summary>
/// Puts together packets that came in several frames. Owns the frames of the one that is not complete yet: a turn may
/// end in the middle of it. The turn's.
/// </summary>
internal sealed class PacketChain
{
    /// <summary>
    /// More than the largest IP packet takes, which fills 37. A driver in zero-copy mode need not fill all of them.
    /// With fewer, the largest packets could be lost there; what takes more cannot be parsed.
    /// </summary>
    internal const int MostFrames = 64;

    private BlockQueue _frames;
    private int _count;
    private bool _isDropped;

    /// <summary>The next frame belongs to a packet that has begun.</summary>
    internal bool IsOpen { get; private set; }

    /// <summary>
    /// Takes the next frame, whole packets or not. True when it ends a packet that has not been dropped, whose frames
    /// are the caller's then. All or nothing: a packet with an empty part, or with too many, is dropped, and its frames
    /// go home.
    /// </summary>
    /// <param name="frame">In state <see cref="FrameState.Rx"/>.</param>
    /// <param name="start">Where its part of the packet begins.</param>
    /// <param name="length">Bytes of that part.</param>
    /// <param name="continues">The packet goes on in the next frame.</param>
    /// <param name="counters">Of the queue. They tell of each packet that ends.</param>
    /// <param name="packet">The packet.</param>
    internal bool Add(
        Block frame, int start, int length, bool continues, QueueCounters counters, out BlockQueue packet)
    {
        packet = default;
        IsOpen = continues;
        (frame.Start, frame.Length) = (start, length);
        _frames.Enqueue(frame);
        _isDropped |= length == 0 || ++_count > MostFrames;
        if (_isDropped)
            _frames.ReturnAll();
        if (continues)
            return false;
        bool isWhole = !_isDropped;
        if (isWhole)
            counters.Chained++;
        else
            counters.ChainedDropped++;
        packet = _frames;
        (_frames, _count, _isDropped) = (default, 0, false);
        return isWhole;
    }

    /// <summary>The queue ends: nobody will send the rest.</summary>
    internal void Clear()
    {
        _frames.ReturnAll();
        (_count, _isDropped, IsOpen) = (0, false, false);
    }
}

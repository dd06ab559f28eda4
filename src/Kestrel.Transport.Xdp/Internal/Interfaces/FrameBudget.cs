using Kestrel.Transport.Xdp.Internal.Options;
using Kestrel.Transport.Xdp.Internal.Queues;

namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>
/// The frames of all queues of the process, held against <see cref="XdpTransportOptions.MemoryBudget"/>. Any thread.
/// </summary>
internal sealed class FrameBudget
{
    private long _used;

    internal long Used => Volatile.Read(ref _used);

    /// <summary>
    /// Frames for one of <paramref name="queues"/> queues that share what is left: as wanted, or fewer. None when too
    /// few are left to be useful.
    /// </summary>
    internal int Take(int wanted, int queues, long budget)
    {
        long used = Volatile.Read(ref _used);
        while (true)
        {
            long share = Math.Max(0, budget - used) / QueueSettings.FrameSize / queues;
            int frames = (int)Math.Min(wanted, share);
            if (frames < XdpOptionsValidator.SmallestFrameCount)
                return 0;
            long seen = Interlocked.CompareExchange(ref _used, used + (long)frames * QueueSettings.FrameSize, used);
            if (seen == used)
                return frames;
            used = seen;
        }
    }

    internal void Return(int frames) => Interlocked.Add(ref _used, -(long)frames * QueueSettings.FrameSize);
}

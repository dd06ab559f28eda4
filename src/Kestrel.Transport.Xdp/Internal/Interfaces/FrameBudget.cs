using Kestrel.Transport.Xdp.Internal.Options;
using Kestrel.Transport.Xdp.Internal.Queues;

namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>
/// The frames of all queues of the process, held against <see cref="XdpTransportOptions.MemoryBudget"/> and against the
/// memory-lock limit. Any thread.
/// </summary>
/// <param name="memoryLock">Tells the memory-lock limit in bytes; null: there is none.</param>
internal sealed class FrameBudget(Func<long?>? memoryLock = null)
{
    // Pages are pinned, not frames.
    private static readonly int s_framesPerPage = Math.Max(1, Environment.SystemPageSize / QueueSettings.FrameSize);

    private long _used;

    internal long Used => Volatile.Read(ref _used);

    /// <summary>The memory-lock limit in bytes; null: there is none.</summary>
    internal long? MemoryLock => memoryLock?.Invoke();

    /// <summary>
    /// Frames for one of <paramref name="queues"/> queues that share what is left: as wanted, or fewer. None when too
    /// few are left to be useful.
    /// </summary>
    internal int Take(int wanted, int queues, long budget)
    {
        long most = Math.Min(budget, MemoryLock ?? budget);
        long used = Volatile.Read(ref _used);
        while (true)
        {
            long share = Math.Max(0, most - used) / QueueSettings.FrameSize / queues;
            int frames = (int)Math.Min(wanted, share - share % s_framesPerPage);
            if (frames < XdpOptionsValidator.SmallestFrameCount)
                return 0;
            long seen = Interlocked.CompareExchange(ref _used, used + (long)frames * QueueSettings.FrameSize, used);
            if (seen == used)
                return frames;
            used = seen;
        }
    }

    /// <summary>Why <see cref="Take"/> gave none.</summary>
    internal string WhyNone(long budget)
    {
        long used = Used;
        return MemoryLock is { } limit && limit < budget
            ? $"the memory-lock limit ({limit >> 10} KiB, {used >> 10} in use) leaves no frames for it: raise it "
                + "(ulimit -l, LimitMEMLOCK= of systemd, --ulimit memlock= of a container), or grant CAP_IPC_LOCK"
            : $"MemoryBudget ({budget >> 20} MiB, {used >> 20} in use) leaves no frames for it";
    }

    internal void Return(int frames) => Interlocked.Add(ref _used, -(long)frames * QueueSettings.FrameSize);
}

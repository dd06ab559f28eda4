using Xdp.Sockets.Interop;

namespace Xdp.Sockets;

/// <summary>
/// What a worker may ask of the thread it runs on. The system may refuse: the methods then return false.
/// </summary>
public static unsafe class CurrentThread
{
    /// <summary>Keeps the thread on one CPU.</summary>
    public static bool TrySetAffinity(int cpu)
    {
        const int Cpus = 1024;
        if (!OperatingSystem.IsLinux() || (uint)cpu >= Cpus)
            return false;
        ulong* mask = stackalloc ulong[Cpus / 64];
        new Span<ulong>(mask, Cpus / 64).Clear();
        mask[cpu / 64] = 1UL << (cpu % 64);
        return XskNative.sched_setaffinity(0, Cpus / 8, mask) == 0;
    }

    /// <summary>
    /// How late the kernel may end this thread's timed waits, so as to wake several threads at once. The default of 50
    /// µs shows in an <see cref="Xsk.Wait"/> with a shorter time-out.
    /// </summary>
    public static bool TrySetTimerSlack(TimeSpan slack)
    {
        // The kernel takes 0 for "the default".
        long nanoseconds = Math.Max(1, (long)slack.TotalNanoseconds);
        return OperatingSystem.IsLinux()
            && XskNative.prctl(XskNative.PR_SET_TIMERSLACK, (nuint)nanoseconds, 0, 0, 0) == 0;
    }
}

using System.Diagnostics;

namespace HelloWeb;

/// <summary>Requests that take their time, to see what they do to others beside them.</summary>
internal static class Neighbours
{
    /// <summary>GET /delay/…: answers after so many milliseconds, in which it holds no thread.</summary>
    public static async Task<string> Delay(int milliseconds, CancellationToken aborted)
    {
        await Task.Delay(milliseconds, aborted);
        return "done";
    }

    /// <summary>GET /spin/…: answers after so many milliseconds of processor time.</summary>
    public static string Spin(int milliseconds)
    {
        Burn(milliseconds);
        return "done";
    }

    /// <summary>POST /pool/…: gives the thread pool so many tasks of a millisecond each, and answers at once.</summary>
    public static string FillPool(int tasks)
    {
        for (int i = 0; i < tasks; i++)
            ThreadPool.UnsafeQueueUserWorkItem(static _ => Burn(1), null);
        return "queued";
    }

    private static void Burn(int milliseconds)
    {
        long start = Stopwatch.GetTimestamp();
        while (Stopwatch.GetElapsedTime(start).TotalMilliseconds < milliseconds)
            Thread.SpinWait(100);
    }
}

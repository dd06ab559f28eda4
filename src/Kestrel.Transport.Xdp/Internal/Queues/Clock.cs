using System.Diagnostics;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Queues;

/// <summary>The monotonic clock as the stack wants it.</summary>
internal static class Clock
{
    // A billion on Linux.
    private static readonly long StopwatchPerInstant = Stopwatch.Frequency / TimeSpan.TicksPerSecond;

    internal static Instant Now => new(Stopwatch.GetTimestamp() / StopwatchPerInstant);
}

using Kestrel.Transport.Xdp.Internal.Logging;
using Kestrel.Transport.Xdp.Internal.Queues;
using Microsoft.Extensions.Logging;

namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>
/// Counts turns that do not end, each once, and tells of them as often as is good for the log: with inline scheduling
/// it is peers that cause them. Owns which queues' turns have been counted, and when to tell. Under the engine's lock.
/// </summary>
internal sealed class StallWatch(string interfaceName, bool inline, ILogger logger)
{
    /// <summary>A blocked turn stops the queue's acknowledgements; peers retransmit after 200 ms and more.</summary>
    internal static readonly TimeSpan Threshold = TimeSpan.FromMilliseconds(500);

    private readonly HashSet<int> _reported = [];
    private readonly WarningPause _pause = new();

    /// <param name="queue">Its number.</param>
    /// <param name="turn">How long the turn that is under way has lasted; zero when there is none.</param>
    /// <param name="counters">The queue's.</param>
    /// <param name="now">In milliseconds.</param>
    internal void Check(int queue, TimeSpan turn, QueueCounters counters, long now)
    {
        if (turn < Threshold)
        {
            _reported.Remove(queue);
        }
        else if (_reported.Add(queue))
        {
            Interlocked.Increment(ref counters.StalledTurns);
            if (_pause.MayTell(now, out string notTold))
                TransportLog.TurnStalled(
                    logger, interfaceName, queue, (long)turn.TotalMilliseconds, Cause, notTold);
        }
    }

    private string Cause => inline
        ? "A handler that blocks does that, as UnsafePreferInlineScheduling is on."
        : "No handler runs there, so the process or its thread did not get to run: it was paused, or cores are short.";

    /// <summary>The queue is closed.</summary>
    internal void Forget(int queue) => _reported.Remove(queue);
}

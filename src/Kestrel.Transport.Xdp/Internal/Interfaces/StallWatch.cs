using Kestrel.Transport.Xdp.Internal.Logging;
using Kestrel.Transport.Xdp.Internal.Queues;
using Microsoft.Extensions.Logging;

namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>
/// Tells of turns that do not end, each once. Owns which queues have been told of. Under the engine's lock.
/// </summary>
internal sealed class StallWatch(string interfaceName, ILogger logger)
{
    /// <summary>A blocked turn stops the queue's acknowledgements; peers retransmit after 200 ms and more.</summary>
    internal static readonly TimeSpan Threshold = TimeSpan.FromMilliseconds(500);

    private readonly HashSet<int> _reported = [];

    /// <param name="queue">Its number.</param>
    /// <param name="turn">How long the turn that is under way has lasted; zero when there is none.</param>
    /// <param name="counters">The queue's.</param>
    internal void Check(int queue, TimeSpan turn, QueueCounters counters)
    {
        if (turn < Threshold)
        {
            _reported.Remove(queue);
        }
        else if (_reported.Add(queue))
        {
            Interlocked.Increment(ref counters.StalledTurns);
            TransportLog.TurnStalled(logger, interfaceName, queue, (long)turn.TotalMilliseconds);
        }
    }

    /// <summary>The queue is closed.</summary>
    internal void Forget(int queue) => _reported.Remove(queue);
}

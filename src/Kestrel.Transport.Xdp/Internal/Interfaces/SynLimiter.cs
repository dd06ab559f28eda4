using Kestrel.Transport.Xdp.Internal.Logging;
using Kestrel.Transport.Xdp.Internal.Steering;
using Microsoft.Extensions.Logging;

namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>
/// Limits the SYNs of queues under pressure. A queue whose stack answers with SYN cookies is flooded, or has more
/// clients than its backlog. Its SYNs are then limited in the program, where dropping one is nearly free, until no
/// cookie has been sent for a while. A client whose SYN is dropped tries again.
/// <para>
/// Owns, for each queue, the pressure it was seen under and whether it is limited; and when to tell of it. Under the
/// engine's lock.
/// </para>
/// </summary>
internal sealed class SynLimiter(string interfaceName, ILogger logger)
{
    /// <summary>
    /// SYNs a second that a queue under pressure answers: a twentieth of a core, at two to three microseconds each.
    /// More, and a flood takes from those who are connected. Less, and a client among it needs more of its retries.
    /// </summary>
    internal const long PerSecond = 20_000;

    /// <summary>What arrives at that rate between two turns of a worker that has to wait for its core.</summary>
    internal const long Burst = 1_000;

    /// <summary>In milliseconds, after the last cookie that was seen.</summary>
    internal const long PressureLasts = 2_000;

    private readonly Dictionary<int, Pressure> _pressures = [];
    private readonly WarningPause _pause = new();

    private sealed class Pressure
    {
        internal long CookiesSeen;
        internal long Until = long.MinValue;
        internal bool IsLimited;
    }

    /// <param name="queue">Its number.</param>
    /// <param name="cookiesSent">How many SYN cookies its stack has ever sent.</param>
    /// <param name="maps">Of the program.</param>
    /// <param name="now">In milliseconds.</param>
    internal void Check(int queue, long cookiesSent, ISteeringMaps maps, long now)
    {
        if (!_pressures.TryGetValue(queue, out Pressure? pressure))
            _pressures[queue] = pressure = new Pressure();
        if (cookiesSent != pressure.CookiesSeen)
        {
            pressure.CookiesSeen = cookiesSent;
            pressure.Until = now + PressureLasts;
        }
        bool limit = now < pressure.Until;
        if (limit == pressure.IsLimited)
            return;
        maps.SetSynRate(queue, limit ? PerSecond : 0, Burst);
        pressure.IsLimited = limit;
        if (limit && _pause.MayTell(now, out string notTold))
            TransportLog.SynsLimited(logger, interfaceName, queue, PerSecond, notTold);
    }

    /// <summary>The queue is closed; one that is opened in its place begins without a limit.</summary>
    /// <param name="queue">Its number.</param>
    /// <param name="maps">Of the program; null when its maps are to go as well.</param>
    internal void Forget(int queue, ISteeringMaps? maps)
    {
        // What the map has refused is tried again by Check.
        if (_pressures.TryGetValue(queue, out Pressure? pressure) && pressure.IsLimited)
            maps?.SetSynRate(queue, 0, Burst);
        _pressures.Remove(queue);
    }
}

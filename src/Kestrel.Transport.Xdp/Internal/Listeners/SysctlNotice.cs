using Kestrel.Transport.Xdp.Internal.Logging;
using Microsoft.Extensions.Logging;

namespace Kestrel.Transport.Xdp.Internal.Listeners;

/// <summary>
/// Tells once of the administrator's settings that connections over AF_XDP do not obey, when there may be such
/// connections. Owns what has been told. Any thread.
/// </summary>
internal sealed class SysctlNotice(ILogger logger)
{
    private readonly Lock _lock = new();
    private readonly HashSet<string> _known = [];
    private readonly List<string> _untold = [];

    /// <summary>An interface is to be served where these are set.</summary>
    internal void Add(IEnumerable<string> settings)
    {
        lock (_lock)
            _untold.AddRange(settings.Where(_known.Add));
    }

    /// <summary>Something is served.</summary>
    internal void Tell()
    {
        string settings;
        lock (_lock)
        {
            if (_untold.Count == 0)
                return;
            settings = string.Join(", ", _untold);
            _untold.Clear();
        }
        TransportLog.SysctlsNotObeyed(logger, settings);
    }
}

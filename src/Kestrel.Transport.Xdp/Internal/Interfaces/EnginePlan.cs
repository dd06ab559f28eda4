using System.Net;
using Kestrel.Transport.Xdp.Internal.Logging;
using Kestrel.Transport.Xdp.Internal.Options;
using Microsoft.Extensions.Logging;

namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>The engines that are to serve one endpoint, and what came of it.</summary>
/// <param name="engines">None for an endpoint that stays with sockets.</param>
/// <param name="reason">Why there are none.</param>
/// <param name="namedInterfaces">The user has named them.</param>
/// <param name="required">Is it an error if they do not serve?</param>
/// <param name="sources">Who may connect, over AF_XDP and over sockets.</param>
internal sealed class EnginePlan(
    IReadOnlyList<XdpEngine> engines, string? reason, bool namedInterfaces, bool required, SourceFilter sources)
{
    private IReadOnlyList<XdpEngine> _engines = engines;
    private string? _reason = reason;

    // One entry for each engine; null is success. Those that are forbidden are not even tried.
    private string?[] _failures = new string?[engines.Count];
    private string?[] _forbidden = new string?[engines.Count];

    private bool _leftToSockets;

    /// <summary>For an endpoint that is none for AF_XDP. It is bound so that its companion obeys the lists.</summary>
    internal static EnginePlan LeaveToSockets(string reason, SourceFilter sources) =>
        new([], reason, namedInterfaces: false, required: false, sources) { _leftToSockets = true };

    /// <summary>At least one interface serves the endpoint.</summary>
    internal bool IsServed => _engines.Count > 0 && _failures.Any(f => f is null);

    /// <summary>Those that serve the endpoint, now or once they can.</summary>
    internal IReadOnlyList<XdpEngine> Engines => [.. _engines.Where((_, i) => _forbidden[i] is null)];

    /// <summary>The endpoint stays with sockets. A reason that was there before is the one that is told.</summary>
    internal void Refuse(string reason)
    {
        _engines = [];
        _failures = _forbidden = [];
        _reason ??= reason;
    }

    /// <summary>
    /// The listening socket takes connections from this interface only, and so does AF_XDP.
    /// </summary>
    internal void Keep(string device)
    {
        _engines = [.. _engines.Where(engine => engine.DeviceName == device)];
        _failures = new string?[_engines.Count];
        _forbidden = new string?[_engines.Count];
        if (_engines.Count == 0)
            Refuse($"its listening socket is bound to {device} (SO_BINDTODEVICE), which AF_XDP is not to serve");
    }

    /// <summary>
    /// Interfaces that the user has not named do not serve a port that the administrator has rules for: sockets obey
    /// them.
    /// </summary>
    internal void ObeyPolicy(int port, PolicyWatch policy)
    {
        if (namedInterfaces || _engines.Count == 0 || policy.TryRead() is not { } now)
            return;
        for (int i = 0; i < _engines.Count; i++)
        {
            string name = _engines[i].DeviceName;
            if (now.PassedBy(port, name) is { Count: > 0 } rules)
            {
                _forbidden[i] = $"on {name}, AF_XDP would pass by {string.Join(", ", rules)}; naming the interface "
                    + "(XdpTransportOptions.Interfaces) overrides this";
            }
        }
    }

    internal void Prepare()
    {
        for (int i = 0; i < _engines.Count; i++)
            _failures[i] = _forbidden[i] ?? _engines[i].Prepare();
    }

    internal void Activate(EndpointBinding binding)
    {
        for (int i = 0; i < _engines.Count; i++)
            _failures[i] = _forbidden[i] ?? _engines[i].Activate(binding);
    }

    internal void Drain(EndpointBinding binding)
    {
        foreach (XdpEngine engine in Engines)
            engine.Drain(binding);
    }

    /// <exception cref="XdpUnavailableException">
    /// An interface that was named, or all of those that were chosen, cannot serve, and must.
    /// </exception>
    internal void ThrowIfRequired(IPEndPoint endpoint)
    {
        if (required && (!IsServed || (namedInterfaces && _failures.Any(f => f is not null))))
        {
            throw new XdpUnavailableException(
                $"{endpoint} cannot be served over AF_XDP, which is required (XdpTransportOptions.Required): "
                + $"{Reason}.");
        }
    }

    internal void Log(ILogger logger, IPEndPoint endpoint)
    {
        if (!IsServed)
        {
            if (_leftToSockets)
                TransportLog.FilteredBySockets(logger, endpoint, Reason, Sources);
            else
                TransportLog.FallBack(logger, endpoint, Reason, Sources);
            return;
        }
        for (int i = 0; i < _engines.Count; i++)
        {
            if (_failures[i] is { } failure)
                TransportLog.PartialFallBack(
                    logger, endpoint, _engines[i].InterfaceName, failure.TrimEnd('.'), Sources);
            else
                TransportLog.Serving(logger, endpoint, _engines[i].InterfaceName, _engines[i].Modes, Sources);
        }
    }

    // Whoever relies on the lists learns that they are in force.
    private string Sources => sources.Current.Describe();

    private string Reason => (_reason ?? string.Join("; ", Failures())).TrimEnd('.');

    private IEnumerable<string> Failures()
    {
        foreach ((XdpEngine engine, string? failure) in _engines.Zip(_failures))
        {
            if (failure is not null)
            {
                bool named = failure.Contains(engine.InterfaceName, StringComparison.Ordinal);
                yield return named ? failure : $"{engine.InterfaceName}: {failure}";
            }
        }
    }
}

using System.Net;
using Kestrel.Transport.Xdp.Internal.Logging;
using Microsoft.Extensions.Logging;

namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>The engines that are to serve one endpoint, and what came of it.</summary>
internal sealed class EnginePlan(
    IReadOnlyList<XdpEngine> engines, string? reason, bool namedInterfaces, bool required, bool filtersSources)
{
    // One entry for each engine; null is success.
    private readonly string?[] _failures = new string?[engines.Count];

    /// <summary>At least one interface serves the endpoint.</summary>
    internal bool IsServed => engines.Count > 0 && _failures.Any(f => f is null);

    internal void Prepare()
    {
        for (int i = 0; i < engines.Count; i++)
            _failures[i] = engines[i].Prepare();
    }

    internal void Activate(EndpointBinding binding)
    {
        for (int i = 0; i < engines.Count; i++)
            _failures[i] = engines[i].Activate(binding);
    }

    internal void Drain(EndpointBinding binding)
    {
        foreach (XdpEngine engine in engines)
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
            TransportLog.FallBack(logger, endpoint, Reason + Unfiltered);
            return;
        }
        for (int i = 0; i < engines.Count; i++)
        {
            if (_failures[i] is { } failure)
                TransportLog.PartialFallBack(
                    logger, endpoint, engines[i].InterfaceName, failure.TrimEnd('.') + Unfiltered);
            else
                TransportLog.Serving(logger, endpoint, engines[i].InterfaceName, engines[i].Modes);
        }
    }

    // Whoever relies on the lists must learn that they are not in force.
    private string Unfiltered =>
        filtersSources ? ". AllowedSources and DeniedSources do not apply to what sockets serve" : "";

    private string Reason => (reason ?? string.Join("; ", Failures())).TrimEnd('.');

    private IEnumerable<string> Failures()
    {
        foreach ((XdpEngine engine, string? failure) in engines.Zip(_failures))
        {
            if (failure is not null)
            {
                bool named = failure.Contains(engine.InterfaceName, StringComparison.Ordinal);
                yield return named ? failure : $"{engine.InterfaceName}: {failure}";
            }
        }
    }
}
